// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import "strings"

// conf is an option that may be asked for by GETCONF, and set to the values
// that match.
type conf struct {
	where    string
	values   []*pattern
	reset    bool // '' is among the values: the option may be named without any
	disabled bool
}

// allows tells whether the option may be set to the value, which is raw: the
// quotes of a quoted one count.
func (c *conf) allows(a assignment) bool {
	if a.bare {
		return c.reset
	}
	for _, p := range c.values {
		if p.match(a.value) != nil {
			return true
		}
	}
	return false
}

// getConf allows one option for each command.
func (f *Filter) getConf(arguments string) (Decision, bool) {
	c := f.confs[strings.ToLower(arguments)]
	if c == nil || c.disabled {
		return Decision{}, false
	}
	return Decision{Where: c.where, Arguments: arguments}, true
}

// setConf allows assignments if each of them is allowed (defect 6).
func (f *Filter) setConf(arguments string) (Decision, bool) {
	assignments, ok := splitAssignments(arguments)
	if !ok {
		return Decision{}, false
	}
	var d Decision
	for _, a := range assignments {
		c := f.confs[strings.ToLower(a.name)]
		if c == nil || c.disabled || !c.allows(a) {
			return Decision{}, false
		}
		d = Decision{Where: c.where, Arguments: arguments}
	}
	return d, true
}

// assignment is `name=value`, or `name` alone, which stands for the default.
type assignment struct {
	name, value string // as written
	bare        bool
}

// splitAssignments reads the arguments of SETCONF as Tor does: blanks separate,
// and a value is a quoted string as in C, or runs to the next blank. What Tor
// may read in another way is refused: nothing at all, a name with other
// characters than option names have, text right after a closing quote, and a
// blank at either end.
func splitAssignments(text string) (list []assignment, ok bool) {
	if text == "" || strings.HasSuffix(text, " ") || strings.HasSuffix(text, "\t") {
		return nil, false
	}
	for text != "" {
		name := text[:nameLength(text)]
		if name == "" {
			return nil, false
		}
		text = text[len(name):]
		a := assignment{name: name, bare: true}
		if strings.HasPrefix(text, "=") {
			n := valueLength(text[1:])
			if n < 0 {
				return nil, false
			}
			a.value, a.bare, text = text[1:1+n], false, text[1+n:]
		}
		list = append(list, a)
		rest := strings.TrimLeft(text, " ")
		if rest == text && text != "" {
			return nil, false
		}
		text = rest
	}
	return list, true
}

// nameLength is how long the option name is that text begins with.
func nameLength(text string) int {
	for i := range len(text) {
		c := text[i]
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return i
		}
	}
	return len(text)
}

// valueLength is how long the value is that text begins with; -1 if its quote
// is not closed.
func valueLength(text string) int {
	if !strings.HasPrefix(text, `"`) {
		if i := strings.IndexAny(text, " \t\r\n\v\f"); i >= 0 {
			return i
		}
		return len(text)
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}
