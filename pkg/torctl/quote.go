// SPDX-License-Identifier: GPL-3.0-or-later

package torctl

import (
	"fmt"
	"strings"
)

// Quote writes text as a QuotedString. It fails for what has no place in one
// line: NUL, CR and LF.
func Quote(text string) (string, error) {
	if strings.ContainsAny(text, "\x00\r\n") {
		return "", fmt.Errorf("%q cannot be sent to tor", text)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`, nil
}

// Unquote reads the quoted string that text begins with, with C's escapes as
// Tor writes them, and returns what follows it.
func Unquote(text string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		return "", "", false
	}
	var out strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return out.String(), text[i+1:], true
		case '\\':
			b, n, ok := escape(text[i+1:])
			if !ok {
				return "", "", false
			}
			out.WriteByte(b)
			i += n
		default:
			out.WriteByte(c)
		}
	}
	return "", "", false
}

// escape reads what follows a backslash.
func escape(text string) (b byte, length int, ok bool) {
	if text == "" {
		return 0, 0, false
	}
	switch c := text[0]; c {
	case 'n':
		return '\n', 1, true
	case 't':
		return '\t', 1, true
	case 'r':
		return '\r', 1, true
	default:
		if c < '0' || c > '7' {
			return c, 1, true
		}
	}
	value := 0
	for length < 3 && length < len(text) && text[length] >= '0' && text[length] <= '7' {
		value = value*8 + int(text[length]-'0')
		length++
	}
	return byte(value), length, value <= 0xff
}

// Assignments reads blank-separated KEY=VALUE pairs, where a value is a quoted
// string or a run of other bytes. A word without `=` has the empty value.
func Assignments(text string) map[string]string {
	out := map[string]string{}
	for {
		text = strings.TrimLeft(text, " ")
		if text == "" {
			return out
		}
		end := strings.IndexAny(text, " =")
		if end < 0 || text[end] == ' ' {
			var word string
			word, text, _ = strings.Cut(text, " ")
			out[word] = ""
			continue
		}
		key := text[:end]
		text = text[end+1:]
		value, rest, ok := Unquote(text)
		if !ok {
			value, rest, _ = strings.Cut(text, " ")
		}
		out[key], text = value, rest
	}
}
