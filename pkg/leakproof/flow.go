// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
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

// outcome is what became of the packets of one chain.
type outcome struct {
	accept, drop, reject, rest fdd.Range
	opaque                     fdd.Range
	translated                 []translated
}

// translated is the packets that rules translate alike.
type translated struct {
	by      nft.Action
	packets fdd.Range
}

func nothing() fdd.Range { return fdd.Exactly(fdd.None) }

// run sends packets through a base chain.
func (m *model) run(c *chain, in fdd.Range) *outcome {
	o := &outcome{accept: nothing(), drop: nothing(), reject: nothing(), opaque: nothing()}
	other := m.Without(in, fdd.Exactly(c.family))
	o.rest = m.through(c, m.Both(in, fdd.Exactly(c.family)), o)
	if c.Base.Policy == "drop" {
		o.drop = m.Either(o.drop, o.rest)
	} else {
		o.accept = m.Either(o.accept, o.rest)
	}
	o.accept = m.Either(o.accept, other)
	if !o.accept.Known() { // what cannot have gone another way has gone this way, by whatever rule
		elsewhere := m.Or(o.drop.May, o.reject.May, o.opaque.May)
		for _, t := range o.translated {
			elsewhere = m.Or(elsewhere, t.packets.May)
		}
		o.accept.Must = m.Or(o.accept.Must, m.Diff(in.Must, elsewhere))
	}
	return o
}

// through sends packets through the rules of a chain, and returns those that
// come out of its end.
func (m *model) through(c *chain, in fdd.Range, o *outcome) fdd.Range {
	left := nothing() // by return, or by the end of a goto's target
	for i := range c.rules {
		r := &c.rules[i]
		hit := m.Both(in, r.match)
		if hit.May == fdd.None {
			continue
		}
		if r.opaque {
			m.anything(&in, hit, o)
			continue
		}
		switch r.action.Kind {
		case "", "continue":
			continue
		case "accept":
			o.accept = m.Either(o.accept, hit)
		case "drop":
			o.drop = m.Either(o.drop, hit)
		case "reject":
			o.reject = m.Either(o.reject, hit)
		case "return":
			left = m.Either(left, hit)
		case "goto":
			left = m.Either(left, m.through(r.target, hit, o))
		case "jump":
			back := m.through(r.target, hit, o)
			in = m.Either(m.Without(in, r.match), back)
			continue
		default:
			o.translate(m, r.action, hit)
		}
		in = m.Without(in, r.match)
	}
	return m.Either(left, in)
}

// anything is what a rule that is not understood does: all of it, perhaps.
func (m *model) anything(in *fdd.Range, hit fdd.Range, o *outcome) {
	perhaps := fdd.Range{Must: fdd.None, May: hit.May}
	o.opaque = m.Either(o.opaque, perhaps)
	o.accept = m.Either(o.accept, perhaps)
	o.drop = m.Either(o.drop, perhaps)
	*in = fdd.Range{Must: m.Diff(in.Must, hit.May), May: in.May}
}

func (o *outcome) translate(m *model, by nft.Action, hit fdd.Range) {
	for i := range o.translated {
		if o.translated[i].by == by {
			o.translated[i].packets = m.Either(o.translated[i].packets, hit)
			return
		}
	}
	o.translated = append(o.translated, translated{by, hit})
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
	for _, t := range o.translated {
		out = append(out, branch{from: t.packets, by: t.by, now: fdd.Range{
			Must: m.translate(t.packets.Must, t.by, hook), May: m.translate(t.packets.May, t.by, hook),
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
