// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"whonix-networking/pkg/fsx"
)

// sysctlDirs in the order in which a file masks one of the same name, see
// sysctl.d(5).
func sysctlDirs() []string {
	return []string{"/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"}
}

// assignment is a line of sysctl.d(5).
type assignment struct {
	key    []string // parts of the name
	value  string
	unset  bool // a lone -NAME: globs leave it alone
	source string
}

// sysctlFiles are all assignments, in the order in which they are applied.
type sysctlFiles []assignment

// confFilesMasked lists the files of several directories by name, each from the
// first directory that has it.
func confFilesMasked(root fsx.Root, dirs []string) []string {
	paths := map[string]string{}
	var names []string
	for _, dir := range dirs {
		files, _ := root.ConfFiles(dir, ".conf")
		for _, f := range files {
			if name := path.Base(f); paths[name] == "" {
				paths[name] = f
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	out := make([]string, len(names))
	for n, name := range names {
		out[n] = paths[name]
	}
	return out
}

func readSysctlFiles(root fsx.Root) sysctlFiles {
	var out sysctlFiles
	for _, f := range confFilesMasked(root, sysctlDirs()) {
		data, err := root.ReadFile(f, fileMax)
		if err != nil { // a mask, or not ours to read
			continue
		}
		n := 0
		for line := range strings.Lines(string(data)) {
			n++
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' || line[0] == ';' {
				continue
			}
			key, value, assigned := strings.Cut(line, "=")
			key, minus := strings.CutPrefix(strings.TrimSpace(key), "-")
			if !assigned && !minus {
				continue
			}
			out = append(out, assignment{sysctlParts(strings.TrimSpace(key)), strings.TrimSpace(value), !assigned, fmt.Sprintf("%s:%d", f, n)})
		}
	}
	return out
}

// sysctlParts splits a name: by dots, in which slashes stand for dots, or, if the
// first separator is a slash, by slashes.
func sysctlParts(key string) []string {
	if n := strings.IndexAny(key, "./"); n >= 0 && key[n] == '/' {
		return strings.Split(key, "/")
	}
	parts := strings.Split(key, ".")
	for n := range parts {
		parts[n] = strings.ReplaceAll(parts[n], "/", ".")
	}
	return parts
}

// source is where a key gets its value: the last line that names it, or else the
// last glob that matches it.
func (files sysctlFiles) source(key []string) string {
	exact, glob := "", ""
	for _, a := range files {
		if slices.Equal(a.key, key) {
			exact = a.source
			if a.unset {
				exact = "-"
			}
			continue
		}
		if ok, err := path.Match(strings.Join(a.key, "/"), strings.Join(key, "/")); ok && err == nil && !a.unset {
			glob = a.source
		}
	}
	switch {
	case exact == "-":
		return ""
	case exact != "":
		return exact
	}
	return glob
}

// sysctlFinding asks the kernel. A key for every interface is in force only if it
// is for all.
func (i *inspector) sysctlFinding(s setting) finding {
	wanted, ok := s.wantedOn(thisArch)
	if !ok {
		return absent(s, "-", "other architecture")
	}
	parts := sysctlParts(s.name)
	matches, _ := filepath.Glob(i.root.Path("/proc/sys/" + strings.Join(parts, "/")))
	if len(matches) == 0 {
		return absent(s, wanted, "no such key")
	}
	var f finding
	for n, m := range matches {
		data, err := os.ReadFile(m)
		if err != nil { // some are for root only
			return absent(s, wanted, "not readable")
		}
		actual := strings.Join(strings.Fields(string(data)), " ")
		key := strings.Split(strings.TrimPrefix(i.root.Logical(m), "/proc/sys/"), "/")
		one := found(s, wanted, actual, i.sysctl.source(key))
		if one.state == stateDiffers {
			if len(parts) != len(key) || !slices.Equal(parts, key) {
				one.actual = fmt.Sprintf("%s (%s)", actual, key[len(key)-2])
			}
			return one
		}
		if n == 0 {
			f = one
		}
	}
	return f
}

// cmdlineFinding looks for the word; of several with one name the last counts, as
// for the kernel.
func (i *inspector) cmdlineFinding(s setting) finding {
	actual := "missing"
	for _, word := range i.cmdline {
		name, value, assigned := strings.Cut(word, "=")
		// A hyphen and an underscore are the same for the kernel.
		if strings.ReplaceAll(name, "-", "_") != strings.ReplaceAll(s.name, "-", "_") {
			continue
		}
		actual = "present"
		if assigned {
			actual = value
		}
	}
	return found(s, s.wanted, actual, "")
}
