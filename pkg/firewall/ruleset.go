// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"fmt"

	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// Our own tables. Nothing else is touched.
var (
	filterTable = nft.Table{Family: "inet", Name: "filter"}
	natTable    = nft.Table{Family: "inet", Name: "nat"}
	nat6Table   = nft.Table{Family: "ip6", Name: "nat"}
	arpTable    = nft.Table{Family: "arp", Name: "whonix"}
)

// Chains of our own tables.
var (
	input         = nft.Chain{Table: filterTable, Name: "input"}
	forward       = nft.Chain{Table: filterTable, Name: "forward"}
	output        = nft.Chain{Table: filterTable, Name: "output"}
	reversePath   = nft.Chain{Table: filterTable, Name: "prerouting"}
	localOnly     = nft.Chain{Table: filterTable, Name: "localonly"}
	natPrerouting = nft.Chain{Table: natTable, Name: "prerouting"}
	natOutput     = nft.Chain{Table: natTable, Name: "output"}
	nat6Output    = nft.Chain{Table: nat6Table, Name: "output"}
	arpInput      = nft.Chain{Table: arpTable, Name: "input"}
	arpOutput     = nft.Chain{Table: arpTable, Name: "output"}
)

var loopback = nft.Interface{Name: "lo"}

// Ruleset computes the script for the given settings, and what the log says
// meanwhile.
func Ruleset(s *Settings) (nft.Script, []Note) {
	r := &rules{s: s}
	switch {
	case s.Template:
		r.template()
	case s.Role == whonix.Gateway:
		r.gateway()
	case s.Role == whonix.Host:
		r.host()
	default:
		r.workstation()
	}
	return r.script, r.notes
}

// Note is one line for the log; an Info one is printed only with --info.
type Note struct {
	Text string
	Info bool
}

// rules collects a script in the order in which it is computed.
type rules struct {
	s      *Settings
	script nft.Script
	notes  []Note
}

func (r *rules) add(c nft.Chain, v nft.Verdict, matches ...nft.Match) {
	r.script = append(r.script, nft.Rule{Chain: c, Matches: matches, Verdict: v})
}

func (r *rules) note(text string) { r.notes = append(r.notes, Note{Text: text}) }
func (r *rules) info(text string) { r.notes = append(r.notes, Note{Text: text, Info: true}) }

// base replaces the given tables by empty ones, within the transaction.
func (r *rules) base(tables ...nft.Table) {
	for _, t := range tables {
		r.script = append(r.script, nft.AddTable{Table: t})
	}
	for _, t := range tables {
		r.script = append(r.script, nft.DeleteTable{Table: t})
	}
	for _, t := range tables {
		r.script = append(r.script, nft.AddTable{Table: t})
	}
}

// filterChains adds the three chains in which everything is dropped that no
// rule accepts.
func (r *rules) filterChains() {
	for _, c := range []nft.Chain{input, forward, output} {
		r.chain(c, "filter", c.Name, 0, dropPolicy)
	}
}

// dropPolicy is the policy of the filter chains.
const dropPolicy = "drop"

func (r *rules) chain(c nft.Chain, kind, hook string, priority int, policy string) {
	r.script = append(r.script, nft.AddChain{Chain: c, Base: &nft.Base{Type: kind, Hook: hook, Priority: priority, Policy: policy}})
}

// Priorities of hooks, see nft(8). dstnat is where destinations are rewritten.
const (
	priorityRaw    = -300 // before connection tracking
	priorityDstnat = -100
	priorityRouted = -90 // right behind dstnat: destinations are final
)

// invalid refuses packets that no honest program sends: those that connection
// tracking cannot place, impossible combinations of TCP flags, late fragments.
func (r *rules) invalid(c nft.Chain, v nft.Verdict) {
	const all = "fin|syn|rst|psh|ack|urg"
	r.add(c, v, nft.CTState{"invalid"})
	r.add(c, v, nft.TCPFlags{Mask: all, Value: "fin|syn|rst|ack"})
	r.add(c, v, nft.TCPFlags{Mask: "fin|syn", Value: "fin|syn"})
	r.add(c, v, nft.TCPFlags{Mask: "syn|rst", Value: "syn|rst"})
	r.add(c, v, nft.Fragment{})
	r.add(c, v, nft.TCPFlags{Mask: all, Value: all})
	r.add(c, v, nft.TCPFlags{Mask: all, Value: "0x0"})
}

// invalidOutput is invalid for what the machine itself sends, unless the
// configuration keeps such packets.
func (r *rules) invalidOutput() {
	if !r.s.KeepInvalid {
		r.invalid(output, nft.Reject{})
	}
}

// neighbours are the two messages that IPv6 needs to find a neighbour. Router
// advertisements and redirects, which reroute, are none of them (D3).
func neighbours() nft.Match {
	return nft.ICMP6Type{"nd-neighbor-solicit", "nd-neighbor-advert"}
}

// routerAdverts accepts router advertisements on the interfaces meant for it.
func (r *rules) routerAdverts() {
	for _, e := range r.s.RouterAdvert {
		r.add(input, nft.Accept{}, nft.IIfName{Interface: e}, nft.ICMP6Type{"nd-router-advert"})
	}
}

// routerSolicits lets the machine ask for router advertisements there.
func (r *rules) routerSolicits() {
	for _, e := range r.s.RouterAdvert {
		r.add(output, nft.Accept{}, nft.OIfName{Interface: e}, nft.ICMP6Type{"nd-router-solicit"})
	}
}

// toEach adds a rule per network, with the matches behind the destination.
func (r *rules) toEach(c nft.Chain, v nft.Verdict, nets []nft.Net, matches ...nft.Match) {
	for _, n := range nets {
		r.add(c, v, append([]nft.Match{nft.DAddr{Net: n}}, matches...)...)
	}
}

// exceptSdwdate ends a note on ports that stay shut before time is right.
func exceptSdwdate() string {
	return fmt.Sprintf(", except %d for sdwdate, because firewall_mode_detected=timesync-fail-closed", whonix.SdwdatePort)
}

// lockedSocksPorts rejects, before time is right, what would reach the network
// through Tor: every SocksPort but sdwdate's, on every local address (D7).
func (r *rules) lockedSocksPorts() {
	for _, p := range r.s.SocksPorts {
		for _, part := range without(p, whonix.SdwdatePort) {
			r.add(output, nft.Reject{}, nft.OIfName{Interface: loopback}, tcp(part))
		}
	}
	r.add(output, nft.Reject{}, nft.OIfName{Interface: loopback}, tcp(customPorts()))
}

// without is the range p less one port: nothing, one or two ranges.
func without(p nft.Ports, port uint16) []nft.Ports {
	if port < p.First || port > p.Last {
		return []nft.Ports{p}
	}
	var out []nft.Ports
	if p.First < port {
		out = append(out, nft.PortRange(p.First, port-1))
	}
	if port < p.Last {
		out = append(out, nft.PortRange(port+1, p.Last))
	}
	return out
}

func tcp(p nft.Ports) nft.Match { return nft.DPort{Proto: "tcp", Ports: p} }
func udp(p nft.Ports) nft.Match { return nft.DPort{Proto: "udp", Ports: p} }

func customPorts() nft.Ports {
	return nft.PortRange(whonix.CustomPortFirst, whonix.CustomPortLast)
}
