// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// emit writes a list of filters as YAML that every reader reads alike: keys
// sorted, dashes at the indent of their parent, every string quoted that some
// version of YAML could take for something else.
func emit(filters []*value) string {
	var out strings.Builder
	emitList(&out, filters, "", "")
	return out.String()
}

// emitList writes items. Lines begin with the indent, but for the first one,
// which begins with what first is.
func emitList(out *strings.Builder, items []*value, first, indent string) {
	for _, item := range items {
		out.WriteString(first)
		out.WriteByte('-')
		first = indent
		switch { // a collection begins on the line of the dash
		case item.kind == mapping && len(item.pairs) > 0:
			emitMapping(out, item, " ", indent+"  ")
		case item.kind == list && len(item.items) > 0:
			emitList(out, item.items, " ", indent+"  ")
		default:
			emitScalar(out, item)
		}
	}
}

// emitMapping writes pairs; first and indent are those of emitList.
func emitMapping(out *strings.Builder, v *value, first, indent string) {
	pairs := slices.Clone(v.pairs)
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.key.text, b.key.text) })
	for _, p := range pairs {
		out.WriteString(first)
		out.WriteString(scalarText(p.key))
		out.WriteByte(':')
		first = indent
		switch {
		case p.value.kind == mapping && len(p.value.pairs) > 0:
			out.WriteByte('\n')
			emitMapping(out, p.value, indent+"  ", indent+"  ")
		case p.value.kind == list && len(p.value.items) > 0:
			out.WriteByte('\n')
			emitList(out, p.value.items, indent, indent)
		default:
			emitScalar(out, p.value)
		}
	}
}

// emitScalar writes what ends the line.
func emitScalar(out *strings.Builder, v *value) {
	out.WriteByte(' ')
	out.WriteString(scalarText(v))
	out.WriteByte('\n')
}

// scalarText is a scalar or an empty collection.
func scalarText(v *value) string {
	switch v.kind {
	case null:
		return "null"
	case boolean:
		if v.yes() {
			return "true"
		}
		return "false"
	case list:
		return "[]"
	case mapping:
		return "{}"
	case other:
		return v.text
	}
	return quoted(v.text)
}

// quoted writes a word as it is, and what else there is in quotes.
func quoted(text string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	if text != "" && strings.ContainsAny(text[:1], letters) && strings.Trim(text, letters+"0123456789-/") == "" && !word11(text) {
		return text
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		var out strings.Builder
		for _, r := range text {
			switch {
			case r == '"' || r == '\\':
				out.WriteString(`\` + string(r))
			case r >= ' ' && r <= '~':
				out.WriteRune(r)
			case r <= 0xff:
				fmt.Fprintf(&out, `\x%02X`, r)
			case r <= 0xffff:
				fmt.Fprintf(&out, `\u%04X`, r)
			default:
				fmt.Fprintf(&out, `\U%08X`, r)
			}
		}
		return `"` + out.String() + `"`
	}
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

// word11 tells whether a word is a truth value or null in some YAML.
func word11(text string) bool {
	return slices.Contains([]string{"y", "n", "yes", "no", "true", "false", "on", "off", "null"}, strings.ToLower(text))
}
