// SPDX-License-Identifier: GPL-3.0-or-later

package torrc

import (
	_ "embed" // the names of options
	"slices"
	"strings"
)

// TorVersion is the version of Tor whose options these are.
const TorVersion = "0.4.9.11"

// optionNames is what Tor prints for --list-torrc-options.
//
//go:embed options.txt
var optionNames string

// deprecatedNames is what Tor prints for --list-deprecated-options.
//
//go:embed deprecated.txt
var deprecatedNames string

// hiddenNames are those that Tor takes and does not list: old ones, which do
// nothing, other names, and the lists behind ports.
//
//go:embed hidden.txt
var hiddenNames string

// OptionList is what Tor prints for --list-torrc-options.
func OptionList() string { return optionNames }

// DeprecatedList is what Tor prints for --list-deprecated-options.
func DeprecatedList() string { return deprecatedNames }

// Name finds an option by its name in any case, or by the begin of one.
func Name(key string) (name string, ok bool) {
	if key == "" {
		return "", false
	}
	begin := ""
	for _, list := range []string{optionNames, hiddenNames} {
		for n := range strings.FieldsSeq(list) {
			switch {
			case strings.EqualFold(n, key):
				return n, true
			case len(n) > len(key) && strings.EqualFold(n[:len(key)], key) && (begin == "" || strings.ToLower(n) < strings.ToLower(begin)):
				begin = n
			}
		}
	}
	return begin, begin != ""
}

// plainName is the name under which an option's values are kept.
func plainName(key string) string {
	name, ok := Name(key)
	if !ok {
		name = key
	}
	name = strings.ToLower(name)
	if plain := strings.TrimPrefix(name, "__"); strings.HasSuffix(plain, "port") {
		return plain // __SocksPort and its like
	}
	return name
}

// Unknown returns the first line whose option does not exist.
func Unknown(lines []Line) (Line, bool) {
	i := slices.IndexFunc(lines, func(l Line) bool { _, ok := Name(l.Key); return !ok })
	if i < 0 {
		return Line{}, false
	}
	return lines[i], true
}
