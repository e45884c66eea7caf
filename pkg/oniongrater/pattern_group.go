// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"strings"
)

// globalFlags reads (?i) and (?s) at the begin of a pattern.
func (s *scanner) globalFlags() (bool, error) {
	if !s.peek("(?") {
		return false, nil
	}
	flags, _, closed := strings.Cut(s.text[s.at+2:], ")")
	if !closed || flags == "" || strings.Trim(flags, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return false, nil
	}
	if err := s.flags(flags, "(?"+flags+")"); err != nil {
		return false, err
	}
	s.plain = false
	written := "(?" + flags + ")"
	s.at += len(written)
	s.out.WriteString(written)
	return true, nil
}

// flags refuses what is not i or s.
func (s *scanner) flags(flags, construct string) error {
	for _, r := range flags {
		switch r {
		case 'i':
			s.fold = true
			if err := s.foreignFold(0); err != nil {
				return err
			}
		case 's':
		case 'x':
			return &UnsupportedError{construct, "verbose patterns do not exist in RE2", "leave blanks and comments out of the pattern"}
		case 'm':
			return &UnsupportedError{construct, "commands and lines of replies have no line ends", "leave the flag out"}
		case 'a', 'u', 'L':
			return &UnsupportedError{construct, "flags about character sets do not exist in RE2", "leave it out: Tor's texts are ASCII"}
		default:
			return &UnsupportedError{construct, "this flag does not exist in Python", "there are (?i) and (?s)"}
		}
	}
	return nil
}

// group reads from an opening parenthesis to the closing one.
func (s *scanner) group(depth int) (item, error) {
	begin, before := s.at, s.groups
	s.at++
	switch {
	case s.skip("?:"):
		s.out.WriteString("(?:")
	case s.skip("?P<"):
		if err := s.named(begin); err != nil {
			return item{}, err
		}
		s.groups++
		s.out.WriteByte('(')
	case s.peek("?"):
		if err := s.extension(begin); err != nil {
			return item{}, err
		}
	default:
		s.groups++
		s.out.WriteByte('(')
	}
	inner, err := s.alternatives(depth + 1)
	if err != nil {
		return item{}, err
	}
	if !s.skip(")") {
		return item{}, &UnsupportedError{s.text[begin:], "the group is not closed", `write \( if the character is meant`}
	}
	s.out.WriteByte(')')
	inner.groups = s.groups - before
	return inner, nil
}

// named reads the name of a group, which has no meaning but must be right.
func (s *scanner) named(begin int) error {
	name, _, closed := strings.Cut(s.text[s.at:], ">")
	valid := closed && name != "" && (name[0] < '0' || name[0] > '9')
	for _, r := range name {
		valid = valid && (r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}
	if !valid {
		return &UnsupportedError{s.since(begin), "the group has no valid name", "use a plain group ( )"}
	}
	if s.names[name] {
		return &UnsupportedError{s.since(begin) + name + ">", "two groups have this name", "use plain groups ( )"}
	}
	s.names[name] = true
	s.at += len(name) + 1
	return nil
}

// extension reads (?i: ) and refuses what else begins with (?.
func (s *scanner) extension(begin int) error {
	for _, e := range []UnsupportedError{
		{"(?=", "look-ahead does not exist in RE2", "write out what is allowed"},
		{"(?!", "look-ahead does not exist in RE2", "write out what is allowed"},
		{"(?<=", "look-behind does not exist in RE2", "write out what is allowed"},
		{"(?<!", "look-behind does not exist in RE2", "write out what is allowed"},
		{"(?<", "this form of a named group does not exist in Python", "use a plain group ( )"},
		{"(?P=", "back-references do not exist in RE2", "write out what is allowed"},
		{"(?P", "this construct does not exist in Python", "use a plain group ( )"},
		{"(?(", "conditions do not exist in RE2", "use two rules"},
		{"(?>", "atomic groups do not exist in RE2", "use (?: ): nothing here backtracks"},
		{"(?#", "comments do not exist in RE2", "put the comment into the file, after a #"},
	} {
		if strings.HasPrefix(s.text[begin:], e.Construct) {
			return &e
		}
	}
	const marks = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-"
	rest := s.text[s.at+1:]
	flags := rest[:len(rest)-len(strings.TrimLeft(rest, marks))]
	rest = rest[len(flags):]
	construct := "(?" + flags
	if rest != "" {
		construct += rest[:1]
	}
	on, off, minus := strings.Cut(flags, "-")
	switch {
	case strings.HasPrefix(rest, ")") && flags != "":
		if err := s.flags(flags, construct); err != nil {
			return err
		}
		return &UnsupportedError{construct, "flags for the whole pattern have to be at its begin", "use a group: (?i: )"}
	case !strings.HasPrefix(rest, ":"):
		return &UnsupportedError{construct, "this construct is not known", "use a plain group ( )"}
	case minus && (off == "" || strings.ContainsAny(off, on+"-")), on+off == "":
		return &UnsupportedError{construct, "these flags do not go together", "use (?i: )"}
	}
	if err := s.flags(on+off, construct); err != nil {
		return err
	}
	s.at += len("?") + len(flags) + len(":")
	s.out.WriteString("(?" + flags + ":")
	return nil
}
