// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// format is a compiled replacement: Python's str.format with the groups of a
// match as positional fields, and four names.
type format struct {
	parts []part
}

// part is a text, a group, or one of the named values.
type part struct {
	text  string
	group int // counted from 0; -1 if it is none
	value func(Values) string
}

func fieldNames() map[string]func(Values) string {
	return map[string]func(Values) string{
		"client-address": func(v Values) string { return v.ClientAddress },
		"client-port":    func(v Values) string { return v.ClientPort },
		"server-address": func(v Values) string { return v.ServerAddress },
		"server-port":    func(v Values) string { return v.ServerPort },
	}
}

// compileFormat reads a replacement for a pattern with that many groups.
// Anything but plain text in ASCII is refused: a line end would be a second
// command, and Tor reads bytes.
func compileFormat(text string, groups int) (*format, error) {
	for _, r := range text {
		if r < ' ' || r > '~' {
			return nil, fmt.Errorf("%q is not allowed in it; use printable ASCII only", r)
		}
	}
	f := &format{}
	next, numbered := 0, false
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			f.parts = append(f.parts, part{text: literal.String(), group: -1})
			literal.Reset()
		}
	}
	for text != "" {
		if c := text[0]; c != '{' && c != '}' {
			literal.WriteByte(c)
			text = text[1:]
			continue
		}
		if strings.HasPrefix(text, "{{") || strings.HasPrefix(text, "}}") {
			literal.WriteByte(text[0])
			text = text[2:]
			continue
		}
		name, rest, ok := strings.Cut(text[1:], "}")
		if text[0] == '}' || !ok {
			return nil, fmt.Errorf("a single %q; write %q if the brace is meant", text[:1], text[:1]+text[:1])
		}
		flush()
		p, err := field(name, &next, &numbered)
		if err != nil {
			return nil, err
		}
		if p.group >= groups {
			return nil, fmt.Errorf("field %d has no group: the pattern has %d; put the part that is meant in parentheses", p.group, groups)
		}
		f.parts = append(f.parts, p)
		text = rest
	}
	flush()
	return f, nil
}

// field reads the inside of braces. next is how many `{}` there were, numbered
// whether there was a number.
func field(name string, next *int, numbered *bool) (part, error) {
	if value, ok := fieldNames()[name]; ok {
		return part{group: -1, value: value}, nil
	}
	errMixed := errors.New("{} and numbered fields are mixed; number all of them, or none")
	if name == "" {
		if *numbered {
			return part{}, errMixed
		}
		*next++
		return part{group: *next - 1}, nil
	}
	if strings.Trim(name, "0123456789") == "" {
		if *next > 0 {
			return part{}, errMixed
		}
		*numbered = true
		n, err := strconv.Atoi(name)
		if err != nil {
			return part{}, fmt.Errorf("the field {%s} is out of range", name)
		}
		return part{group: n}, nil
	}
	return part{}, fmt.Errorf("the field {%s} is not known; there are {}, {0}, {client-address}, {client-port}, {server-address} and {server-port}", name)
}

// expand fills the fields in. A group that took no part in the match is empty
// (defect 14). Braces in what is filled in mean nothing.
func (f *format) expand(groups []string, values Values) string {
	if len(f.parts) == 1 && f.parts[0].group < 0 && f.parts[0].value == nil {
		return f.parts[0].text
	}
	var out strings.Builder
	for _, p := range f.parts {
		switch {
		case p.value != nil:
			out.WriteString(p.value(values))
		case p.group >= 0:
			out.WriteString(groups[p.group])
		default:
			out.WriteString(p.text)
		}
	}
	return out.String()
}
