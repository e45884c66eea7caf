// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"strings"

	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// workstation is the ruleset of a Workstation (contract 5.2).
func (r *rules) workstation() {
	r.workstationTables()
	r.invalid(input, nft.Drop{})
	r.workstationInput()
	r.add(forward, nft.Drop{})
	r.invalidOutput()
	r.workstationLoopback()
	if r.s.Tunnel {
		r.workstationTunnel()
	} else {
		r.workstationOutput()
	}
	r.add(output, nft.Reject{})
}

// workstationTables has two nat chains without a hook, kept because programs
// look for them.
func (r *rules) workstationTables() {
	r.base(filterTable, natTable)
	r.script = append(r.script, nft.AddChain{Chain: natOutput}, nft.AddChain{Chain: natPrerouting})
	r.filterChains()
}

func (r *rules) workstationInput() {
	s := r.s
	r.add(input, nft.Accept{}, nft.IIfName{Interface: loopback})
	r.add(input, nft.Accept{}, nft.CTState{"established"})
	r.add(input, nft.Accept{}, neighbours())
	r.routerAdverts()
	if s.Tunnel {
		r.add(input, nft.Accept{}, nft.IIfName{Interface: s.TunnelInterface})
	}
	if !s.Timesync {
		r.info("INFO: Opening External TCP port(s): " + orNone(s.ExternalTCPText))
		for _, p := range s.ExternalTCP {
			r.add(input, nft.Accept{}, tcp(p))
		}
		r.info("INFO: Opening External UDP port(s): " + orNone(s.ExternalUDPText))
		for _, p := range s.ExternalUDP {
			r.add(input, nft.Accept{}, udp(p))
		}
		if s.ExternalAll {
			r.info("INFO: EXTERNAL_OPEN_ALL='true', all external ports will be opened")
			r.add(input, nft.Accept{})
		}
	}
	r.inputReject()
}

// inputReject ends the input chain: a reset for TCP in both families (D35), an
// ICMP error for the rest.
func (r *rules) inputReject() {
	r.add(input, nft.RejectReset{}, nft.IPProtocol{Protos: []string{"tcp"}})
	r.add(input, nft.RejectReset{}, nft.NFProto("ipv6"), nft.L4Proto{Protos: []string{"tcp"}})
	r.add(input, nft.Reject{})
}

// workstationLoopback is what every mode allows: loopback, finding the
// neighbours (D2), and replies to connections that were let in (D22).
func (r *rules) workstationLoopback() {
	s := r.s
	if s.Timesync {
		r.note("INFO: not opening Internal TCP ports " + s.SocksPortsText + exceptSdwdate())
		r.lockedSocksPorts()
	}
	r.add(output, nft.Accept{}, nft.OIfName{Interface: loopback})
	r.add(output, nft.Accept{}, neighbours())
	r.routerSolicits()
	if !s.Timesync && s.opensExternal() {
		r.add(output, nft.Accept{}, nft.CTState{"established"}, nft.CTReply{})
	}
}

// workstationTunnel lets out what the tunnel carries, the tunnel itself, and
// the exceptions that are switched on.
func (r *rules) workstationTunnel() {
	s, w := r.s, r.s.Workstation
	full := !s.Timesync
	if full {
		r.add(output, nft.Accept{}, nft.OIfName{Interface: s.TunnelInterface})
		if s.TunnelUser != nil {
			r.add(output, nft.Accept{}, nft.SKUID{User: *s.TunnelUser})
		}
	}
	if w.AllowSdwdate && s.Sdwdate != nil {
		r.toLocalAndGateway(s.Sdwdate)
	}
	if full && w.AllowNoTunnel && s.NoTunnel != nil { // only when time is right: D14
		r.toLocalAndGateway(s.NoTunnel)
	}
	if full && w.AllowLocalNet {
		r.toEach(output, nft.Accept{}, s.LocalNet)
	}
	if w.AllowControlFilter {
		r.toLocalAndGateway(nil, tcp(nft.Port(s.ControlPort)))
	}
	if full && w.AllowTBUpdater {
		r.toEach(output, nft.Accept{}, w.GatewayAddrs, tcp(nft.Port(whonix.TorBrowserUpdatePort)))
	}
	if full && w.AllowSystemcheck && s.Systemcheck != nil {
		r.toLocalAndGateway(s.Systemcheck)
	}
}

// workstationOutput lets TCP out, which the Gateway torifies, and DNS to the
// Gateway; before time is right only sdwdate, systemcheck and the control port.
func (r *rules) workstationOutput() {
	s, w := r.s, r.s.Workstation
	dns := udp(nft.Port(53))
	if !s.Timesync {
		r.toEach(output, nft.Accept{}, w.GatewayAddrs, dns)
		r.toEach(output, nft.Accept{}, w.QubesDNS, dns)
		if w.Qubes && len(w.QubesDNS) == 2 {
			r.note("OK: Qubes DNS firewall rules ok.")
		}
	}
	r.onlyTorifiable()
	switch {
	case s.Timesync:
		for _, u := range []*nft.User{s.Sdwdate, s.Systemcheck} {
			if u != nil {
				r.toLocalAndGateway(u)
			}
		}
		r.toLocalAndGateway(nil, tcp(nft.Port(s.ControlPort)))
	case len(w.AllowList) == 0:
		r.add(output, nft.Accept{})
	default:
		for _, n := range w.AllowList {
			var isTCP nft.Match = nft.IPProtocol{Protos: []string{"tcp"}}
			if n.Family() == "ip6" {
				isTCP = nft.IP6NextHdr("tcp")
			}
			r.add(output, nft.Accept{}, isTCP, nft.DAddr{Net: n})
		}
	}
}

// onlyTorifiable rejects what Tor does not carry, in both families (D1), or
// all but TCP and UDP where UDP is wanted (D25).
func (r *rules) onlyTorifiable() {
	protos := []string{"tcp"}
	if r.s.Workstation.AllowUDP {
		protos = []string{"tcp", "udp"}
	}
	r.add(output, nft.Reject{}, nft.IPProtocol{Not: true, Protos: protos})
	r.add(output, nft.Reject{}, nft.NFProto("ipv6"), nft.L4Proto{Not: true, Protos: protos})
}

// toLocalAndGateway accepts packets to this machine and the Gateway: those of
// user, or with nil everybody's, and only those that agree to the matches.
func (r *rules) toLocalAndGateway(user *nft.User, matches ...nft.Match) {
	var who []nft.Match
	if user != nil {
		who = []nft.Match{nft.SKUID{User: *user}}
	}
	for _, n := range append(localAddrs(), r.s.Workstation.GatewayAddrs...) {
		all := append(append([]nft.Match{}, who...), nft.DAddr{Net: n})
		r.add(output, nft.Accept{}, append(all, matches...)...)
	}
}

func orNone(text string) string {
	if strings.TrimSpace(text) == "" {
		return "NONE"
	}
	return text
}
