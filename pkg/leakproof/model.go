// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"fmt"
	"slices"

	"whonix-networking/pkg/fdd"
	"whonix-networking/pkg/nft"
)

// Hooks that packets of IP pass.
const (
	prerouting  = "prerouting"
	input       = "input"
	forward     = "forward"
	output      = "output"
	postrouting = "postrouting"
)

// Priority at which connection tracking sees packets, in prerouting and output.
const priorityConntrack = -200

// model is a ruleset as the kernel runs it: which chains, in which order, and
// of each rule the packets that it matches.
type model struct {
	*matcher
	hooks   map[string][]*chain // base chains of each hook, in order
	doubts  []Doubt
	doubted map[Doubt]bool
	all     *passage // once it was asked for
}

// Doubt is a place in a ruleset that is not known exactly, and why.
type Doubt struct {
	Line   int    `json:"line"`
	Text   string `json:"text"`
	Reason string `json:"reason"`
	wide   bool   // it concerns every packet, and no set has that in it
}

// String is the doubt on one line.
func (d Doubt) String() string { return fmt.Sprintf("line %d: %s: %s", d.Line, d.Text, d.Reason) }

// chain is a chain at one place: jumps to the same chain from two hooks are
// two chains here, as conditions may mean something else there.
type chain struct {
	*nft.ReadChain
	family  fdd.Set // packets of the table's family
	nat     bool
	rules   []rule
	outcome *outcome // once it was computed
}

// rule is a rule with the packets it matches.
type rule struct {
	*nft.ReadRule
	match  fdd.Range
	action nft.Action // without Kind for rules that only count
	opaque bool       // anything may happen to the packets it matches
	target *chain     // of jump and goto
	doubt  string
}

// depthMax is how deep jumps may go, as in the kernel.
const depthMax = 16

// newModel compiles a ruleset.
func newModel(m *matcher, rs *nft.Ruleset) *model {
	mod := &model{matcher: m, hooks: map[string][]*chain{}, doubted: map[Doubt]bool{}}
	for _, p := range rs.Problems {
		mod.doubt(Doubt{p.Line, p.Text, p.Reason, true})
	}
	byName := map[nft.Chain]*nft.ReadChain{}
	for _, c := range rs.Chains {
		byName[c.Chain] = c
	}
	for _, c := range rs.Chains {
		if c.Base == nil || c.Chain.Table.Family == "arp" {
			continue
		}
		mod.addBase(c, byName)
	}
	for _, list := range mod.hooks {
		slices.SortStableFunc(list, func(a, b *chain) int { return a.Base.Priority - b.Base.Priority })
	}
	return mod
}

func (m *model) doubt(d Doubt) {
	if !m.doubted[d] {
		m.doubted[d] = true
		m.doubts = append(m.doubts, d)
	}
}

func (m *model) addBase(c *nft.ReadChain, byName map[nft.Chain]*nft.ReadChain) {
	b := c.Base
	known := slices.Contains([]string{prerouting, input, forward, output, postrouting}, b.Hook)
	family, ok := m.familySet(c.Chain.Table.Family)
	if !known || !ok || b.Type != "filter" && b.Type != "nat" && b.Type != "route" {
		m.doubt(Doubt{c.Line, "chain " + c.Chain.String(), "a chain of type " + b.Type + " at hook " + b.Hook + " is not modelled", true})
		return
	}
	where := at{hook: b.Hook, tracked: b.Hook != prerouting && b.Hook != output || b.Priority > priorityConntrack}
	compiled := m.compile(c, where, family, b.Type == "nat", byName, map[*nft.ReadChain]*chain{}, 0)
	m.hooks[b.Hook] = append(m.hooks[b.Hook], compiled)
}

func (m *model) familySet(family string) (fdd.Set, bool) {
	switch family {
	case "inet":
		return fdd.All, true
	case "ip":
		return m.Is(fdd.Family, fdd.IPv4), true
	case "ip6":
		return m.Is(fdd.Family, fdd.IPv6), true
	}
	return fdd.None, false
}

// compile computes what a chain's rules match.
func (m *model) compile(c *nft.ReadChain, where at, family fdd.Set, nat bool, byName map[nft.Chain]*nft.ReadChain, done map[*nft.ReadChain]*chain, depth int) *chain {
	if known, ok := done[c]; ok {
		return known
	}
	out := &chain{ReadChain: c, family: family, nat: nat}
	done[c] = out
	for _, r := range c.Rules {
		compiled := m.rule(r, where)
		if k := compiled.action.Kind; k == "jump" || k == "goto" {
			to := byName[nft.Chain{Table: c.Chain.Table, Name: compiled.action.To}]
			if to == nil || depth >= depthMax {
				compiled.opaque, compiled.doubt = true, "no such chain, or too many jumps"
			} else {
				compiled.target = m.compile(to, where, family, nat, byName, done, depth+1)
			}
		}
		decides := compiled.opaque || compiled.action.Kind != "" && compiled.action.Kind != "continue"
		if compiled.doubt != "" && decides {
			m.doubt(Doubt{r.Line, r.Text, compiled.doubt, false})
		}
		out.rules = append(out.rules, compiled)
	}
	return out
}

// rule computes what a rule matches and does.
func (m *model) rule(r *nft.ReadRule, where at) rule {
	out := rule{ReadRule: r, match: fdd.Exactly(fdd.All)}
	narrow := func(by fdd.Range, doubt string) {
		out.match = m.Both(out.match, by)
		if out.doubt == "" {
			out.doubt = doubt
		}
	}
	for _, p := range r.Parts {
		switch p := p.(type) {
		case nft.Cond:
			narrow(m.match(p, where))
		case nft.Opaque:
			out.opaque = true
			out.doubt = "is not modelled: " + p.Text
		case nft.Action:
			narrow(fdd.Exactly(m.implied(p)), "")
			if _, ok := m.destination(p); !ok {
				out.opaque, out.doubt = true, "this translation is not modelled"
			}
			out.action = p
		}
	}
	return out
}

// implied is the packets that an action can be done to.
func (m *model) implied(a nft.Action) fdd.Set {
	switch {
	case a.Kind == "reject" && a.With == "tcp":
		return m.Is(fdd.Proto, fdd.N(fdd.TCP))
	case a.Kind == "reject" && a.With == "icmp":
		return m.Is(fdd.Family, fdd.IPv4)
	case a.Kind == "reject" && a.With == "icmpv6":
		return m.Is(fdd.Family, fdd.IPv6)
	case a.Kind == "dnat" || a.Kind == "snat":
		if d, ok := m.destination(a); ok && d.addressed {
			return m.Is(fdd.Family, d.family)
		}
	}
	return fdd.All
}
