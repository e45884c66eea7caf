// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"fmt"
	"slices"
	"strings"
)

// profile is what a file of pam-configs makes of the stacks of PAM.
type profile struct {
	lines map[string][]string // by common-NAME, each with single blanks
}

// readProfile reads a profile of pam-auth-update(8). Its keys end at a blank or at
// a line that begins a word; what is indented belongs to the key before.
func readProfile(text string) profile {
	p := profile{lines: map[string][]string{}}
	stack := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if stack != "" {
				p.lines[stack] = append(p.lines[stack], strings.Join(strings.Fields(line), " "))
			}
			continue
		}
		key, _, _ := strings.Cut(line, ":")
		stack = ""
		switch key {
		case "Auth", "Account", "Session", "Password":
			stack = "common-" + strings.ToLower(key)
		}
	}
	return p
}

// pamFinding reports whether every line of a profile stands in the stacks, in
// order.
func (i *inspector) pamFinding(s setting) finding {
	data, err := i.root.ReadFile(s.file, fileMax)
	if err != nil {
		return found(s, s.wanted, "not installed", "")
	}
	for stack, want := range readProfile(string(data)).lines {
		file := "/etc/pam.d/" + stack
		text, _ := i.root.ReadFile(file, fileMax)
		var have []string
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) > 1 && words[0] == strings.TrimPrefix(stack, "common-") {
				have = append(have, strings.Join(words[1:], " "))
			}
		}
		for _, line := range want {
			n := slices.Index(have, line)
			if n < 0 {
				return found(s, s.wanted, "not in "+stack, file)
			}
			have = have[n+1:]
		}
	}
	return found(s, s.wanted, "active", s.file)
}

func (i *inspector) faillockFinding(s setting) finding {
	keys, err := faillockKeys(i.root)
	if err != nil {
		return found(s, s.wanted, "not readable", "")
	}
	v, ok := keys[s.name]
	switch {
	case !ok:
		return found(s, s.wanted, "missing", "")
	case v.text == "":
		v.text = "present"
	}
	return found(s, s.wanted, v.text, fmt.Sprintf("%s:%d", faillockConf, v.line))
}

// limitFinding looks up the last line of limits.conf(5) for a domain and an item,
// hard and soft.
func (i *inspector) limitFinding(s setting) finding {
	item, wanted, _ := strings.Cut(s.wanted, " ")
	files, _ := i.root.ConfFiles("/etc/security/limits.d", ".conf")
	files = append([]string{"/etc/security/limits.conf"}, files...)
	hard, soft := "", ""
	source := ""
	for _, f := range files {
		data, _ := i.root.ReadFile(f, fileMax)
		n := 0
		for line := range strings.Lines(string(data)) {
			n++
			line, _, _ = strings.Cut(line, "#")
			w := strings.Fields(line)
			if len(w) != 4 || w[0] != s.name || w[2] != item {
				continue
			}
			if w[1] != "soft" {
				hard = w[3]
			}
			if w[1] != "hard" {
				soft = w[3]
			}
			source = fmt.Sprintf("%s:%d", f, n)
		}
	}
	switch {
	case hard == wanted: // the soft limit is never above it
		return found(s, s.wanted, s.wanted, source)
	case hard == "" && soft == "":
		return found(s, s.wanted, "missing", "")
	}
	return found(s, s.wanted, fmt.Sprintf("%s hard %q soft %q", item, hard, soft), source)
}
