// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"whonix-networking/pkg/fsx"
)

// unitDirs in the order in which a file masks one of the same name, see
// systemd.unit(5).
func unitDirs() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"}
}

// unitFinding reads the links that enable a unit, and asks nobody.
func (i *inspector) unitFinding(s setting) finding {
	for _, dir := range unitDirs()[:2] {
		if target, err := os.Readlink(i.root.Path(dir + "/" + s.name)); err == nil && target == os.DevNull {
			return found(s, s.wanted, "masked", dir+"/"+s.name)
		}
	}
	for _, dir := range unitDirs() {
		for _, kind := range []string{"wants", "requires"} {
			links, _ := filepath.Glob(i.root.Path(dir + "/*." + kind + "/" + s.name))
			if len(links) > 0 {
				return found(s, s.wanted, "enabled", i.root.Logical(links[0]))
			}
		}
	}
	for _, dir := range unitDirs() {
		if i.root.Exists(dir + "/" + s.name) {
			return found(s, s.wanted, "disabled", "")
		}
	}
	return found(s, s.wanted, "not installed", "")
}

// systemdFinding looks up FILE/SECTION/KEY: FILE a configuration of systemd's own,
// or a unit; in either case with its drop-ins, the last of which counts.
func (i *inspector) systemdFinding(s setting) finding {
	parts := strings.SplitN(s.name, "/", 3)
	file, section, key := parts[0], parts[1], parts[2]
	var files []string
	if path.Ext(file) == ".conf" {
		var dirs []string
		for _, d := range []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"} {
			dirs = append(dirs, d+"/"+file+".d")
		}
		for _, main := range []string{"/etc/systemd/" + file, "/usr/lib/systemd/" + file} {
			if i.root.Exists(main) {
				files = append(files, main)
				break
			}
		}
		files = append(files, confFilesMasked(i.root, dirs)...)
	} else {
		var dirs []string
		for _, d := range unitDirs() {
			dirs = append(dirs, d+"/"+file+".d")
			if len(files) == 0 && i.root.Exists(d+"/"+file) {
				files = append(files, d+"/"+file)
			}
		}
		files = append(files, confFilesMasked(i.root, dirs)...)
	}
	v := sourced{"missing", ""}
	for _, f := range files {
		if one, ok := iniValue(i.root, f, section, key); ok {
			v = one
		}
		if key == "Environment" && v.text == s.wanted { // later lines add to it
			break
		}
	}
	return found(s, s.wanted, v.text, v.source)
}

// iniValue is the last value of a key of a file in systemd.syntax(7); "empty" if
// it is set to nothing.
func iniValue(root fsx.Root, file, section, key string) (v sourced, ok bool) {
	data, err := root.ReadFile(file, fileMax)
	if err != nil {
		return v, false
	}
	n, in := 0, ""
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			in = strings.Trim(line, "[]")
		case in == section:
			name, text, _ := strings.Cut(line, "=")
			if strings.TrimSpace(name) != key {
				continue
			}
			if text = strings.TrimSpace(text); text == "" {
				text = "empty"
			}
			v, ok = sourced{text, fmt.Sprintf("%s:%d", file, n)}, true
		}
	}
	return v, ok
}
