// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"whonix-networking/pkg/fsx"
)

// moduleConfig is what modprobe.d(5) and the kernel say of modules.
type moduleConfig struct {
	install   map[string]sourced // the first line of a module counts
	blacklist map[string]sourced
	options   map[string][]sourced
	loaded    map[string]bool
}

// sourced is a value, and FILE:LINE.
type sourced struct{ text, source string }

// module is a module's name with underscores, as the kernel has it.
func module(name string) string { return strings.ReplaceAll(name, "-", "_") }

func readModuleConfig(root fsx.Root) moduleConfig {
	c := moduleConfig{install: map[string]sourced{}, blacklist: map[string]sourced{}, options: map[string][]sourced{}, loaded: map[string]bool{}}
	dirs := []string{"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d"}
	for _, f := range confFilesMasked(root, dirs) {
		data, err := root.ReadFile(f, fileMax)
		if err != nil {
			continue
		}
		n := 0
		for line := range strings.Lines(string(data)) {
			n++
			c.add(strings.Fields(line), fmt.Sprintf("%s:%d", f, n))
		}
	}
	data, _ := root.ReadFile("/proc/modules", fileMax)
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, " ")
		c.loaded[name] = true
	}
	return c
}

func (c moduleConfig) add(words []string, source string) {
	if len(words) < 2 {
		return
	}
	name := module(words[1])
	v := sourced{strings.Join(words[2:], " "), source}
	switch words[0] {
	case "install":
		if _, ok := c.install[name]; !ok {
			c.install[name] = v
		}
	case "blacklist":
		c.blacklist[name] = v
	case "options":
		c.options[name] = append(c.options[name], v)
	}
}

// blocks reports whether an install command loads nothing.
func blocks(command string) bool {
	word, _, _ := strings.Cut(command, " ")
	return word == "/bin/false" || word == "/usr/bin/false" || strings.HasPrefix(word, "/usr/bin/disabled-") && strings.HasSuffix(word, "-by-security-misc")
}

func (i *inspector) moduleFinding(s setting) finding {
	name := module(s.name)
	block, blocked := i.modules.install[name]
	black, blacklisted := i.modules.blacklist[name]
	switch {
	case i.modules.loaded[name]:
		return found(s, s.wanted, "loaded", "")
	case blocked && blocks(block.text):
		if class := disabledClass(block.text); class != "" && allowed(i.root, class) {
			return found(s, s.wanted, "allowed", enableDir+"/"+class)
		}
		f := found(s, s.wanted, "blocked", block.source)
		f.state = stateOK // more than blacklisted
		return f
	case blacklisted:
		return found(s, s.wanted, "blacklisted", black.source)
	case blocked:
		return found(s, s.wanted, block.text, block.source)
	}
	return found(s, s.wanted, "may load", "")
}

func (i *inspector) optionFinding(s setting) finding {
	for _, v := range slices.Backward(i.modules.options[module(s.name)]) {
		if slices.Contains(strings.Fields(v.text), s.wanted) {
			return found(s, s.wanted, s.wanted, v.source)
		}
	}
	return found(s, s.wanted, "missing", "")
}

func (i *inspector) loadedFinding(s setting) finding {
	name := module(s.name)
	if i.modules.loaded[name] {
		return found(s, s.wanted, "loaded", "")
	}
	release, _ := i.root.ReadFile("/proc/sys/kernel/osrelease", fileMax)
	builtin, err := os.ReadFile(i.root.Path("/lib/modules/" + strings.TrimSpace(string(release)) + "/modules.builtin"))
	if err == nil && strings.Contains(string(builtin), "/"+name+".ko\n") {
		f := found(s, s.wanted, "part of the kernel", "")
		f.state = stateOK
		return f
	}
	if !i.root.Exists("/proc/modules") {
		return absent(s, s.wanted, "no modules")
	}
	return found(s, s.wanted, "not loaded", "")
}
