// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"maps"
	"slices"
	"strings"

	"whonix-networking/pkg/fdd"
	"whonix-networking/pkg/nft"
)

// branch is packets on their way through the kernel that were translated
// alike.
type branch struct {
	from fdd.Range // as they were before the translation
	now  fdd.Range
	by   nft.Action // the translation of the destination; without Kind for none
	wild bool       // by something that is not known: now is anything
}

// outcome is what a chain, or a part of it, decides: which packets get which
// end. It is computed once, for all packets; what becomes of some of them is
// what they have in common with it.
type outcome struct {
	accept, drop, reject fdd.Range
	left                 fdd.Range // by return, or at the end of a goto's target
	opaque               fdd.Range // anything may have become of them
	taken                fdd.Range // decided about; others go on to the next rule
	translated           map[nft.Action]fdd.Range
}

func nothing() fdd.Range { return fdd.Exactly(fdd.None) }

func newOutcome() *outcome {
	n := nothing()
	return &outcome{accept: n, drop: n, reject: n, left: n, opaque: n, taken: n, translated: map[nft.Action]fdd.Range{}}
}

// run sends packets through a base chain.
func (m *model) run(c *chain, in fdd.Range) *outcome {
	if c.outcome == nil {
		c.outcome = m.base(c)
	}
	all := c.outcome
	mine := m.Both(in, fdd.Exactly(c.family))
	o := newOutcome()
	o.accept = m.Either(m.Without(in, fdd.Exactly(c.family)), m.Both(mine, all.accept))
	o.drop, o.reject, o.opaque = m.Both(mine, all.drop), m.Both(mine, all.reject), m.Both(mine, all.opaque)
	for by, packets := range all.translated {
		if hit := m.Both(mine, packets); hit.May != fdd.None {
			o.translated[by] = hit
		}
	}
	return o
}

// base is what a base chain does with all packets.
func (m *model) base(c *chain) *outcome {
	o := m.list(c, c.rules)
	rest := m.Either(o.left, m.Complement(o.taken))
	if c.Base.Policy == "drop" {
		o.drop = m.Either(o.drop, rest)
	} else {
		o.accept = m.Either(o.accept, rest)
	}
	if !o.accept.Known() { // what cannot have gone another way has gone this way, by whatever rule
		elsewhere := m.Or(o.drop.May, o.reject.May, o.opaque.May)
		for _, packets := range o.translated {
			elsewhere = m.Or(elsewhere, packets.May)
		}
		o.accept.Must = m.Or(o.accept.Must, m.Not(elsewhere))
	}
	return o
}

// list is what a list of rules decides, by halves: so the diagrams that are
// made on the way are few, and most of them small.
func (m *model) list(c *chain, rules []rule) *outcome {
	switch len(rules) {
	case 0:
		return newOutcome()
	case 1:
		return m.single(&rules[0])
	}
	half := len(rules) / 2
	a, b := m.list(c, rules[:half]), m.list(c, rules[half:])
	behind := func(x fdd.Range) fdd.Range { return m.Without(x, a.taken) }
	a.accept, a.drop = m.Either(a.accept, behind(b.accept)), m.Either(a.drop, behind(b.drop))
	a.reject, a.left = m.Either(a.reject, behind(b.reject)), m.Either(a.left, behind(b.left))
	a.opaque = m.Either(a.opaque, behind(b.opaque))
	for by, packets := range b.translated {
		a.translate(m, by, behind(packets))
	}
	a.taken = m.Either(a.taken, b.taken)
	return a
}

// single is what one rule decides.
func (m *model) single(r *rule) *outcome {
	o := newOutcome()
	hit := r.match
	if r.opaque {
		perhaps := fdd.Range{Must: fdd.None, May: hit.May}
		o.opaque, o.accept, o.drop, o.taken = perhaps, perhaps, perhaps, perhaps
		return o
	}
	switch r.action.Kind {
	case "", "continue":
		return o
	case "accept":
		o.accept = hit
	case "drop":
		o.drop = hit
	case "reject":
		o.reject = hit
	case "return":
		o.left = hit
	case "goto", "jump":
		return m.through(r)
	default:
		o.translated[r.action] = hit
	}
	o.taken = hit
	return o
}

// through is what a jump or goto decides: what comes back from a jump goes on.
func (m *model) through(r *rule) *outcome {
	if r.target.outcome == nil {
		r.target.outcome = m.list(r.target, r.target.rules)
	}
	sub, o := r.target.outcome, newOutcome()
	within := func(x fdd.Range) fdd.Range { return m.Both(r.match, x) }
	o.accept, o.drop, o.reject, o.opaque = within(sub.accept), within(sub.drop), within(sub.reject), within(sub.opaque)
	for by, packets := range sub.translated {
		o.translate(m, by, within(packets))
	}
	back := m.Either(sub.left, m.Complement(sub.taken))
	if r.action.Kind == "goto" {
		o.left, o.taken = within(back), r.match
	} else {
		o.taken = within(m.Complement(back))
	}
	return o
}

func (o *outcome) translate(m *model, by nft.Action, hit fdd.Range) {
	if hit.May == fdd.None {
		return
	}
	before, ok := o.translated[by]
	if !ok {
		before = nothing()
	}
	o.translated[by] = m.Either(before, hit)
}

// hook sends packets through all chains of a hook, and returns those that pass.
// What is rejected on the way comes back too: it is answered.
func (m *model) hook(name string, in []branch) (out []branch, rejected fdd.Range) {
	rejected = nothing()
	for _, c := range m.hooks[name] {
		var next []branch
		for _, b := range in {
			if c.nat {
				next = append(next, m.natChain(c, name, b)...)
				continue
			}
			o := m.run(c, b.now)
			b.now = o.accept
			rejected = m.Either(rejected, o.reject)
			if b.now.May != fdd.None {
				next = append(next, b)
			}
		}
		in = next
	}
	return in, rejected
}

// natChain sends packets through a chain that translates: the first ones of
// connections that are not translated yet. Later ones of a connection are
// translated as the first was. Related ones may be either: a helper of
// connection tracking may have set their translation up.
func (m *model) natChain(c *chain, hook string, b branch) (out []branch) {
	if b.by.Kind != "" || b.wild {
		return []branch{b}
	}
	fresh := m.Is(fdd.State, fdd.N(fdd.New))
	expected := m.Diff(m.Is(fdd.State, fdd.N(fdd.Related)), m.Or(m.Is(fdd.Proto, fdd.N(fdd.ICMP)), m.Is(fdd.Proto, fdd.N(fdd.ICMPv6))))
	o := m.run(c, m.Both(b.now, fdd.Exactly(m.Or(fresh, expected))))
	later := m.Without(b.now, fdd.Exactly(fresh))
	if c.translates() {
		later = m.laterOnes(later, hook)
	}
	rest := b
	rest.now = m.Either(later, o.accept)
	if rest.now.May != fdd.None {
		out = append(out, rest)
	}
	for _, by := range slices.SortedFunc(maps.Keys(o.translated), func(a, b nft.Action) int { return strings.Compare(a.Kind+" "+a.To, b.Kind+" "+b.To) }) {
		packets := o.translated[by]
		out = append(out, branch{from: packets, by: by, now: fdd.Range{
			Must: m.translate(packets.Must, by, hook), May: m.translate(packets.May, by, hook),
		}})
	}
	if o.opaque.May != fdd.None {
		now := m.And(m.Forget(o.opaque.May, fdd.Src, fdd.Dst, fdd.SrcPort, fdd.DstPort, fdd.Route, fdd.NAT), m.Valid())
		out = append(out, branch{from: o.opaque, wild: true, now: fdd.Range{Must: fdd.None, May: now}})
	}
	return out
}

// laterOnes is packets of known connections behind a hook that translates:
// of connections that are translated the addresses and ports are others.
func (m *model) laterOnes(a fdd.Range, hook string) fdd.Range {
	known := m.Or(m.Is(fdd.State, fdd.N(fdd.Established)), m.Is(fdd.State, fdd.N(fdd.Related)))
	fields := []fdd.Field{fdd.Src, fdd.SrcPort}
	if hook == prerouting || hook == output || hook == input {
		fields = []fdd.Field{fdd.Dst, fdd.DstPort, fdd.Route, fdd.NAT, fdd.Src, fdd.SrcPort}
	}
	changed := m.And(m.Forget(m.And(a.May, known), fields...), m.Valid())
	return fdd.Range{Must: a.Must, May: m.Or(a.May, changed)}
}

// translates reports whether some rule of a chain translates, or may.
func (c *chain) translates() bool {
	for i := range c.rules {
		r := &c.rules[i]
		switch r.action.Kind {
		case "redirect", "dnat", "snat", "masquerade":
			return true
		case "jump", "goto":
			if r.target != nil && r.target.translates() {
				return true
			}
		}
		if r.opaque {
			return true
		}
	}
	return false
}

// whole is a branch of all the packets of a set.
func whole(a fdd.Set) []branch { return []branch{{from: fdd.Exactly(a), now: fdd.Exactly(a)}} }

// narrow keeps, of each branch, the packets of a.
func (m *model) narrow(in []branch, a fdd.Set) (out []branch) {
	for _, b := range in {
		if b.now = m.Both(b.now, fdd.Exactly(a)); b.now.May != fdd.None {
			out = append(out, b)
		}
	}
	return out
}

// ours is the packets that are for this machine.
func (m *model) ours() fdd.Set {
	return m.Or(m.Is(fdd.Route, fdd.N(fdd.Local)), m.Range(fdd.Route, fdd.N(fdd.Broadcast), fdd.N(fdd.Multicast)))
}

// possible is the packets that chains can see. Fragments of IPv6 are put
// together before any of them; of IPv4 a socket can ask that they are not
// (IP_NODEFRAG, ip(7)).
func (m *model) possible() fdd.Set {
	fragments := m.And(m.Is(fdd.Family, fdd.IPv6), m.Is(fdd.Fragment, fdd.N(1)))
	return m.Diff(m.Valid(), m.Or(fragments, m.impossibleStates()))
}

// impossibleStates is the packets in states that connection tracking never
// gives them: see the kernel's nf_conntrack_proto_tcp.c, nf_conntrack_proto_icmp.c
// and nf_conntrack_proto_icmpv6.c.
func (m *model) impossibleStates() fdd.Set {
	whole := m.Is(fdd.Fragment, fdd.N(0))
	of := func(field fdd.Field, values ...uint64) fdd.Set {
		var list []fdd.Interval
		for _, v := range values {
			list = append(list, fdd.Interval{First: fdd.N(v), Last: fdd.N(v)})
		}
		return m.OneOf(field, list)
	}
	fresh := m.Is(fdd.State, fdd.N(fdd.New))
	begins := func(f uint64) bool {
		const fin, syn, rst, ack = 1, 2, 4, 16
		return f&(fin|rst) == 0 && f&(syn|ack) != 0 && f&(syn|ack) != syn|ack
	}
	var flags []uint64
	for f := range uint64(256) {
		if begins(f) {
			flags = append(flags, f)
		}
	}
	tcp := m.And(m.Is(fdd.Proto, fdd.N(fdd.TCP)), whole, m.Not(of(fdd.Flags, flags...)), fresh)
	v4 := m.And(m.Is(fdd.Family, fdd.IPv4), m.Is(fdd.Proto, fdd.N(fdd.ICMP)), whole)
	v6 := m.And(m.Is(fdd.Family, fdd.IPv6), m.Is(fdd.Proto, fdd.N(fdd.ICMPv6)), whole)
	icmp := m.And(v4, m.Not(of(fdd.Type, echoRequest, 13, 15, 17)), fresh)
	icmpv6 := m.And(v6, m.Not(of(fdd.Type, echoRequest6, 139)), fresh)
	// What finds neighbours, routers and listeners is let alone.
	link := of(fdd.Type, listenerQuery, listenerReport, listenerDone, routerSolicit, routerAdvert, neighbourSolicit, neighbourAdvert, listenerReport2)
	tracked := m.Range(fdd.State, fdd.N(fdd.New), fdd.N(fdd.Related))
	return m.Or(tcp, icmp, icmpv6, m.And(v6, link, tracked))
}

// passage is everything that a ruleset lets through.
type passage struct {
	routed    []branch  // by prerouting
	taken     []branch  // by input
	rejected  fdd.Range // by input
	forwarded []branch
	sent      []branch // by output
}

// passage sends all packets through all hooks, once. No translation changes by
// which interface a packet came in, nor the state of its connection, so what is
// asked of some packets only can be asked of the outcome.
func (m *model) passage() *passage {
	if m.all == nil {
		w := &passage{}
		a := m.And(m.possible(), m.Is(fdd.Out, fdd.Value{}), m.Not(m.Is(fdd.In, fdd.Value{})), m.Is(fdd.NAT, fdd.Value{}))
		w.routed, _ = m.hook(prerouting, whole(a))
		w.taken, w.rejected = m.hook(input, m.narrow(w.routed, m.ours()))
		w.forwarded = m.pass(w.routed)
		w.sent = m.send(fdd.All)
		m.all = w
	}
	return m.all
}

// pass sends what prerouting let through on to other machines.
func (m *model) pass(routed []branch) []branch {
	var leaving []branch
	for _, b := range m.narrow(routed, m.Not(m.Is(fdd.Route, fdd.N(fdd.Local)))) {
		out := m.And(m.Not(m.Is(fdd.Out, fdd.Value{})), m.Valid())
		b.now = fdd.Range{Must: m.And(m.Forget(b.now.Must, fdd.Out), out), May: m.And(m.Forget(b.now.May, fdd.Out), out)}
		leaving = append(leaving, b)
	}
	out, _ := m.hook(forward, leaving)
	out, _ = m.hook(postrouting, out)
	return out
}

// send sends this machine's own packets. What is redirected leaves by loopback;
// where a translated destination is routed is not known.
func (m *model) send(a fdd.Set) []branch {
	a = m.And(a, m.possible(), m.Is(fdd.In, fdd.Value{}), m.Not(m.Is(fdd.Out, fdd.Value{})), m.Is(fdd.NAT, fdd.Value{}))
	out, _ := m.hook(output, whole(a))
	somewhere, lo := m.And(m.Not(m.Is(fdd.Out, fdd.Value{})), m.Valid()), m.Is(fdd.Out, fdd.Name("lo"))
	for i := range out {
		b := &out[i]
		leaves := somewhere
		switch b.by.Kind {
		case "redirect":
			leaves = lo
		case "dnat":
		default:
			continue
		}
		b.now = fdd.Range{Must: m.And(m.Forget(b.now.Must, fdd.Out), leaves), May: m.And(m.Forget(b.now.May, fdd.Out), leaves)}
	}
	out, _ = m.hook(postrouting, out)
	return out
}
