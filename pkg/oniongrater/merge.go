// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"fmt"
	"slices"
	"strings"
)

// merged unites the filters of all sources, given in the order of their
// priority. The first filter is the union; those that say `combine: true` stay
// filters of their own after it, with their own hosts (defect 35). What is
// doubtful is told to warn.
func merged(sources []*value, name string, warn func(string)) []*value {
	m := merger{warn: warn}
	union := &value{kind: mapping}
	own := []*value{}
	for _, source := range sources {
		for _, filter := range source.items {
			filter = normal(filter)
			if c := filter.get("combine"); c != nil && c.yes() {
				base := strings.TrimSuffix(filter.file[strings.LastIndexByte(filter.file, '/')+1:], profileSuffix)
				filter.set("name", &value{kind: str, text: base, file: filter.file, line: filter.line})
				own = append(own, filter)
				continue
			}
			union = m.merge(union, filter, nil)
		}
	}
	union.set("name", &value{kind: str, text: name})
	return append([]*value{union}, own...)
}

// set gives a mapping a value for a key.
func (v *value) set(key string, to *value) {
	k := &value{kind: str, text: key, file: v.file, line: v.line}
	if i := indexKey(v.pairs, k); i >= 0 {
		v.pairs[i].value = to
		return
	}
	v.pairs = append(v.pairs, pair{k, to})
}

// normal copies a filter in a form that can be merged: one spelling of each
// command, option and event, of which the last counts as it does for the
// proxy, and lists where one word stood for a list of it.
func normal(filter *value) *value {
	out := &value{kind: mapping, file: filter.file, line: filter.line}
	for _, p := range filter.pairs {
		v := p.value
		switch p.key.text {
		case "commands", "events", "confs":
			if v.kind == mapping {
				v = oneSpelling(v, p.key.text == "confs")
			}
		case "hosts", "users", "apparmor-profiles", "exe-paths":
			v = asList(v)
		}
		out.pairs = append(out.pairs, pair{p.key, v})
	}
	return out
}

func asList(v *value) *value {
	if v.kind == list || v.kind == null {
		return v
	}
	return &value{kind: list, items: []*value{v}, file: v.file, line: v.line}
}

func oneSpelling(v *value, confs bool) *value {
	out := &value{kind: mapping, file: v.file, line: v.line}
	for _, p := range v.pairs {
		if i := indexFold(out.pairs, p.key); i >= 0 {
			out.pairs = slices.Delete(out.pairs, i, i+1)
		}
		if confs {
			p.value = asList(p.value)
		}
		out.pairs = append(out.pairs, p)
	}
	return out
}

func indexFold(pairs []pair, key *value) int {
	return slices.IndexFunc(pairs, func(p pair) bool { return strings.EqualFold(p.key.text, key.text) })
}

// merger folds values into one. Values are never changed, always made anew.
type merger struct {
	warn func(string)
}

// merge unites two values at a path of keys; the first has the priority.
func (m *merger) merge(first, second *value, path []string) *value {
	switch {
	case first.kind == null:
		return second
	case second.kind == null:
		return first
	case first.kind == mapping && second.kind == mapping:
		return m.mappings(first, second, path)
	case first.kind == list && second.kind == list:
		if len(path) > 0 && path[0] == "events" {
			return eventResponses(first, second)
		}
		return lists(first, second)
	}
	if !equal(first, second) {
		m.warn(fmt.Sprintf("%s: %s differs from that in %s, which counts", second.where(), strings.Join(path, ": "), first.where()))
	}
	return first
}

func (m *merger) mappings(first, second *value, path []string) *value {
	out := &value{kind: mapping, pairs: slices.Clone(first.pairs), file: first.file, line: first.line}
	for _, p := range second.pairs {
		index := indexKey
		if len(path) == 1 && slices.Contains([]string{"commands", "events", "confs"}, path[0]) {
			index = indexFold
		}
		i := index(out.pairs, p.key)
		if i < 0 {
			out.pairs = append(out.pairs, p)
			continue
		}
		have := &out.pairs[i]
		have.value = m.member(have.value, p, append(slices.Clip(path), p.key.text))
	}
	return out
}

// member unites what two mappings hold for one key.
func (m *merger) member(first *value, p pair, path []string) *value {
	switch p.key.text {
	case "match-exe-paths", "match-users":
		return &value{kind: str, text: "*", file: first.file, line: first.line}
	case "suppress", "match-hosts":
		if first.kind == null {
			return p.value
		}
		return first
	case "tor-browser-mode", "restrict-stream-events", "strict":
		// What takes something away is never lost.
		if truthy(first) {
			return first
		}
		return p.value
	case "name":
		if len(path) == 1 {
			return first
		}
	}
	return m.merge(first, p.value, path)
}

// lists appends what is not there yet. A rule with the pattern of an earlier
// one would never be reached, and is left out.
func lists(first, second *value) *value {
	out := &value{kind: list, items: slices.Clone(first.items), file: first.file, line: first.line}
	for _, item := range second.items {
		if !slices.ContainsFunc(first.items, func(have *value) bool { return equal(have, item) || samePattern(have, item) }) {
			out.items = append(out.items, item)
		}
	}
	return out
}

// eventResponses is lists for what rewrites an event: a catch-all of one file
// must not come before another's patterns (defect 36), so it goes to the end.
// What a file itself has after its catch-all stays unreachable.
func eventResponses(first, second *value) *value {
	a, last := untilCatchAll(first)
	b, other := untilCatchAll(second)
	if last == nil {
		last = other
	}
	out := lists(a, b)
	if last != nil {
		out.items = append(out.items, last)
	}
	return out
}

func untilCatchAll(v *value) (*value, *value) {
	for i, item := range v.items {
		if p, ok := patternText(item); ok && (p == ".*" || p == ".+") {
			return &value{kind: list, items: v.items[:i:i], file: v.file, line: v.line}, item
		}
	}
	return v, nil
}

func samePattern(a, b *value) bool {
	p, ok := patternText(a)
	q, also := patternText(b)
	return ok && also && p == q
}

// patternText is the pattern of a rule in either form.
func patternText(v *value) (string, bool) {
	if v.kind == str {
		return v.text, true
	}
	if p := v.get("pattern"); p != nil && p.kind == str {
		return p.text, true
	}
	return "", false
}

// equal compares what values hold, not where they are.
func equal(a, b *value) bool {
	if a.kind != b.kind || len(a.items) != len(b.items) || len(a.pairs) != len(b.pairs) {
		return false
	}
	if a.kind == boolean {
		return a.yes() == b.yes()
	}
	if a.kind != null && a.text != b.text {
		return false
	}
	for i := range a.items {
		if !equal(a.items[i], b.items[i]) {
			return false
		}
	}
	for _, p := range a.pairs {
		i := indexKey(b.pairs, p.key)
		if i < 0 || !equal(p.value, b.pairs[i].value) {
			return false
		}
	}
	return true
}
