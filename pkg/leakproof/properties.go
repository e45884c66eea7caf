// SPDX-License-Identifier: GPL-3.0-or-later

// Package leakproof proves of a ruleset that nothing leaks: not by trying
// packets, but for all packets that there can be.
//
// What is proved is in this file, property by property. Connections are proved
// by their first packets: a later packet can pass as established only after a
// first one passed. What a ruleset asks that the model does not know is taken
// for possible both ways, so a property is called proved only if it holds
// either way.
package leakproof

import "whonix-networking/pkg/fdd"

// Properties are what is proved, in order.
func Properties() []Property {
	return []Property{
		{"P1", "nothing is forwarded", []Role{Gateway, Workstation, Host, Template}, (*prover).forwards},
		{"P2", "whatever the Gateway accepts from a Workstation ends at Tor", []Role{Gateway}, (*prover).endsAtTor},
		{"P3", "only Tor and the named accounts and networks are reached from this machine", []Role{Gateway, Host}, (*prover).sends},
		{"P4", "IPv6 is treated as IPv4 is", []Role{Gateway, Workstation, Host, Template}, (*prover).familiesAlike},
		{"P5", "timesync-fail-closed lets nothing through that full does not, and of Tor's ports nobody reaches but sdwdate's", []Role{Gateway, Workstation}, (*prover).timesyncSubset},
		{"P6", "lockdown lets nothing pass", []Role{Gateway, Workstation, Host, Template}, (*prover).lockdown},
		{"P7", "the Workstation sends nothing but what the Gateway takes", []Role{Workstation, Template}, (*prover).workstationSends},
		{"P9", "no packet of a Workstation, whatever its source, makes the Gateway send anything to the Internet", []Role{Gateway}, (*prover).spoofed},
		{"P10", "from the network nothing is taken in but what options open", []Role{Gateway, Workstation, Host, Template}, (*prover).takesIn},
	}
}

// Property is one of what is proved, for the roles that it makes sense for.
// P8, that no option weakens these unless it is named, is what the others do
// with their permits.
type Property struct {
	ID, Statement string
	Roles         []Role
	check         func(*prover) *Result
}

// first is the packets that can begin a connection, or belong to none.
func (p *prover) first() fdd.Set {
	return p.Not(p.Is(fdd.State, fdd.N(fdd.Established)))
}

// outside is the packets that leave through, or came through, any interface
// but loopback and those towards Workstations.
func (p *prover) outside(f fdd.Field) fdd.Set {
	return p.Not(p.Or(p.Is(f, fdd.Value{}), p.Is(f, fdd.Name("lo")), p.Diff(p.inside[f], p.external[f])))
}

// neighbours is the messages by which IPv6 finds a neighbour: they go no
// further than the link, and route nothing.
func (p *prover) neighbours() fdd.Set {
	return p.And(p.Is(fdd.Family, fdd.IPv6), p.Is(fdd.Proto, fdd.N(fdd.ICMPv6)), p.Range(fdd.Type, fdd.N(neighbourSolicit), fdd.N(neighbourAdvert)))
}

// P1.
func (p *prover) forwards() *Result {
	return p.judge("P1", p.passage().forwarded, claim{entry: prerouting, verb: "is forwarded"}, fdd.None)
}

// P2.
func (p *prover) endsAtTor() *Result {
	taken := p.narrow(p.takenInside(), p.first())
	return p.judge("P2", taken, claim{entry: prerouting, verb: "is accepted from a Workstation"}, p.neighbours())
}

// P3.
func (p *prover) sends() *Result {
	return p.judge("P3", p.leaving(), claim{entry: output, verb: "is sent out"}, p.neighbours())
}

// P7.
func (p *prover) workstationSends() *Result {
	return p.judge("P7", p.leaving(), claim{entry: output, verb: "is sent out"}, p.neighbours())
}

// P10.
func (p *prover) takesIn() *Result {
	taken := p.narrow(p.passage().taken, p.And(p.outside(fdd.In), p.first()))
	return p.judge("P10", taken, claim{entry: prerouting, verb: "is taken in from the network"}, p.neighbours())
}

// takenInside is what the Gateway accepts from Workstations.
func (p *prover) takenInside() []branch {
	return p.narrow(p.passage().taken, p.inside[fdd.In])
}

// leaving is the first packets that this machine sends elsewhere. What is
// redirected to the machine itself does not leave.
func (p *prover) leaving() (out []branch) {
	loopback4 := p.And(p.Is(fdd.Family, fdd.IPv4), p.Range(fdd.Dst, fdd.N(127<<24), fdd.N(128<<24-1)))
	loopback6 := p.And(p.Is(fdd.Family, fdd.IPv6), p.Is(fdd.Dst, fdd.N(1)))
	back := p.Or(loopback4, loopback6)
	for _, b := range p.narrow(p.passage().sent, p.And(p.outside(fdd.Out), p.first())) {
		switch b.by.Kind {
		case "redirect":
			continue
		case "dnat":
			b.now = p.Without(b.now, fdd.Exactly(back))
		}
		if b.now.May != fdd.None {
			out = append(out, b)
		}
	}
	return out
}

// P9: the answers to what a Workstation sends with a source that is not routed
// back to it. Packets that are dropped are not answered; those that are
// accepted, rejected or looked at on the way to elsewhere may be.
func (p *prover) spoofed() *Result {
	foreign := p.And(p.inside[fdd.In], p.Is(fdd.Return, fdd.N(0)), p.Not(p.nobody(fdd.Src)))
	all := p.passage()
	taken, refused := nothing(), p.Both(all.rejected, fdd.Exactly(foreign))
	for _, b := range p.narrow(all.taken, foreign) {
		taken = p.Either(taken, b.now)
	}
	for _, b := range p.narrow(all.routed, p.Diff(foreign, p.ours())) {
		refused = p.Either(refused, b.now)
	}
	answers := p.send(p.And(p.Or(p.answers(taken.May), p.refusals(refused.May)), p.outside(fdd.Out)))
	tracked := p.Range(fdd.State, fdd.N(fdd.New), fdd.N(fdd.Related))
	certain := p.And(p.Or(p.answers(p.And(taken.Must, tracked)), p.refusals(p.And(refused.Must, tracked))), tracked)
	for i := range answers {
		answers[i].now.Must = p.And(answers[i].now.Must, certain)
	}
	prefer := *p.prefer
	prefer[fdd.State] = []fdd.Value{fdd.N(fdd.Established), fdd.N(fdd.Related)}
	prefer[fdd.Direction] = []fdd.Value{fdd.N(fdd.Reply)}
	prefer[fdd.Flags] = []fdd.Value{fdd.N(2 | 16)}
	prefer[fdd.SrcPort], prefer[fdd.DstPort] = prefer[fdd.DstPort], prefer[fdd.SrcPort]
	return p.judge("P9", answers, claim{entry: output, verb: "answers a Workstation that used this address as its own", prefer: &prefer}, fdd.None)
}

// nobody is the packets with an address that no other machine can have.
func (p *prover) nobody(f fdd.Field) fdd.Set {
	in := func(family fdd.Value, first, last fdd.Value) fdd.Set {
		return p.And(p.Is(fdd.Family, family), p.Range(f, first, last))
	}
	return p.Or(
		in(fdd.IPv4, fdd.N(0), fdd.N(1<<24-1)), in(fdd.IPv4, fdd.N(127<<24), fdd.N(128<<24-1)), in(fdd.IPv4, fdd.N(224<<24), fdd.N(1<<32-1)),
		in(fdd.IPv6, fdd.N(0), fdd.N(1)), in(fdd.IPv6, fdd.Value{Hi: 0xff << 56}, fdd.Value{Hi: ^uint64(0), Lo: ^uint64(0)}))
}

// refusals is the errors and resets that packets are answered with that are
// rejected, or that cannot be sent on: the kernel relates them to the connection,
// or to none.
func (p *prover) refusals(a fdd.Set) fdd.Set {
	return p.And(p.answers(a), p.Range(fdd.State, fdd.N(fdd.Related), fdd.N(fdd.Untracked)))
}

// answers is whatever this machine may answer to the packets of a: to their
// source, with the connection that they belong to, if they do.
func (p *prover) answers(a fdd.Set) (out fdd.Set) {
	state := func(first, last uint64) fdd.Set { return p.Range(fdd.State, fdd.N(first), fdd.N(last)) }
	untracked := state(fdd.Invalid, fdd.Untracked)
	for _, kind := range []struct{ of, is fdd.Set }{
		{p.And(a, p.Is(fdd.Direction, fdd.N(fdd.Original))), p.And(p.Is(fdd.Direction, fdd.N(fdd.Reply)), state(fdd.Established, fdd.Related))},
		{p.And(a, p.Is(fdd.Direction, fdd.N(fdd.Reply))), p.And(p.Is(fdd.Direction, fdd.N(fdd.Original)), state(fdd.Established, fdd.Related))},
		{p.And(a, untracked), p.Or(untracked, p.Is(fdd.State, fdd.N(fdd.New)))},
	} {
		for _, family := range []fdd.Value{fdd.IPv4, fdd.IPv6} {
			to := p.OneOf(fdd.Dst, p.Intervals(p.And(kind.of, p.Is(fdd.Family, family)), fdd.Src))
			out = p.Or(out, p.And(kind.is, p.Is(fdd.Family, family), to))
		}
	}
	return p.And(out, p.Valid())
}
