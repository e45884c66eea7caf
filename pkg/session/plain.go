// SPDX-License-Identifier: GPL-3.0-or-later

package session

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// assignment is one NAME=VALUE or NAME[KEY]=VALUE.
type assignment struct {
	name, key, value string
	element          bool // NAME[KEY]
	export           bool
	line             int
}

// beyond says that text is not of the plain form.
type beyond struct {
	line int
	what string
}

func (b *beyond) Error() string { return fmt.Sprintf("line %d: %s", b.line, b.what) }

// scanner reads the plain form of a fragment: assignments of words without
// expansions, one or several to a line, optionally exported, and comments. For
// these it does what bash does, in microseconds. It stops at anything else.
type scanner struct {
	text   []byte
	pos    int
	line   int
	arrays []string // names that take a [KEY]
}

// plain scans a whole fragment. The error is a *beyond.
func plain(text []byte, arrays []string) ([]assignment, error) {
	s := &scanner{text: text, line: 1, arrays: arrays}
	var out []assignment
	for {
		found, done, err := s.command()
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
		if done {
			return out, nil
		}
	}
}

// plainLines scans the lines of a fragment that are of the plain form, and
// passes over the others.
func plainLines(text []byte, arrays []string) []assignment {
	var out []assignment
	number := 0
	for line := range bytes.Lines(text) {
		number++
		found, err := plain(line, arrays)
		if err != nil {
			continue
		}
		for _, a := range found {
			a.line = number
			out = append(out, a)
		}
	}
	return out
}

func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

func (s *scanner) atEnd() bool { return s.pos >= len(s.text) }

func (s *scanner) stop(what string) error { return &beyond{s.line, what} }

func (s *scanner) blanks() {
	for s.peek() == ' ' || s.peek() == '\t' {
		s.pos++
	}
}

// command reads a line up to its end or a semicolon.
func (s *scanner) command() (found []assignment, done bool, err error) {
	s.blanks()
	export := false
	if rest := s.text[s.pos:]; bytes.HasPrefix(rest, []byte("export ")) || bytes.HasPrefix(rest, []byte("export\t")) {
		s.pos += len("export ")
		export = true
		s.blanks()
		if !isName(s.peek(), true) {
			return nil, false, s.stop("an export without an assignment")
		}
	}
	for {
		switch c := s.peek(); {
		case s.atEnd():
			return found, true, nil
		case c == '\n':
			s.pos++
			s.line++
			return found, false, nil
		case c == ';' && len(found) > 0:
			s.pos++
			if s.peek() == ';' || s.peek() == '&' {
				return nil, false, s.stop("the end of a case item")
			}
			return found, false, nil
		case c == '#':
			if err := s.comment(); err != nil {
				return nil, false, err
			}
		default:
			a, err := s.assignment(export)
			if err != nil {
				return nil, false, err
			}
			found = append(found, a)
		}
		s.blanks()
	}
}

func (s *scanner) comment() error {
	end := bytes.IndexByte(s.text[s.pos:], '\n')
	if end < 0 {
		end = len(s.text) - s.pos
	}
	text := s.text[s.pos : s.pos+end]
	if bytes.HasSuffix(text, []byte(`\`)) || bytes.ContainsAny(text, "\x00\r") {
		return s.stop("an odd comment")
	}
	s.pos += end
	return nil
}

func (s *scanner) assignment(export bool) (assignment, error) {
	a := assignment{export: export, line: s.line}
	begin := s.pos
	for isName(s.peek(), s.pos == begin) {
		s.pos++
	}
	a.name = string(s.text[begin:s.pos])
	switch {
	case a.name == "":
		return a, s.stop("a command")
	case ofBash(a.name):
		return a, s.stop("a variable of bash's own")
	}
	if s.peek() == '[' {
		if !slices.Contains(s.arrays, a.name) || export {
			return a, s.stop("an element of an array")
		}
		if err := s.key(&a); err != nil {
			return a, err
		}
	}
	if s.peek() != '=' {
		return a, s.stop("a command")
	}
	s.pos++
	if !a.element && slices.Contains(s.arrays, a.name) {
		if export {
			return a, s.stop("an exported array")
		}
		a.element, a.key = true, "0"
	}
	return a, s.value(&a)
}

// key reads [KEY]: one unquoted or quoted run.
func (s *scanner) key(a *assignment) error {
	s.pos++
	a.element = true
	var err error
	switch c := s.peek(); c {
	case '"', '\'':
		a.key, err = s.quoted(c)
	default:
		a.key = s.run()
	}
	if err != nil {
		return err
	}
	if a.key == "" || a.key == "@" || s.peek() != ']' {
		return s.stop("a subscript")
	}
	s.pos++
	return nil
}

// value reads runs up to the end of the word.
func (s *scanner) value(a *assignment) error {
	var b strings.Builder
	for {
		switch c := s.peek(); {
		case s.atEnd() || strings.IndexByte(" \t\n;", c) >= 0:
			a.value = b.String()
			return nil
		case c == '"' || c == '\'':
			text, err := s.quoted(c)
			if err != nil {
				return err
			}
			b.WriteString(text)
		default:
			text := s.run()
			if text == "" {
				return s.stop("an expansion or an operator")
			}
			b.WriteString(text)
		}
	}
}

// run reads what stands for itself outside quotes.
func (s *scanner) run() string {
	begin := s.pos
	for isName(s.peek(), false) || s.peek() != 0 && strings.IndexByte("./+,:@%-", s.peek()) >= 0 {
		s.pos++
	}
	return string(s.text[begin:s.pos])
}

func (s *scanner) quoted(quote byte) (string, error) {
	s.pos++
	end := bytes.IndexByte(s.text[s.pos:], quote)
	if end < 0 {
		return "", s.stop("an open quote")
	}
	text := string(s.text[s.pos : s.pos+end])
	if strings.ContainsAny(text, "\x00\r\n") || quote == '"' && strings.ContainsAny(text, "$`\\") {
		return "", s.stop("an expansion")
	}
	s.pos += end + 1
	return text, nil
}

func isName(c byte, first bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || !first && c >= '0' && c <= '9'
}

// ofBash reports variables to which bash does not give, or of which it does
// not keep, plainly what is assigned.
func ofBash(name string) bool {
	switch name {
	case "_", "COMP_WORDBREAKS", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FUNCNAME", "FUNCNEST", "GLOBIGNORE",
		"GROUPS", "HISTCMD", "IFS", "IGNOREEOF", "LANG", "LINENO", "OPTERR", "OPTIND", "PIPESTATUS", "POSIXLY_CORRECT", "PPID", "PS4",
		"RANDOM", "SECONDS", "SHELLOPTS", "SHLVL", "SRANDOM", "TMOUT", "UID":
		return true
	}
	return strings.HasPrefix(name, "BASH") || strings.HasPrefix(name, "LC_") || strings.HasPrefix(name, "__session")
}
