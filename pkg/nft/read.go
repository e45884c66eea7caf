// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Ruleset is what a text says, once all of it has been carried out: a script's
// commands, or what `nft list ruleset` prints.
type Ruleset struct {
	Chains   []*ReadChain
	Problems []Problem // what was not understood outside of rules
}

// Problem is a part of a text that was not understood.
type Problem struct {
	Line   int
	Text   string
	Reason string
}

// String is the problem on one line.
func (p Problem) String() string { return fmt.Sprintf("line %d: %s: %s", p.Line, p.Text, p.Reason) }

// ReadChain is a chain that was read; a nil Base makes it a regular one.
type ReadChain struct {
	Chain Chain
	Base  *Base
	Line  int
	Rules []*ReadRule
}

// ReadRule is a rule that was read, part by part from left to right.
type ReadRule struct {
	Line  int
	Text  string // without the command and the chain
	Parts []Part
}

// Part is a Cond, an Action or an Opaque.
type Part interface{ part() }

// Cond is a condition: that the field called Key has, or with Not has not, one
// of the values.
type Cond struct {
	Key     string // as in nft(8), with one blank: "tcp dport"
	Not     bool
	Exact   bool     // `==` was written: all bits are meant, not any
	Mask    []string // the bits that are looked at, if not all
	Values  []string // single ones, ranges a-b, or networks
	Braces  bool     // the values were a set, not a single one or a list of bits
	Unknown string   // why it is not known what this asks, if so
}

// Action is what a rule does: accept, drop, reject, continue, return, jump,
// goto, redirect, dnat, snat, masquerade.
type Action struct {
	Kind string
	To   string // chain of a jump, destination of a translation
	With string // kind of rejection
}

// Opaque is a part of a rule of which nothing is known: it may match or not,
// and do anything.
type Opaque struct{ Text string }

func (Cond) part()   {}
func (Action) part() {}
func (Opaque) part() {}

// namedSet is a set that rules refer to.
type namedSet struct {
	elements []string
	unknown  string
}

// textReader carries out the commands of a text.
type textReader struct {
	text   string
	tokens []token
	at     int
	rules  Ruleset
	sets   map[Chain]*namedSet // by table and name
}

// Read reads the text of nft(8): a script, or a listed ruleset. What it does
// not understand is in Problems, or in the rule as an Opaque: it is never left
// out.
func Read(text []byte) *Ruleset {
	r := &textReader{text: string(text), tokens: tokens(string(text)), sets: map[Chain]*namedSet{}}
	for r.at < len(r.tokens) {
		r.command()
	}
	r.fillSets()
	return &r.rules
}

func (r *textReader) peek() token {
	if r.at < len(r.tokens) {
		return r.tokens[r.at]
	}
	return token{text: endOfLine, start: len(r.text), end: len(r.text)}
}

func (r *textReader) next() token {
	t := r.peek()
	r.at = min(r.at+1, len(r.tokens))
	return t
}

// word takes a name, which is empty where the statement has none.
func (r *textReader) word() string {
	if t := r.peek(); !t.quoted && len(t.text) > 0 && strings.Contains(signs, t.text[:1]) {
		return ""
	}
	return r.next().text
}

func (r *textReader) accept(text string) bool {
	if t := r.peek(); t.text == text && !t.quoted && r.at < len(r.tokens) {
		r.at++
		return true
	}
	return false
}

func (r *textReader) atEnd() bool {
	t := r.peek()
	return !t.quoted && (t.text == endOfLine || t.text == ";" || t.text == "}")
}

// problem notes what is not understood, up to the end of the statement.
func (r *textReader) problem(from token, reason string) {
	rest := r.statement()
	end := from.end
	if len(rest) > 0 {
		end = rest[len(rest)-1].end
	}
	r.rules.Problems = append(r.rules.Problems, Problem{from.line, oneLine(r.text[from.start:max(end, from.start)]), reason})
}

// statement takes the tokens up to the end of a line outside of braces.
func (r *textReader) statement() []token {
	from, depth := r.at, 0
	for r.at < len(r.tokens) {
		t := r.peek()
		if !t.quoted {
			switch t.text {
			case "{":
				depth++
			case "}":
				if depth == 0 {
					return r.tokens[from:r.at]
				}
				depth--
			case endOfLine, ";":
				if depth == 0 {
					return r.tokens[from:r.at]
				}
			}
		}
		r.at++
	}
	return r.tokens[from:min(r.at, len(r.tokens))]
}

// command carries out one command of a script, or reads a table of a listing.
func (r *textReader) command() {
	first := r.next()
	switch first.text {
	case endOfLine, ";":
	case "table":
		r.table(first)
	case "add", "create", "insert":
		r.add(first)
	case "delete", "destroy", "flush", "reset":
		r.remove(first)
	case "chain", "rule", "set", "map", "element":
		r.at--
		r.add(first)
	default:
		r.problem(first, "is no command that is understood")
		r.at++
	}
}

func families() []string { return []string{"ip", "ip6", "inet", "arp", "bridge", "netdev"} }

// tableName reads a table's name, with or without its family.
func (r *textReader) tableName() Table {
	t := Table{Family: "ip", Name: r.word()}
	if slices.Contains(families(), t.Name) && !r.atEnd() && r.peek().text != "{" {
		t.Family, t.Name = t.Name, r.word()
	}
	return t
}

func (r *textReader) add(first token) {
	switch what := r.next(); what.text {
	case "table":
		r.table(first)
	case "chain":
		r.chain(r.tableName(), first)
	case "rule":
		t := r.tableName()
		name := r.word()
		c := r.findChain(Chain{t, name})
		if c == nil {
			r.problem(first, "no such chain")
			return
		}
		if n := r.peek().text; n == "position" || n == "index" || n == "handle" {
			r.problem(first, "a rule at a position is not understood")
			return
		}
		rule := r.rule()
		if c.Rules = append(c.Rules, rule); first.text == "insert" {
			c.Rules = slices.Insert(c.Rules[:len(c.Rules)-1], 0, rule)
		}
	case "set":
		r.set(r.tableName())
	case "element":
		t := r.tableName()
		s := r.setOf(t, r.word())
		r.elements(s)
	default:
		r.problem(first, "is no command that is understood")
	}
}

// remove carries out what takes something away.
func (r *textReader) remove(first token) {
	switch what := r.next().text; {
	case what == "ruleset" && first.text == "flush":
		if r.atEnd() {
			r.rules.Chains, r.sets = nil, map[Chain]*namedSet{}
			return
		}
		r.problem(first, "is no command that is understood")
	case what == "table" && first.text != "reset":
		t := r.tableName()
		if first.text == "flush" {
			for _, c := range r.rules.Chains {
				if c.Chain.Table == t {
					c.Rules = nil
				}
			}
			return
		}
		r.rules.Chains = slices.DeleteFunc(r.rules.Chains, func(c *ReadChain) bool { return c.Chain.Table == t })
		for name := range r.sets {
			if name.Table == t {
				delete(r.sets, name)
			}
		}
	case what == "chain" && first.text != "reset":
		name := Chain{Table: r.tableName()}
		name.Name = r.word()
		if first.text != "flush" {
			r.rules.Chains = slices.DeleteFunc(r.rules.Chains, func(c *ReadChain) bool { return c.Chain == name })
		} else if c := r.findChain(name); c != nil {
			c.Rules = nil
		}
	default:
		r.problem(first, "is no command that is understood")
	}
}

func (r *textReader) findChain(name Chain) *ReadChain {
	for _, c := range r.rules.Chains {
		if c.Chain == name {
			return c
		}
	}
	return nil
}

// table reads a table's name and, in braces, what is in it.
func (r *textReader) table(first token) {
	t := r.tableName()
	if !r.accept("{") {
		if !r.atEnd() {
			r.problem(first, "is no table that is understood")
		}
		return
	}
	for r.at < len(r.tokens) {
		switch k := r.next(); k.text {
		case "}":
			return
		case endOfLine, ";":
		case "chain":
			r.chain(t, k)
		case "set":
			r.set(t)
		case "comment":
			r.statement()
		case "flags":
			r.problem(k, "a table that is not always there is not understood")
		default:
			r.problem(k, "is nothing in a table that is understood")
		}
	}
}

// chain reads a chain's name and, in braces, its hook and its rules.
func (r *textReader) chain(t Table, first token) {
	name := Chain{t, r.word()}
	c := r.findChain(name)
	if c == nil {
		c = &ReadChain{Chain: name, Line: first.line}
		r.rules.Chains = append(r.rules.Chains, c)
	}
	if !r.accept("{") {
		return
	}
	for r.at < len(r.tokens) {
		switch k := r.peek(); k.text {
		case "}":
			r.at++
			return
		case endOfLine, ";":
			r.at++
		case "type":
			r.base(c)
		case "policy":
			r.at++
			if c.Base == nil {
				r.problem(k, "a policy without a hook")
				continue
			}
			c.Base.Policy = r.word()
		case "comment":
			r.statement()
		default:
			c.Rules = append(c.Rules, r.rule())
		}
	}
}

// base reads `type T hook H priority P`.
func (r *textReader) base(c *ReadChain) {
	first := r.peek()
	words := r.statement()
	b := &Base{}
	for i := 0; i+1 < len(words); i += 2 {
		switch words[i].text {
		case "type":
			b.Type = words[i+1].text
		case "hook":
			b.Hook = words[i+1].text
		case "priority":
			p, ok := priority(words[i+1:])
			if !ok {
				r.problem(first, "is no priority that is understood")
			}
			b.Priority, i = p, len(words)
		default:
			r.problem(first, "is no hook that is understood")
			i = len(words)
		}
	}
	c.Base = b
}

// priority reads a priority: a number, a name, or a name and a number more or
// less.
func priority(words []token) (int, bool) {
	named := map[string]int{"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
	if n, err := strconv.Atoi(words[0].text); err == nil {
		return n, len(words) == 1
	}
	n, ok := named[words[0].text]
	if len(words) == 1 || !ok {
		return n, ok
	}
	if len(words) != 3 {
		return 0, false
	}
	by, err := strconv.Atoi(words[2].text)
	if words[1].text == "-" {
		by = -by
	}
	return n + by, err == nil && (words[1].text == "-" || words[1].text == "+")
}

func (r *textReader) setOf(t Table, name string) *namedSet {
	key := Chain{t, name}
	if r.sets[key] == nil {
		r.sets[key] = &namedSet{}
	}
	return r.sets[key]
}

// set reads a named set.
func (r *textReader) set(t Table) {
	s := r.setOf(t, r.word())
	if !r.accept("{") {
		return
	}
	for r.at < len(r.tokens) {
		switch k := r.next(); k.text {
		case "}":
			return
		case endOfLine, ";":
		case "type", "size", "comment", "policy", "auto-merge", "gc-interval", "typeof":
			for _, w := range r.statement() {
				if w.text == "." {
					s.unknown = "a set of several fields at once"
				}
			}
		case "flags":
			for _, w := range r.statement() {
				if w.text != "interval" && w.text != "constant" && w.text != "," {
					s.unknown = "a set that changes by itself"
				}
			}
		case "elements":
			if !r.accept("=") {
				s.unknown = "its elements are not understood"
			}
			r.elements(s)
		default:
			s.unknown = k.text + " is not understood"
			r.statement()
		}
	}
}

// elements reads the elements of a set, in braces.
func (r *textReader) elements(s *namedSet) {
	values, ok := valuesOf(r.statement())
	if !ok {
		s.unknown = "its elements are not understood"
	}
	s.elements = append(s.elements, values...)
}

// valuesOf reads `{ a, b, c }`; it is false if an element is more than a word.
func valuesOf(list []token) (out []string, ok bool) {
	if len(list) < 2 || list[0].text != "{" || list[len(list)-1].text != "}" {
		return nil, false
	}
	wanted := true
	for _, t := range list[1 : len(list)-1] {
		switch {
		case t.text == "," && !t.quoted:
			wanted = true
		case t.text == endOfLine:
		case !wanted || !t.quoted && len(t.text) == 1 && slices.Contains([]string{"{", "}", "(", ")", "=", "&", "|", ":", "."}, t.text):
			return nil, false
		default:
			out = append(out, t.text)
			wanted = false
		}
	}
	return out, true
}

// fillSets puts the elements of named sets where rules refer to them.
func (r *textReader) fillSets() {
	for _, c := range r.rules.Chains {
		for _, rule := range c.Rules {
			for i, p := range rule.Parts {
				cond, ok := p.(Cond)
				if !ok || len(cond.Values) != 1 || cond.Values[0] == "" || cond.Values[0][0] != '@' {
					continue
				}
				s := r.sets[Chain{c.Chain.Table, cond.Values[0][1:]}]
				switch {
				case s == nil:
					cond.Unknown = "no such set"
				case s.unknown != "":
					cond.Unknown = s.unknown
				}
				if s != nil {
					cond.Values, cond.Braces = s.elements, true
				}
				rule.Parts[i] = cond
			}
		}
	}
}
