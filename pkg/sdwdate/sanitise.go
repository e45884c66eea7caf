// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import "strings"

// sanitise makes text safe for journals and terminals: HTML tags are removed,
// then `<`, `>`, `&` and every byte that is neither printable ASCII, tab nor
// newline become `_` (D8).
func sanitise(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return r
		case r < ' ' || r > '~', r == '<', r == '>', r == '&':
			return '_'
		}
		return r
	}, withoutTags(text))
}

// withoutTags removes what stands between `<` and `>`, where what follows `<`
// could begin a tag.
func withoutTags(text string) string {
	var b strings.Builder
	for {
		begin := strings.IndexByte(text, '<')
		if begin < 0 || begin+1 == len(text) {
			break
		}
		end := strings.IndexByte(text[begin:], '>')
		if c := text[begin+1] | 0x20; end < 0 || c != '/'|0x20 && c != '!'|0x20 && (c < 'a' || c > 'z') {
			b.WriteString(text[:begin+1])
			text = text[begin+1:]
			continue
		}
		b.WriteString(text[:begin])
		text = text[begin+end+1:]
	}
	b.WriteString(text)
	return b.String()
}

// oneLine is sanitised text for the rest of a line.
func oneLine(text string, most int) string {
	text = strings.NewReplacer("\n", "_", "\t", "_").Replace(sanitise(text))
	if len(text) > most {
		text = text[:most]
	}
	return text
}
