// SPDX-License-Identifier: GPL-3.0-or-later

// Package torrc reads Tor's configuration as Tor does: the command line, the
// grammar of the file with what it includes, and which of several sources
// counts. It knows the names of all options, and the values of those that open
// listeners and logs.
package torrc

import (
	"fmt"
	"strings"
)

// Mode is what a line does to the option.
type Mode int

// The modes, by the sign before the key.
const (
	Set   Mode = iota
	Add        // +
	Clear      // /
)

// Origin is where a line stands; Line is 0 on the command line.
type Origin struct {
	File string
	Line int
}

// String is FILE:LINE.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// Line is an option and its value, as written.
type Line struct {
	Mode       Mode
	Key, Value string
	Origin     Origin
}

// SyntaxError is a place that is no configuration.
type SyntaxError struct {
	Origin Origin
	Text   string
}

// Error names the place.
func (e *SyntaxError) Error() string { return e.Origin.String() + ": " + e.Text }

// complaint is an error in Tor's own words.
type complaint string

func (c complaint) Error() string { return string(c) }

func complain(format string, args ...any) error { return complaint(fmt.Sprintf(format, args...)) }

// cursor walks through a text.
type cursor struct {
	file string
	text string
	at   int

	counted, lines int // lines are counted once
}

// blank is what Tor takes for white space.
const blank = " \t\n\r\v\f"

func (c *cursor) more() bool { return c.at < len(c.text) }
func (c *cursor) here() byte { return c.text[c.at] }

func (c *cursor) origin(at int) Origin {
	if at >= c.counted {
		c.lines += strings.Count(c.text[c.counted:at], "\n")
		c.counted = at
		return Origin{c.file, 1 + c.lines}
	}
	return Origin{c.file, 1 + strings.Count(c.text[:at], "\n")}
}

func (c *cursor) fail(at int, text string) error { return &SyntaxError{c.origin(at), text} }

// continued reports a backslash at the end of a line.
func (c *cursor) continued() bool { return strings.HasPrefix(c.text[c.at:], "\\\n") }

// skip goes on as long as the byte is one of set.
func (c *cursor) skip(set string) {
	for c.more() && strings.IndexByte(set, c.here()) >= 0 {
		c.at++
	}
}

func (c *cursor) comment() {
	for c.more() && c.here() != '\n' {
		c.at++
	}
}

// Parse reads the lines of a file; what it includes is a line with the key
// %include.
func Parse(file string, text []byte) ([]Line, error) {
	c := &cursor{file: file, text: strings.ReplaceAll(string(text), "\r", "")} // as Tor does
	if i := strings.IndexByte(c.text, 0); i >= 0 {
		return nil, c.fail(i, "there is a NUL byte")
	}
	var out []Line
	for {
		c.skip(blank)
		if !c.more() {
			return out, nil
		}
		if c.here() == '#' {
			c.comment()
			continue
		}
		l, err := c.line()
		if err != nil {
			return nil, err
		}
		if l.Key != "" || l.Value != "" {
			out = append(out, l)
		}
	}
}

// line reads a key and its value.
func (c *cursor) line() (Line, error) {
	begin := c.at
	for c.more() && strings.IndexByte(blank, c.here()) < 0 && c.here() != '#' && !c.continued() {
		c.at++
	}
	l := Line{Key: c.text[begin:c.at], Origin: c.origin(begin)}
	switch {
	case strings.HasPrefix(l.Key, "+"):
		l.Mode, l.Key = Add, l.Key[1:]
	case strings.HasPrefix(l.Key, "/"):
		l.Mode, l.Key = Clear, l.Key[1:]
	}
	c.skip(" \t")
	var err error
	if c.more() && c.here() == '"' {
		l.Value, err = c.quoted()
	} else {
		l.Value = c.plain()
	}
	return l, err
}

// plain reads a value to the end of the line, or of those that continue it. As
// in Tor blanks at the end go first, so that a backslash before them stays.
func (c *cursor) plain() string {
	begin, continuation := c.at, false
	for c.more() && c.here() != '\n' && (c.here() != '#' || continuation) {
		switch {
		case c.continued():
			continuation = true
			c.at += len("\\\n")
		case c.here() == '#':
			c.comment()
			c.skipOne()
		default:
			c.at++
		}
	}
	value := strings.TrimRight(c.text[begin:c.at], blank)
	if c.more() && c.here() == '#' {
		c.comment()
	}
	if continuation {
		return joined(value)
	}
	return value
}

// skipOne goes on by a byte, if there is one.
func (c *cursor) skipOne() {
	if c.more() {
		c.at++
	}
}

// joined makes one line of those that continue each other. Comments between
// them are left out.
func joined(text string) string {
	var b strings.Builder
	c := &cursor{text: text}
	for c.more() {
		switch {
		case c.continued():
			c.at += len("\\\n")
		case c.here() == '#':
			c.comment()
			c.skipOne()
		default:
			b.WriteByte(c.here())
			c.at++
		}
	}
	return b.String()
}

// quoted reads a string with the escapes of C, after which the line must end.
func (c *cursor) quoted() (string, error) {
	begin := c.at
	value, n, ok := Unquote(c.text[c.at:])
	if !ok {
		return "", c.fail(begin, "Invalid escape sequence in quoted string")
	}
	c.at += n
	c.skip(" \t")
	if c.more() && c.here() != '#' && c.here() != '\n' {
		return "", c.fail(c.at, "Excess data after quoted string")
	}
	if c.more() && c.here() == '#' {
		c.comment()
	}
	return value, nil
}

// Unquote reads a string with the escapes of C from the begin of text, and
// tells how long it is there.
func Unquote(text string) (value string, length int, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		return "", 0, false
	}
	var b strings.Builder
	for i := 1; i < len(text); {
		switch text[i] {
		case '"':
			return b.String(), i + 1, true
		case '\n':
			return "", 0, false
		case '\\':
			char, n, ok := escape(text[i+1:])
			if !ok {
				return "", 0, false
			}
			b.WriteByte(char)
			i += 1 + n
		default:
			b.WriteByte(text[i])
			i++
		}
	}
	return "", 0, false
}

// escape reads what follows a backslash. A value that could not be a string of
// C is none.
func escape(text string) (char byte, length int, ok bool) {
	if text == "" {
		return 0, 0, false
	}
	switch text[0] {
	case 'n':
		return '\n', 1, true
	case 'r':
		return '\r', 1, true
	case 't':
		return '\t', 1, true
	case '\'', '"', '\\':
		return text[0], 1, true
	case 'x', 'X':
		return number(text, 1, 16, 2, 2)
	}
	return number(text, 0, 8, 1, 3)
}

// number reads at least least and at most most digits.
func number(text string, at, base, least, most int) (char byte, length int, ok bool) {
	value, digits := 0, 0
	for digits < most && at+digits < len(text) {
		d := strings.IndexByte("0123456789abcdef", text[at+digits]|0x20)
		if text[at+digits] < '0' || d < 0 || d >= base {
			break
		}
		value = value*base + d
		digits++
	}
	const byteMax = 255
	if digits < least || value == 0 || value > byteMax {
		return 0, 0, false
	}
	return byte(value), at + digits, true
}
