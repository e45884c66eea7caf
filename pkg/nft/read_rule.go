// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"slices"
	"strconv"
	"strings"
)

// ruleReader reads the parts of one rule.
type ruleReader struct {
	text   string // of all
	tokens []token
	at     int
	parts  []Part
}

// rule reads a rule up to the end of its line.
func (r *textReader) rule() *ReadRule {
	list := slices.DeleteFunc(slices.Clone(r.statement()), func(t token) bool { return t.text == endOfLine })
	rule := &ReadRule{Line: r.peek().line}
	if len(list) == 0 {
		return rule
	}
	rule.Line = list[0].line
	rule.Text = oneLine(r.text[list[0].start:list[len(list)-1].end])
	rr := &ruleReader{text: r.text, tokens: list}
	for rr.at < len(rr.tokens) {
		rr.read()
	}
	rule.Parts = rr.parts
	return rule
}

// oneLine is a text with every run of blanks and newlines as one blank.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func (r *ruleReader) peek() string {
	if r.at < len(r.tokens) && !r.tokens[r.at].quoted {
		return r.tokens[r.at].text
	}
	return ""
}

func (r *ruleReader) next() string {
	if r.at >= len(r.tokens) {
		return ""
	}
	r.at++
	return r.tokens[r.at-1].text
}

func (r *ruleReader) accept(words ...string) bool {
	if t := r.peek(); t != "" && slices.Contains(words, t) {
		r.at++
		return true
	}
	return false
}

func (r *ruleReader) add(p Part) { r.parts = append(r.parts, p) }

// opaque gives the rule up from the token numbered from on.
func (r *ruleReader) opaque(from int) {
	r.add(Opaque{oneLine(r.text[r.tokens[from].start:r.tokens[len(r.tokens)-1].end])})
	r.at = len(r.tokens)
}

// read reads one part.
func (r *ruleReader) read() {
	from := r.at
	switch word := r.next(); word {
	case "counter":
		r.skipPairs("packets", "bytes", "name")
	case "log":
		r.skipPairs("prefix", "group", "snaplen", "queue-threshold", "level", "flags")
	case "comment":
		r.next()
	case "limit", "quota":
		r.limit(word)
	case "accept", "drop", "continue", "return":
		r.add(Action{Kind: word})
	case "jump", "goto":
		r.add(Action{Kind: word, To: r.next()})
	case "reject":
		r.reject()
	case "redirect", "masquerade", "dnat", "snat":
		r.translation(word, from)
	default:
		r.condition(word, from)
	}
}

// skipPairs skips options that have one value each, and lists of flags.
func (r *ruleReader) skipPairs(options ...string) {
	for r.accept(options...) {
		r.next()
		for r.accept(",") {
			r.next()
		}
	}
}

// limit reads what matches until something is used up.
func (r *ruleReader) limit(word string) {
	for r.accept("rate", "name", "over", "until", "burst", "used") || r.amount() {
	}
	r.add(Cond{Key: word, Unknown: "depends on how much came before"})
}

// amount skips a number and its unit.
func (r *ruleReader) amount() bool {
	t := r.peek()
	if t != "" && t[0] >= '0' && t[0] <= '9' {
		r.at++
		r.accept("bytes", "kbytes", "mbytes", "packets", "bytes/second", "kbytes/second", "mbytes/second")
		return true
	}
	return false
}

func (r *ruleReader) reject() {
	a := Action{Kind: "reject"}
	if r.accept("with") {
		a.With = r.next()
		r.accept("type")
		r.next()
	}
	r.add(a)
}

// translation reads the destination of a translation: ADDRESS, :PORT or both.
func (r *ruleReader) translation(kind string, from int) {
	a := Action{Kind: kind}
	r.accept("ip", "ip6")
	if r.accept("to") {
		a.To = r.next()
		if !strings.ContainsAny(a.To, ".:") || r.peek() == "map" || r.peek() == "." {
			r.opaque(from)
			return
		}
	}
	r.accept("flags")
	for r.accept("random", "fully-random", "persistent", ",") {
	}
	r.add(a)
}

// plainKeys are conditions of one word; those that follow `meta` too.
func plainKeys() []string {
	return []string{"iifname", "oifname", "iif", "oif", "skuid", "skgid", "mark", "l4proto", "nfproto", "protocol", "pkttype", "length",
		"priority", "cpu", "iiftype", "oiftype", "iifgroup", "oifgroup", "cgroup", "rtclassid", "nftrace", "time", "day", "hour", "ibrname", "obrname"}
}

// headers are conditions of two words.
func headers() []string {
	return []string{"ip", "ip6", "tcp", "udp", "icmp", "icmpv6", "ct", "th", "sctp", "dccp", "udplite", "esp", "ah", "comp", "ether", "vlan",
		"arp", "frag", "hbh", "rt", "mh", "dst", "socket"}
}

// condition reads a condition, or gives up.
func (r *ruleReader) condition(word string, from int) {
	if r.tokens[from].quoted {
		r.opaque(from)
		return
	}
	key := word
	switch {
	case word == "meta":
		key = r.next()
		if !slices.Contains(plainKeys(), key) {
			r.opaque(from)
			return
		}
	case word == "fib":
		key = r.fib()
	case slices.Contains(headers(), word):
		key += " " + r.next()
	case !slices.Contains(plainKeys(), word):
		r.opaque(from)
		return
	}
	if r.accept("set") {
		r.change(key, from)
		return
	}
	c, ok := r.operands(Cond{Key: key})
	if !ok {
		r.opaque(from)
		return
	}
	r.add(c)
}

// fib reads what is asked of the routes, up to the result that is asked for.
func (r *ruleReader) fib() string {
	words := []string{"fib"}
	for r.at < len(r.tokens) {
		w := r.next()
		words = append(words, w)
		if w == "type" || w == "oif" || w == "oifname" {
			if r.peek() != "." {
				break
			}
		}
	}
	return strings.Join(words, " ")
}

// change reads what a rule changes. Marks decide nothing that is not unknown
// anyhow; any other change is.
func (r *ruleReader) change(key string, from int) {
	harmless := []string{"mark", "ct mark", "nftrace", "priority"}
	c, ok := r.operands(Cond{Key: key})
	if !ok || !slices.Contains(harmless, key) || c.Mask != nil || len(c.Values) != 1 {
		r.opaque(from)
	}
}

// operands reads what a field is compared with.
func (r *ruleReader) operands(c Cond) (Cond, bool) {
	if r.peek() == "vmap" || r.peek() == "map" {
		return c, false
	}
	if r.accept("&") {
		if c.Mask = r.bits(); c.Mask == nil {
			return c, false
		}
	}
	switch {
	case r.accept("!="):
		c.Not = true
	case r.accept("!"): // tcp flags ! a,b: none of the bits
		c.Mask, c.Values = r.bits(), []string{"0x0"}
		return c, c.Mask != nil
	case r.accept("=="):
		c.Exact = true
	case r.accept("<"):
		if n, err := strconv.ParseUint(r.peek(), 10, 32); err == nil && n > 0 {
			r.next()
			c.Values = []string{"0-" + strconv.FormatUint(n-1, 10)}
			return c, true
		}
		c.Unknown = "a comparison of size"
	case r.accept(">", "<=", ">="):
		c.Unknown = "a comparison of size"
	}
	if r.peek() == "{" {
		return r.braces(c)
	}
	list := r.bits()
	if list == nil {
		return c, false
	}
	c.Values = list
	if r.accept("/") { // value / mask
		c.Values, c.Mask = list, r.bits()
		return c, c.Mask != nil
	}
	return c, r.peek() != "." && r.peek() != "vmap" && r.peek() != "map"
}

// braces reads a set.
func (r *ruleReader) braces(c Cond) (Cond, bool) {
	from := r.at
	for r.at < len(r.tokens) && r.peek() != "}" {
		r.at++
	}
	r.at++
	if r.at > len(r.tokens) {
		return c, false
	}
	values, ok := valuesOf(r.tokens[from:r.at])
	c.Values, c.Braces = values, true
	return c, ok
}

// bits reads a value, or several joined by `,` or `|`, also in parentheses.
func (r *ruleReader) bits() []string {
	open := r.accept("(")
	var out []string
	for r.at < len(r.tokens) {
		t := r.tokens[r.at]
		if !t.quoted && (len(t.text) == 0 || strings.Contains(signs, t.text[:1]) || t.text == "." || t.text == "/") {
			return nil
		}
		out = append(out, r.next())
		if !r.accept(",", "|") {
			break
		}
	}
	if open && !r.accept(")") {
		return nil
	}
	return out
}
