// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"net/netip"

	"whonix-networking/pkg/nft"
)

// gatewayOutput is what the Gateway itself may send.
func (r *rules) gatewayOutput() {
	s, g := r.s, r.s.Gateway
	if s.Tunnel {
		r.noWayRoundTor()
		r.add(output, nft.Accept{}, nft.OIfName{Interface: s.TunnelInterface})
	}
	r.gatewayOwnRedirects()
	r.add(output, nft.Accept{}, nft.CTState{"established"})
	r.add(output, nft.Accept{}, neighbours())
	r.routerSolicits()
	if !s.Timesync {
		r.gatewayNetworks()
	} else {
		r.gatewayLocked()
	}
	r.add(output, nft.Accept{}, nft.OIfName{Interface: loopback})
	r.toEach(output, nft.Accept{}, loopbackNets()) // D19
	for _, u := range g.Exempt {
		r.add(output, nft.Accept{}, nft.SKUID{User: u})
	}
	if s.Timesync {
		r.gatewayTimesyncUsers()
	}
	r.add(output, nft.Reject{})
}

// noWayRoundTor rejects, before time is right, what would go through the VPN
// in the clear though it is meant to go through Tor: the account of the updates
// cache, and where the Gateway's own traffic is torified, that. None of it is
// redirected yet.
func (r *rules) noWayRoundTor() {
	s, g := r.s, r.s.Gateway
	if !s.Timesync {
		return
	}
	through := nft.OIfName{Interface: s.TunnelInterface}
	if g.VMUpdates != nil {
		r.add(output, nft.Reject{}, through, nft.SKUID{User: *g.VMUpdates})
	}
	if !g.OwnDNS && !g.OwnTCP {
		return
	}
	for _, u := range g.Exempt {
		r.add(output, nft.Accept{}, through, nft.SKUID{User: u})
	}
	if g.OwnDNS {
		r.add(output, nft.Reject{}, through, udp(nft.Port(53)))
	}
	if g.OwnTCP {
		r.add(output, nft.Reject{}, through, newConnection())
	}
}

// gatewayOwnRedirects sends the Gateway's own traffic through Tor, where that
// is switched on; exempt accounts, local networks and loopback are left alone.
func (r *rules) gatewayOwnRedirects() {
	s, g := r.s, r.s.Gateway
	for _, u := range g.Exempt {
		r.add(natOutput, nft.Return{}, nft.SKUID{User: u})
	}
	if s.Timesync {
		return
	}
	if g.OwnDNS || g.OwnTCP { // D19: never hijack loopback
		r.add(natOutput, nft.Return{}, nft.OIfName{Interface: loopback})
	}
	if g.OwnDNS {
		r.add(natOutput, nft.Redirect{To: nft.Port(g.DNSGateway)}, udp(nft.Port(53)))
	}
	if !s.Tunnel {
		r.toEach(natOutput, nft.Return{}, g.NonTor)
	}
	if g.OwnTCP {
		r.add(natOutput, nft.Redirect{To: nft.Port(g.TransGateway)}, newConnection())
	}
}

// gatewayNetworks accepts the networks that are reached without Tor; in VPN
// mode only those beside the VPN.
func (r *rules) gatewayNetworks() {
	s, g := r.s, r.s.Gateway
	if g.RejectLANDNS {
		for _, u := range g.Exempt {
			r.add(output, nft.Accept{}, nft.SKUID{User: u})
		}
		for _, n := range g.NonTor {
			if !n.First.IsLoopback() {
				r.add(output, nft.Reject{}, nft.DAddr{Net: n}, udp(nft.Port(53)))
				r.add(output, nft.Reject{}, nft.DAddr{Net: n}, tcp(nft.Port(53)))
			}
		}
	}
	if s.Tunnel {
		r.toEach(output, nft.Accept{}, s.LocalNet)
	} else {
		r.toEach(output, nft.Accept{}, g.NonTor)
	}
}

// gatewayLocked rejects, before time is right, local ways into Tor (D7).
func (r *rules) gatewayLocked() {
	s, g := r.s, r.s.Gateway
	r.note("INFO: not opening Internal TCP port(s): " + s.SocksPortsText + exceptSdwdate())
	r.lockedSocksPorts()
	onLoopback := nft.OIfName{Interface: loopback}
	for _, p := range []uint16{g.TransWorkstation, g.TransGateway} {
		r.add(output, nft.Reject{}, onLoopback, tcp(nft.Port(p)))
	}
	for _, p := range []uint16{g.DNSWorkstation, g.DNSGateway} {
		r.add(output, nft.Reject{}, onLoopback, udp(nft.Port(p)))
	}
}

// gatewayTimesyncUsers names who may talk to Tor before time is right. The
// loopback rule before it says the same; these stay as part of the text that
// programs look for.
func (r *rules) gatewayTimesyncUsers() {
	for _, u := range []*nft.User{r.s.Sdwdate, r.s.Systemcheck} {
		if u != nil {
			for _, n := range localAddrs() {
				r.add(output, nft.Accept{}, nft.SKUID{User: *u}, nft.DAddr{Net: n})
			}
		}
	}
	r.toEach(output, nft.Accept{}, localAddrs(), tcp(nft.Port(r.s.ControlPort)))
}

// localAddrs are the loopback addresses that programs use.
func localAddrs() []nft.Net {
	return []nft.Net{nft.NetOf(netip.AddrFrom4([4]byte{127, 0, 0, 1})), nft.NetOf(netip.IPv6Loopback())}
}

// loopbackNets are all loopback addresses.
func loopbackNets() []nft.Net {
	v4 := nft.Net{Text: "127.0.0.0/8", First: netip.AddrFrom4([4]byte{127}), Last: netip.AddrFrom4([4]byte{127, 255, 255, 255})}
	return []nft.Net{v4, nft.NetOf(netip.IPv6Loopback())}
}
