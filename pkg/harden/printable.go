// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable shows a file's name in one line, with nothing that could steer a
// terminal or be taken for another column: control characters, backslashes and
// what is no UTF-8 become octal escapes, as the hardener's configuration has
// them.
func printable(name string) string {
	var b strings.Builder
	for rest := name; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		if r == '\\' || r == utf8.RuneError && size == 1 || !unicode.IsGraphic(r) {
			for i := range size {
				fmt.Fprintf(&b, `\%03o`, rest[i])
			}
		} else {
			b.WriteString(rest[:size])
		}
		rest = rest[size:]
	}
	return b.String()
}
