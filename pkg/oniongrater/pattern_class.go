// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What Python's \s is among ASCII characters. Go's lacks the vertical tab and
// 0x1c to 0x1f, so its \S would let them into an argument.
const (
	spaceSet    = `\t-\r\x1c-\x20`
	notSpaceSet = `\x00-\x08\x0e-\x1b\x21-\x{10FFFF}`
)

// escape reads a backslash and what follows, outside of a class.
func (s *scanner) escape() (item, error) {
	begin := s.at
	s.at++
	if s.end() {
		return item{}, &UnsupportedError{`\`, "nothing follows the backslash", `write \\ if the character is meant`}
	}
	c := s.text[s.at]
	switch c {
	case 'd', 'D', 'w', 'W':
		return s.category(`\`+string(c), c == 'D' || c == 'W'), nil
	case 's':
		return s.category("["+spaceSet+"]", true), nil
	case 'S':
		return s.category("[^"+spaceSet+"]", false), nil
	case 'b', 'B', 'A', 'Z':
		s.at++
		s.plain = false
		if c == 'Z' {
			c = 'z'
		}
		s.out.WriteString(`\` + string(c))
		return item{kind: position, empties: true}, nil
	}
	r, err := s.escapedChar(begin, false)
	if err != nil {
		return item{}, err
	}
	return s.char(r)
}

// category writes a set of characters; wide if a blank is one of them.
func (s *scanner) category(set string, wide bool) item {
	s.at++
	s.plain = false
	s.out.WriteString(set)
	return item{kind: atom, size: 1, wide: wide}
}

// escapedChar reads an escape that stands for one character, alike in a class
// and outside but for octal numbers. s.at is after the backslash.
func (s *scanner) escapedChar(begin int, class bool) (rune, error) {
	r, size := utf8.DecodeRuneInString(s.text[s.at:])
	s.at += size
	if i := strings.IndexRune("ntrfva", r); i >= 0 {
		return rune("\n\t\r\f\v\a"[i]), nil
	}
	switch {
	case r == 'x':
		return s.hex(begin, 2)
	case r == 'u':
		return s.hex(begin, 4)
	case r == 'U':
		return s.hex(begin, 8)
	case r == 'N':
		return s.namedChar(begin)
	case r >= '0' && r <= '9':
		return s.octal(begin, class)
	case r == 'Q', r == 'E', r == 'p', r == 'P', r == 'z', r == 'C':
		return 0, &UnsupportedError{s.since(begin), "this escape does not exist in Python", "write out what is allowed"}
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
		return 0, &UnsupportedError{s.since(begin), "this escape is not known", "leave the backslash out if the letter is meant"}
	}
	return r, nil
}

// hex reads a number of exactly that many digits.
func (s *scanner) hex(begin, digits int) (rune, error) {
	if s.at+digits <= len(s.text) {
		if n, err := strconv.ParseUint(s.text[s.at:s.at+digits], 16, 32); err == nil {
			s.at += digits
			return s.ascii(begin, n)
		}
	}
	return 0, &UnsupportedError{s.since(begin), fmt.Sprintf("%d hexadecimal digits have to follow", digits), ""}
}

// ascii refuses numbers of characters that Tor's texts do not have.
func (s *scanner) ascii(begin int, n uint64) (rune, error) {
	if n >= utf8.RuneSelf {
		return 0, &UnsupportedError{s.since(begin), "a character beyond ASCII", "Tor's texts are ASCII; leave it out"}
	}
	return rune(n), nil
}

// octal reads \0, \012 and \101, and refuses what is a back-reference; in a
// class there are none. The first digit has been read.
func (s *scanner) octal(begin int, class bool) (rune, error) {
	const digitsMax = 3
	first := s.at - 1
	for !s.end() && s.at-first < digitsMax && s.text[s.at] >= '0' && s.text[s.at] <= '7' {
		s.at++
	}
	number := s.text[first:s.at]
	if !class && number[0] != '0' && (len(number) < digitsMax || number[0] > '7') {
		return 0, &UnsupportedError{s.since(begin), "back-references do not exist in RE2", "write out what is allowed"}
	}
	n, err := strconv.ParseUint(number, 8, 32)
	if err != nil {
		return 0, &UnsupportedError{s.since(begin), "this escape is not known", "leave the backslash out"}
	}
	return s.ascii(begin, n)
}

// namedChar reads \N{NAME}, for the names of ASCII characters.
func (s *scanner) namedChar(begin int) (rune, error) {
	if s.skip("{") {
		if name, _, ok := strings.Cut(s.text[s.at:], "}"); ok {
			s.at += len(name) + 1
			if r, ok := asciiNamed(name); ok {
				return r, nil
			}
		}
	}
	return 0, &UnsupportedError{s.since(begin), "no name of an ASCII character", "write the character itself"}
}

// asciiNamed looks up a printable ASCII character by its Unicode name.
func asciiNamed(name string) (rune, bool) {
	name = strings.ToUpper(name)
	for prefix, first := range map[string]rune{"LATIN SMALL LETTER ": 'a', "LATIN CAPITAL LETTER ": 'A'} {
		if letter, ok := strings.CutPrefix(name, prefix); ok && len(letter) == 1 && letter[0] >= 'A' && letter[0] <= 'Z' {
			return first + rune(letter[0]-'A'), true
		}
	}
	for i, digit := range strings.Split("ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE", " ") {
		if name == "DIGIT "+digit {
			return '0' + rune(i), true
		}
	}
	r, ok := map[string]rune{
		"SPACE": ' ', "EXCLAMATION MARK": '!', "QUOTATION MARK": '"', "NUMBER SIGN": '#', "DOLLAR SIGN": '$', "PERCENT SIGN": '%',
		"AMPERSAND": '&', "APOSTROPHE": '\'', "LEFT PARENTHESIS": '(', "RIGHT PARENTHESIS": ')', "ASTERISK": '*', "PLUS SIGN": '+',
		"COMMA": ',', "HYPHEN-MINUS": '-', "FULL STOP": '.', "SOLIDUS": '/', "COLON": ':', "SEMICOLON": ';', "LESS-THAN SIGN": '<',
		"EQUALS SIGN": '=', "GREATER-THAN SIGN": '>', "QUESTION MARK": '?', "COMMERCIAL AT": '@', "LEFT SQUARE BRACKET": '[',
		"REVERSE SOLIDUS": '\\', "RIGHT SQUARE BRACKET": ']', "CIRCUMFLEX ACCENT": '^', "LOW LINE": '_', "GRAVE ACCENT": '`',
		"LEFT CURLY BRACKET": '{', "VERTICAL LINE": '|', "RIGHT CURLY BRACKET": '}', "TILDE": '~',
	}[name]
	return r, ok
}

// class reads a character class and writes it with every member escaped.
func (s *scanner) class() (item, error) {
	begin := s.at
	s.at++
	s.out.WriteByte('[')
	negated := s.skip("^")
	if negated {
		s.out.WriteByte('^')
	}
	blank := false // a blank is a member
	for first := true; first || !s.peek("]"); first = false {
		if s.end() {
			return item{}, &UnsupportedError{s.text[begin:], "the class is not closed", `write \[ if the character is meant`}
		}
		wide, err := s.member(begin)
		if err != nil {
			return item{}, err
		}
		blank = blank || wide
	}
	s.at++
	s.out.WriteByte(']')
	// A class that is a blank alone, as in `[ ]+`, holds no further arguments.
	source := s.since(begin)
	return item{kind: atom, size: 1, wide: blank != negated && source != "[ ]"}, nil
}

// member reads a character, a range or a category, and tells whether a blank
// is in it.
func (s *scanner) member(begin int) (blank bool, err error) {
	if name := regexpPosix(s.text[s.at:]); name != "" {
		return false, &UnsupportedError{name, "named classes do not exist in Python", "write the characters out: a-z"}
	}
	from := s.at
	low, set, blank, err := s.classChar()
	if err != nil {
		return false, err
	}
	if !s.peek("-") || s.peek("-]") || s.at+1 >= len(s.text) {
		s.writeMember(low, low, set)
		return blank || set == "" && low == ' ', nil
	}
	s.at++
	high, set2, _, err := s.classChar()
	if err != nil {
		return false, err
	}
	if set != "" || set2 != "" || high < low {
		return false, &UnsupportedError{s.since(from), "no valid range in " + s.since(begin), `write \- if the character is meant`}
	}
	s.writeMember(low, high, "")
	return low <= ' ' && ' ' <= high, nil
}

// regexpPosix returns the [:name:] that text begins with.
func regexpPosix(text string) string {
	inner, _, ok := strings.Cut(strings.TrimPrefix(text, "[:"), ":]")
	if !strings.HasPrefix(text, "[:") || !ok || strings.Trim(inner, "^abcdefghijklmnopqrstuvwxyz") != "" {
		return ""
	}
	return "[:" + inner + ":]"
}

// classChar reads one member: a character, or the set of a category.
func (s *scanner) classChar() (r rune, set string, blank bool, err error) {
	begin := s.at
	r, size := utf8.DecodeRuneInString(s.text[s.at:])
	s.at += size
	if r != '\\' {
		return r, "", false, s.foreignFold(r)
	}
	if s.end() {
		return 0, "", false, &UnsupportedError{`\`, "nothing follows the backslash", `write \\ if the character is meant`}
	}
	switch c := s.text[s.at]; c {
	case 'd', 'D', 'w', 'W':
		s.at++
		return 0, `\` + string(c), c == 'D' || c == 'W', nil
	case 's':
		s.at++
		return 0, spaceSet, true, nil
	case 'S':
		s.at++
		return 0, notSpaceSet, false, nil
	case 'b':
		s.at++
		return '\b', "", false, nil
	}
	r, err = s.escapedChar(begin, true)
	if err == nil {
		err = s.foreignFold(r)
	}
	return r, "", false, err
}

func (s *scanner) writeMember(low, high rune, set string) {
	if set != "" {
		s.out.WriteString(set)
		return
	}
	fmt.Fprintf(&s.out, `\x{%X}`, low)
	if high != low {
		fmt.Fprintf(&s.out, `-\x{%X}`, high)
	}
}
