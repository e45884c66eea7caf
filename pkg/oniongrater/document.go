// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// kind is what a value of a YAML file is.
type kind int

const (
	null kind = iota
	str
	boolean
	other // a number or a date
	list
	mapping
)

func (k kind) String() string {
	return []string{"nothing", "a string", "a truth value", "a number or a date", "a list", "a mapping"}[k]
}

// value is a value of a YAML file, as YAML 1.1 reads it: the one the profiles
// were written for, in which `on` is true.
type value struct {
	kind  kind
	text  string // of a scalar
	items []*value
	pairs []pair // of a mapping, in the order of the file
	line  int
	file  string
}

type pair struct {
	key   *value
	value *value
}

// get looks up a key of a mapping.
func (v *value) get(key string) *value {
	for _, p := range v.pairs {
		if p.key.kind == str && p.key.text == key {
			return p.value
		}
	}
	return nil
}

// where is the value's place, for messages.
func (v *value) where() string { return v.file + ":" + strconv.Itoa(v.line) }

// yes tells whether a scalar is true.
func (v *value) yes() bool {
	return v.kind == boolean && slices.Contains([]string{"yes", "true", "on"}, strings.ToLower(v.text))
}

// badYAML is a fault of a file as a whole. Line is 0 if it has none.
type badYAML struct {
	line   int
	reason string
	syntax bool // the text is no YAML at all
}

func (e *badYAML) Error() string {
	if e.line == 0 {
		return e.reason
	}
	return fmt.Sprintf("line %d: %s", e.line, e.reason)
}

// Limits of filter files. Aliases count as often as they are used, so that a
// short file cannot become a long one.
const (
	fileMax   = 1 << 20 // bytes
	valuesMax = 100_000
	nestedMax = 100
)

// parseYAML reads the one document of a file. warn gets doubts.
func parseYAML(file string, data []byte, warn func(line int, text string)) (*value, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, &badYAML{line: 1, reason: "the file is empty; remove it, or write a list of filters"}
	case err != nil:
		return nil, syntaxError(err)
	}
	var more yaml.Node
	switch err := decoder.Decode(&more); {
	case err == nil:
		return nil, &badYAML{line: more.Line, reason: "there is a second document; use one --- only"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(err)
	}
	r := &reader{file: file, warn: warn, left: valuesMax}
	return r.read(document.Content[0], 0)
}

// syntaxError takes the line out of the library's message.
func syntaxError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	bad := &badYAML{reason: text, syntax: true}
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, reason, ok := strings.Cut(rest, ": "); ok {
			bad.line, _ = strconv.Atoi(number)
			bad.reason = reason
		}
	}
	if strings.HasPrefix(bad.reason, "unknown anchor") {
		bad.syntax = false
	}
	return bad
}

// reader turns the library's nodes into values.
type reader struct {
	file string
	warn func(line int, text string)
	left int // values
}

func (r *reader) read(n *yaml.Node, depth int) (*value, error) {
	if r.left--; r.left < 0 {
		return nil, &badYAML{line: n.Line, reason: fmt.Sprintf("more than %d values; write fewer, or fewer aliases", valuesMax)}
	}
	if depth > nestedMax {
		return nil, &badYAML{line: n.Line, reason: fmt.Sprintf("nested deeper than %d", nestedMax)}
	}
	v := &value{line: n.Line, file: r.file}
	switch n.Kind {
	case yaml.AliasNode:
		return r.read(n.Alias, depth+1)
	case yaml.ScalarNode:
		return v, r.scalar(n, v)
	case yaml.SequenceNode:
		v.kind = list
		if err := r.tag(n, "!!seq"); err != nil {
			return nil, err
		}
		for _, c := range n.Content {
			item, err := r.read(c, depth+1)
			if err != nil {
				return nil, err
			}
			v.items = append(v.items, item)
		}
		return v, nil
	default:
		v.kind = mapping
		if err := r.tag(n, "!!map"); err != nil {
			return nil, err
		}
		return v, r.mapping(n, v, depth)
	}
}

// tag refuses tags that the original's reader does not know either.
func (r *reader) tag(n *yaml.Node, allowed ...string) error {
	if n.Style&yaml.TaggedStyle == 0 || n.Tag == "!" || slices.Contains(allowed, n.Tag) {
		return nil
	}
	return &badYAML{line: n.Line, reason: fmt.Sprintf("the tag %s is not known; leave it out", n.Tag)}
}

func (r *reader) scalar(n *yaml.Node, v *value) error {
	v.text = n.Value
	if n.Style&yaml.TaggedStyle != 0 {
		kinds := map[string]kind{"!": str, "!!str": str, "!!null": null, "!!bool": boolean, "!!int": other, "!!float": other}
		k, ok := kinds[n.Tag]
		if !ok {
			return r.tag(n)
		}
		if plain := plainKind(n.Value); k != str && k != plain {
			return &badYAML{line: n.Line, reason: fmt.Sprintf("%q is not what its tag %s says", n.Value, n.Tag)}
		}
		v.kind = k
		return nil
	}
	v.kind = str
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		v.kind = plainKind(n.Value)
	}
	return nil
}

// mapping reads the pairs: of equal keys the last counts, and what `<<` merges
// in counts less than the mapping's own.
func (r *reader) mapping(n *yaml.Node, v *value, depth int) error {
	var merged []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, err := r.read(n.Content[i], depth+1)
		if err != nil {
			return err
		}
		val, err := r.read(n.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		if n.Content[i].Style == 0 && key.text == "<<" && key.kind != list && key.kind != mapping {
			in, err := mergedPairs(val)
			if err != nil {
				return err
			}
			merged = append(merged, in...)
			continue
		}
		if key.kind == list || key.kind == mapping {
			return &badYAML{line: key.line, reason: "a key has to be a word"}
		}
		if j := indexKey(v.pairs, key); j >= 0 {
			r.warn(key.line, fmt.Sprintf("the key %s is there twice; the last one counts (the other is in line %d)", key.text, v.pairs[j].key.line))
			v.pairs = slices.Delete(v.pairs, j, j+1)
		}
		v.pairs = append(v.pairs, pair{key, val})
	}
	for _, p := range merged {
		if indexKey(v.pairs, p.key) < 0 {
			v.pairs = append(v.pairs, p)
		}
	}
	return nil
}

// mergedPairs are those of the mapping, or of the list of mappings, after `<<`.
// Earlier ones count.
func mergedPairs(v *value) ([]pair, error) {
	sources := []*value{v}
	if v.kind == list {
		sources = v.items
	}
	var pairs []pair
	for _, s := range sources {
		if s.kind != mapping {
			return nil, &badYAML{line: s.line, reason: "<< needs a mapping, or a list of mappings"}
		}
		for _, p := range s.pairs {
			if indexKey(pairs, p.key) < 0 {
				pairs = append(pairs, p)
			}
		}
	}
	return pairs, nil
}

func indexKey(pairs []pair, key *value) int {
	return slices.IndexFunc(pairs, func(p pair) bool { return p.key.kind == key.kind && p.key.text == key.text })
}

// plainKind is what YAML 1.1 takes a scalar without quotes for.
func plainKind(text string) kind {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return null
	case "yes", "Yes", "YES", "no", "No", "NO", "true", "True", "TRUE", "false", "False", "FALSE", "on", "On", "ON", "off", "Off", "OFF":
		return boolean
	case "=", "<<":
		return other
	}
	if strings.ContainsAny(text[:1], "+-.0123456789") && numberOrDate(text) {
		return other
	}
	return str
}

// numberOrDate follows the types int, float and timestamp of YAML 1.1.
func numberOrDate(text string) bool {
	if strings.Trim(text, "0123456789abcdefABCDEFxinINTtZ_+-.: \t") != "" {
		return false // as most patterns; the expressions below are slow
	}
	for _, form := range []string{
		`[-+]?0b[0-1_]+`, `[-+]?0[0-7_]+`, `[-+]?(?:0|[1-9][0-9_]*)`, `[-+]?0x[0-9a-fA-F_]+`, `[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+`,
		`[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?`, `\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?`, `[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*`,
		`[-+]?\.(?:inf|Inf|INF)`, `\.(?:nan|NaN|NAN)`,
		`[0-9]{4}-[0-9]{2}-[0-9]{2}`,
		`[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?`,
	} {
		if regexp.MustCompile("^(?:" + form + ")$").MatchString(text) {
			return true
		}
	}
	return false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
