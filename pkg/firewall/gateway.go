// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"net/netip"
	"slices"

	"whonix-networking/pkg/nft"
)

// gateway is the ruleset of the Gateway (contract 5.1).
func (r *rules) gateway() {
	r.natTables(natTable, filterTable, arpTable)
	r.arp()
	r.invalid(input, nft.Drop{})
	r.qubesUpdates()
	r.shieldDNS()
	r.gatewayInput()
	r.add(input, nft.Drop{})
	r.add(forward, nft.Reject{})
	r.invalidOutput()
	r.unansweredOutside()
	r.gatewayOutput()
}

// natTables creates the tables and base chains of the roles that redirect.
// The ip6 nat table is there only where the kernel has IPv6 (D36).
func (r *rules) natTables(tables ...nft.Table) {
	at := 2 // behind inet nat and inet filter
	if r.s.IPv6 {
		tables = slices.Insert(tables, at, nat6Table)
	}
	r.base(tables...)
	r.filterChains()
	if slices.Contains(tables, arpTable) {
		r.reversePath()
		r.localOnly()
	}
	r.chain(natPrerouting, "nat", "prerouting", priorityDstnat, "")
	r.chain(natOutput, "nat", "output", priorityDstnat, "")
	if r.s.IPv6 {
		r.chain(nat6Output, "nat", "output", priorityDstnat, "")
	}
}

// internal is the union of INT_IF and INT_TIF, in that order.
func (g *Gateway) internal() []nft.Interface { return union(g.Internal, g.InternalTunnel) }

// internalTunnel is the same with INT_TIF first.
func (g *Gateway) internalTunnel() []nft.Interface { return union(g.InternalTunnel, g.Internal) }

func union(a, b []nft.Interface) []nft.Interface {
	out := slices.Clone(a)
	for _, i := range b {
		if !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	return out
}

// reversePath drops what comes from inside with a source that does not belong
// there, before connection tracking: the reply to it would leave through the
// external interface and carry the user's address (D38). An address probe of
// IPv6 has no source yet.
func (r *rules) reversePath() {
	r.chain(reversePath, "filter", "prerouting", priorityRaw, "accept")
	unspecified := nft.Net{Text: "::", First: netip.IPv6Unspecified(), Last: netip.IPv6Unspecified()}
	for _, i := range r.s.Gateway.internal() {
		from := nft.IIfName{Interface: i}
		r.add(reversePath, nft.Accept{}, from, nft.SAddr{Net: unspecified}, nft.ICMP6Type{"nd-neighbor-solicit"})
		r.add(reversePath, nft.Drop{}, from, nft.ReversePathMissing{})
	}
}

// localOnly drops what comes from inside and, behind the redirections, is not
// for this machine. Were it forwarded first and rejected then, the kernel's
// answers on the way (time exceeded, fragmentation needed, the rejection)
// would come for every address but the Gateway's own, and so tell a
// Workstation which one that is.
func (r *rules) localOnly() {
	r.chain(localOnly, "filter", "prerouting", priorityRouted, "accept")
	for _, i := range r.s.Gateway.internal() {
		r.add(localOnly, nft.Drop{}, nft.IIfName{Interface: i},
			nft.DAddrType{Not: true, Types: []string{"local", "broadcast", "multicast"}})
	}
}

// arp keeps the internal side of ARP to the addresses that belong there: a
// Workstation could otherwise ask for, or be shown, the external one (D39).
func (r *rules) arp() {
	r.chain(arpInput, "filter", "input", 0, "accept")
	r.chain(arpOutput, "filter", "output", 0, "accept")
	g := r.s.Gateway
	for _, i := range g.internal() {
		nets, own := g.arpAddresses(i)
		if len(nets) == 0 {
			r.info("INFO: no IPv4 address known on " + i.String() + ", not filtering ARP there")
			continue
		}
		r.add(arpInput, nft.Drop{}, nft.IIfName{Interface: i}, nft.ARPRequest{}, nft.ARPTarget{Not: true, Nets: nets})
		if own.IsValid() {
			r.add(arpOutput, nft.SetARPSender{Addr: own}, nft.OIfName{Interface: i}, nft.ARPRequest{}, nft.ARPSender{Not: true, Nets: nets})
		}
	}
}

// arpAddresses are the IPv4 addresses that internal interface i may answer
// for: its own ones, or, where it has none yet, the configured destinations.
// own is the first of its own, if any is known.
func (g *Gateway) arpAddresses(i nft.Interface) (nets []nft.Net, own netip.Addr) {
	for _, a := range g.OwnAddresses[i] {
		if a.Is4() {
			nets = append(nets, nft.NetOf(a))
		}
	}
	if len(nets) > 0 {
		if !i.Wildcard {
			own = nets[0].First
		}
		return nets, own
	}
	for _, d := range g.Destinations {
		if d.Family() == "ip" {
			nets = append(nets, d)
		}
	}
	if len(nets) == 1 && nets[0].First == nets[0].Last {
		own = nets[0].First
	}
	return nets, own
}

// qubesUpdates sends the account of the updates cache through Tor.
func (r *rules) qubesUpdates() {
	g := r.s.Gateway
	if g.VMUpdates == nil || r.s.Timesync {
		return
	}
	who, fresh := nft.SKUID{User: *g.VMUpdates}, nft.CTState{"new"}
	lo4, lo6 := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	for _, to := range []struct {
		proto string
		port  uint16
	}{{"udp", g.DNSGateway}, {"tcp", g.TransGateway}} {
		r.add(natOutput, nft.DNAT{To: netip.AddrPortFrom(lo4, to.port)}, nft.IPProtocol{Protos: []string{to.proto}}, who, fresh)
		r.add(natOutput, nft.DNAT{To: netip.AddrPortFrom(lo6, to.port)}, nft.IP6NextHdr(to.proto), who, fresh)
	}
}

// unansweredOutside is the second wall against D38: where nothing is served to
// the outside, nothing is answered there.
func (r *rules) unansweredOutside() {
	if r.s.serves() {
		return
	}
	for _, e := range r.s.External {
		if !slices.ContainsFunc(r.s.Gateway.internal(), e.Overlaps) {
			r.add(output, nft.Drop{}, nft.OIfName{Interface: e}, nft.CTReply{})
		}
	}
}
