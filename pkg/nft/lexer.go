// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import "strings"

// token is a word, a string without its quotes, or one of the signs.
type token struct {
	text   string
	line   int
	start  int // of its text
	end    int
	quoted bool
}

// endOfLine ends statements, as a semicolon does.
const endOfLine = "\n"

// signs are tokens by themselves wherever they are.
const signs = "{}(),;&|=!<>^\n"

// tokens splits the text of a script. Lines that end in a backslash go on; a
// comment ends its line.
func tokens(text string) []token {
	var out []token
	line := 1
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == '\\' && i+1 < len(text) && text[i+1] == '\n':
			line++
			i += 2
		case c == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case c == '"':
			end := strings.IndexAny(text[i+1:], "\"\n")
			if end < 0 || text[i+1+end] == '\n' { // not closed on its line
				end = len(strings.SplitN(text[i+1:], "\n", 2)[0])
			}
			next := min(len(text), i+end+2)
			out = append(out, token{text: text[i+1 : i+1+end], line: line, start: i, end: next, quoted: true})
			if next > i+1 && text[next-1] == '\n' {
				next--
			}
			i = next
		case strings.IndexByte(signs, c) >= 0:
			n := 1
			if i+1 < len(text) && text[i+1] == '=' && strings.IndexByte("=!<>", c) >= 0 {
				n = 2
			}
			out = append(out, token{text: text[i : i+n], line: line, start: i, end: i + n})
			if c == '\n' {
				line++
			}
			i += n
		default:
			n := strings.IndexAny(text[i:], " \t\r\"#"+signs)
			if n < 0 {
				n = len(text) - i
			}
			out = append(out, token{text: text[i : i+n], line: line, start: i, end: i + n})
			i += n
		}
	}
	return append(out, token{text: endOfLine, line: line, start: len(text), end: len(text)})
}
