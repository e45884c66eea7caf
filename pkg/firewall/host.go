// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import "whonix-networking/pkg/nft"

// host is the ruleset of a machine that runs the virtual machines (contract
// 5.3).
func (r *rules) host() {
	s, h := r.s, r.s.Host
	r.natTables(natTable, filterTable)
	r.invalid(input, nft.Drop{})
	r.qubesUpdates()
	r.gatewayInput()
	r.add(input, nft.Drop{})
	for _, b := range h.ForwardIf {
		r.add(forward, nft.Accept{}, nft.IIfName{Interface: b})
		r.add(forward, nft.Accept{}, nft.OIfName{Interface: b}, nft.CTState{"established", "related"})
	}
	r.add(forward, nft.Reject{})
	r.invalidOutput()
	if s.Tunnel {
		r.add(output, nft.Accept{}, nft.OIfName{Interface: s.TunnelInterface})
	}
	r.add(output, nft.Accept{}, nft.OIfName{Interface: loopback})
	r.add(output, nft.Accept{}, nft.CTState{"established"})
	r.add(output, nft.Accept{}, neighbours())
	r.routerSolicits()
	if s.Tunnel {
		r.toEach(output, nft.Accept{}, h.VPNServers)
	} else {
		r.toEach(output, nft.Accept{}, s.Gateway.NonTor)
	}
	if s.Clearnet != nil {
		r.add(output, nft.Accept{}, nft.SKUID{User: *s.Clearnet})
	}
	if h.AllowOutgoing {
		r.add(output, nft.Accept{})
	}
	r.add(output, nft.Reject{})
}
