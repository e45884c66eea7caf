// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"fmt"
	"slices"

	"whonix-networking/pkg/leakproof"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// policy is what the settings mean to permit, in the words of the proof. An
// option that weakens a property is named in every proof in which it counts.
func policy(s *Settings, names leakproof.Names) *leakproof.Policy {
	p := &permits{s: s}
	p.Role, p.Timesync, p.Names = leakproof.Role(s.Role.String()), s.Timesync, names
	if s.Template {
		p.Role = leakproof.Template
	}
	for _, e := range s.External {
		p.Outside = append(p.Outside, e.String())
	}
	p.torPorts()
	switch p.Role {
	case leakproof.Gateway:
		for _, i := range s.Gateway.internal() {
			p.Inside = append(p.Inside, i.String())
		}
		p.icmp("P2")
		p.fromWorkstations("P2", "")
		p.gatewaySends()
		p.fromOutside()
		p.insideIsOutside()
	case leakproof.Host:
		p.hostForwards()
		p.hostSends()
		p.fromOutside()
		for _, i := range s.Gateway.internal() {
			p.fromWorkstations("P10", "iifname "+i.String()+" ")
		}
	case leakproof.Workstation:
		p.workstationSends()
		p.toWorkstation()
	}
	return &p.Policy
}

// permits collects the permits of a policy.
type permits struct {
	leakproof.Policy
	s *Settings
}

// plain adds what an option permits by design, weak what whoever reads the
// proof must know of.
func (p *permits) plain(property, option, why string, packets ...string) {
	p.Permits = append(p.Permits, leakproof.Permit{Property: property, Option: option, Why: why, Packets: packets})
}

func (p *permits) weak(property, option, why string, packets ...string) {
	p.Permits = append(p.Permits, leakproof.Permit{Property: property, Option: option, Why: why, Weakens: true, Packets: packets})
}

// either is weak if what is set is not the default.
func (p *permits) either(weak bool, property, option, why string, packets ...string) {
	if weak {
		p.weak(property, option, why, packets...)
	} else {
		p.plain(property, option, why, packets...)
	}
}

func tcpTo(port uint16) string    { return fmt.Sprintf("tcp dport %d", port) }
func tcpPorts(r nft.Ports) string { return fmt.Sprintf("tcp dport %d-%d", r.First, r.Last) }
func udpTo(port uint16) string    { return fmt.Sprintf("udp dport %d", port) }

func daddr(n nft.Net) string { return n.Family() + " daddr " + n.Text }

// each is a condition for each network, with more conditions behind it.
func each(nets []nft.Net, more string) (out []string) {
	for _, n := range nets {
		out = append(out, daddr(n)+more)
	}
	return out
}

// torPorts are the ways into Tor on this machine.
func (p *permits) torPorts() {
	g := &p.s.Gateway
	for _, r := range p.s.SocksPorts {
		p.TorPorts = append(p.TorPorts, tcpPorts(r))
	}
	p.TorPorts = append(p.TorPorts, tcpPorts(customPorts()))
	if p.Role == leakproof.Gateway {
		p.TorPorts = append(p.TorPorts, tcpTo(g.TransGateway), tcpTo(g.TransWorkstation), udpTo(g.DNSGateway), udpTo(g.DNSWorkstation))
	}
	p.plain("P5", "loopback", "what stays on this machine; the ways into Tor are another matter", "oifname lo", "iifname lo")
	for _, n := range loopbackNets() { // in full some of these are redirected, to loopback too
		p.plain("P5", "loopback", "addresses of loopback", `oifname != "lo" `+daddr(n))
	}
	p.plain("P5 Tor", "SDWDATE_USER", "time", tcpTo(whonix.SdwdatePort))
}

// fromWorkstations is what is taken from inside: the ports of Tor. Others that
// an option names are taken for such, and a host has none of them.
func (p *permits) fromWorkstations(id, from string) {
	s, g := p.s, &p.s.Gateway
	if s.Timesync {
		return
	}
	weak := p.Role != leakproof.Gateway
	if g.TransparentTCP {
		p.either(weak || g.TransWorkstation != whonix.TransPortWorkstation, id, "TRANS_PORT_WORKSTATION", "this port is taken for Tor's TransPort", from+tcpTo(g.TransWorkstation))
	}
	if g.TransparentDNS {
		p.either(weak || g.DNSWorkstation != whonix.DNSPortWorkstation, id, "DNS_PORT_WORKSTATION", "this port is taken for Tor's DnsPort", from+udpTo(g.DNSWorkstation))
	}
	if g.ControlFilter {
		p.either(weak || s.ControlPort != whonix.ControlPort, id, "CONTROL_PORT_FILTER_PROXY_PORT", "this port is taken for the control port filter", from+tcpTo(s.ControlPort))
	}
	if !g.Socksified {
		return
	}
	p.either(weak, id, "WORKSTATION_ALLOW_SOCKSIFIED", "these ports are taken for Tor's SocksPorts", from+tcpPorts(customPorts()))
	var own []string
	for _, r := range s.SocksPorts {
		known := r.First == r.Last && slices.ContainsFunc(whonix.SocksPorts(), func(b whonix.Port) bool { return b.First == r.First })
		if known {
			p.either(weak, id, "WORKSTATION_ALLOW_SOCKSIFIED", "these ports are taken for Tor's SocksPorts", from+tcpPorts(r))
		} else {
			own = append(own, from+tcpPorts(r))
		}
	}
	if own != nil {
		p.weak(id, "INTERNAL_OPEN_PORTS", "Workstations reach these ports; that Tor is behind them is not proved", own...)
	}
}

// insideIsOutside names what cannot be helped where an interface leads both
// ways: Tor's ports are open to the outside. What options open to the outside is
// not to be open to Workstations, though.
func (p *permits) insideIsOutside() {
	for _, i := range p.s.Gateway.internal() {
		if slices.ContainsFunc(p.s.External, i.Overlaps) {
			before := len(p.Permits)
			p.fromWorkstations("P10", "iifname "+i.String()+" ")
			for k := range p.Permits[before:] {
				one := &p.Permits[before+k]
				one.Option, one.Why, one.Weakens = "INT_IF", i.String()+" is in EXT_IF too: Tor's ports are open to the outside there", true
			}
		}
	}
}

// icmp is what both sides of a Gateway have in common.
func (p *permits) icmp(id string) {
	in := p.s.Inbound
	if in.FragNeeded {
		p.plain(id, "GATEWAY_ALLOW_INCOMING_ICMP_FRAG_NEEDED", "path MTU of known connections",
			"icmp type destination-unreachable icmp code frag-needed ct state related", "icmpv6 type packet-too-big ct state related")
	}
	if in.Related {
		p.weak(id, "GATEWAY_ALLOW_INCOMING_RELATED_STATE", "whatever connection tracking relates to a known connection is taken in", "ct state related")
	}
	if in.ICMP {
		p.weak(id, "GATEWAY_ALLOW_INCOMING_ICMP", "the machine answers echo requests", "icmp type echo-request", "icmpv6 type echo-request")
	}
}

// gatewaySends is what leaves a Gateway towards the outside.
func (p *permits) gatewaySends() {
	const id = "P3"
	s, g := p.s, &p.s.Gateway
	p.link(id)
	for i, u := range g.Exempt {
		who := fmt.Sprintf("skuid %d", u.UID)
		switch by := g.ExemptBy[i]; by {
		case "TOR_USER", "CLEARNET_USER", "TUNNEL_USER":
			p.plain(id, by, "named accounts", who)
		default:
			p.weak(id, by, "account "+u.Text+" reaches the Internet without Tor", who)
		}
	}
	if s.Tunnel {
		p.weak(id, "VPN_FIREWALL", "every account sends through the VPN", "oifname "+s.TunnelInterface.String())
	}
	switch {
	case s.Timesync:
	case s.Tunnel:
		p.weak(id, "LOCAL_NET", "every account reaches these networks beside the VPN", each(s.LocalNet, "")...)
	case g.RejectLANDNS:
		var but53 []string
		for _, more := range []string{" tcp dport != 53", " udp dport != 53", " meta l4proto != { tcp, udp }"} {
			but53 = append(but53, each(g.NonTor, more)...)
		}
		for _, n := range g.NonTor {
			if n.Family() == "ip" {
				but53 = append(but53, daddr(n)+" ip frag-off & 0x1fff != 0")
			}
		}
		p.weak(id, "NON_TOR_GATEWAY", "every account reaches these networks without Tor, but for DNS", but53...)
	default:
		p.weak(id, "NON_TOR_GATEWAY", "every account reaches these networks without Tor, DNS there too; GATEWAY_REJECT_LAN_DNS=true shuts that", each(g.NonTor, "")...)
	}
}

// link is what never leaves the link: addresses of loopback, which no router
// takes on, and asking for a router where one may answer.
func (p *permits) link(id string) {
	p.plain(id, "loopback", "addresses of loopback", each(loopbackNets(), "")...)
	for _, e := range p.s.RouterAdvert {
		p.plain(id, "IPV6_RA_IF", "asking for routers", "oifname "+e.String()+" icmpv6 type nd-router-solicit")
	}
}

// fromOutside is what a Gateway or a host takes in from elsewhere.
func (p *permits) fromOutside() {
	const id = "P10"
	s, in := p.s, p.s.Inbound
	p.icmp(id)
	if s.Tunnel {
		p.weak(id, "VPN_FIREWALL", "whatever comes through the VPN is taken in", "iifname "+s.TunnelInterface.String())
	}
	for _, e := range s.RouterAdvert {
		p.plain(id, "IPV6_RA_IF", "router advertisements", "iifname "+e.String()+" icmpv6 type nd-router-advert")
	}
	for _, e := range s.External {
		from := "iifname " + e.String() + " "
		for _, o := range []struct {
			on     bool
			option string
			port   uint16
		}{
			{in.SSH, "GATEWAY_ALLOW_INCOMING_SSH", 22}, {in.FlashProxy, "GATEWAY_ALLOW_INCOMING_FLASHPROXY", in.FlashProxyPort},
			{in.DirPort && !s.Timesync, "GATEWAY_ALLOW_INCOMING_DIR_PORT", in.DirPortNumber},
			{in.ORPort && !s.Timesync, "GATEWAY_ALLOW_INCOMING_OR_PORT", in.ORPortNumber},
		} {
			if o.on {
				p.weak(id, o.option, "this port is open to the outside", from+tcpTo(o.port))
			}
		}
		p.opened(id, from)
	}
}

// opened is the EXTERNAL_* openings.
func (p *permits) opened(id, from string) {
	s := p.s
	for _, r := range s.ExternalTCP {
		p.weak(id, "EXTERNAL_OPEN_PORTS", "these ports are open to the outside", from+tcpPorts(r))
	}
	for _, r := range s.ExternalUDP {
		p.weak(id, "EXTERNAL_UDP_OPEN_PORTS", "these ports are open to the outside", fmt.Sprintf("%sudp dport %d-%d", from, r.First, r.Last))
	}
	if s.ExternalAll {
		p.weak(id, "EXTERNAL_OPEN_ALL", "everything is open to the outside", from)
	}
}

func (p *permits) hostForwards() {
	for _, b := range p.s.Host.ForwardIf {
		p.weak("P1", "HOST_FORWARD_IF", "virtual machines send through the host", "iifname "+b.String(), "oifname "+b.String()+" ct state established,related")
	}
}

func (p *permits) hostSends() {
	const id = "P3"
	s := p.s
	p.link(id)
	if s.Clearnet != nil {
		p.plain(id, "CLEARNET_USER", "named accounts", fmt.Sprintf("skuid %d", s.Clearnet.UID))
	}
	if s.Tunnel {
		p.weak(id, "VPN_FIREWALL", "every account sends through the VPN", "oifname "+s.TunnelInterface.String())
		p.weak(id, "VPN_SERVERS", "every account reaches the VPN's servers", each(s.Host.VPNServers, "")...)
	} else {
		p.weak(id, "NON_TOR_GATEWAY", "every account reaches these networks without Tor", each(s.Gateway.NonTor, "")...)
	}
	if s.Host.AllowOutgoing {
		p.weak(id, "HOST_ALLOW_OUTGOING", "every account reaches everything", "")
	}
}

// workstationSends is what leaves a Workstation.
func (p *permits) workstationSends() {
	const id = "P7"
	s, w := p.s, &p.s.Workstation
	p.plain(id, "loopback", "addresses of loopback", each(loopbackNets(), "")...)
	for _, e := range s.RouterAdvert {
		p.weak(id, "IPV6_RA_IF", "routers may be asked for", "oifname "+e.String()+" icmpv6 type nd-router-solicit")
	}
	if s.Tunnel {
		p.tunnelSends(id)
		return
	}
	if s.Timesync {
		if len(w.AllowList) > 0 {
			p.allowListTimesync()
		}
		for _, u := range []*nft.User{s.Sdwdate, s.Systemcheck} {
			if u != nil {
				p.plain(id, "SDWDATE_USER", "time", each(w.GatewayAddrs, fmt.Sprintf(" skuid %d meta l4proto tcp", u.UID))...)
				if w.AllowUDP {
					p.weak(id, "firewall_allow_udp", "UDP to the Gateway", each(w.GatewayAddrs, fmt.Sprintf(" skuid %d meta l4proto udp", u.UID))...)
				}
			}
		}
		p.plain(id, "CONTROL_PORT_FILTER_PROXY_PORT", "the control port filter", each(w.GatewayAddrs, " "+tcpTo(s.ControlPort))...)
		return
	}
	p.plain(id, "GATEWAY_IP", "DNS of the Gateway", each(w.GatewayAddrs, " udp dport 53")...)
	p.plain(id, "qubes-primary-dns", "DNS of the Gateway", each(w.QubesDNS, " udp dport 53")...)
	switch {
	case len(w.AllowList) > 0:
		p.plain(id, "outgoing_allow_ip_list", "the listed addresses", each(w.AllowList, " meta l4proto tcp")...)
		p.allowListTimesync()
	default:
		p.plain(id, "TCP", "the Gateway sends it through Tor", "meta l4proto tcp")
		if w.AllowUDP {
			p.weak(id, "firewall_allow_udp", "UDP to anywhere; the Gateway drops it", "meta l4proto udp")
		}
	}
}

// allowListTimesync is what reaches the Gateway before time is right, though
// the list of addresses that counts later may not have it.
func (p *permits) allowListTimesync() {
	p.weak("P5", "outgoing_allow_ip_list", "sdwdate, systemcheck and the control port filter reach the Gateway until the time is right, whatever the list says",
		each(append(loopbackNets(), p.s.Workstation.GatewayAddrs...), " meta l4proto { tcp, udp }")...)
}

// tunnelSends is what leaves a Workstation in tunnel mode.
func (p *permits) tunnelSends(id string) {
	s, w := p.s, &p.s.Workstation
	full := !s.Timesync
	by := func(on bool, option, why string, u *nft.User) {
		if on && u != nil {
			p.weak(id, option, why, each(w.GatewayAddrs, fmt.Sprintf(" skuid %d", u.UID))...)
		}
	}
	if full {
		p.plain(id, "TUNNEL_FIREWALL_ENABLE", "the tunnel", "oifname "+s.TunnelInterface.String())
		if s.TunnelUser != nil {
			p.plain(id, "TUNNEL_USER", "the tunnel's own connection", fmt.Sprintf("skuid %d", s.TunnelUser.UID))
		}
		if w.AllowLocalNet {
			p.weak(id, "TUNNEL_FIREWALL_ALLOW_LOCAL_NET", "every account reaches these networks beside the tunnel", each(s.LocalNet, "")...)
		}
		if w.AllowTBUpdater {
			p.weak(id, "TUNNEL_FIREWALL_ALLOW_TB_UPDATER", "beside the tunnel", each(w.GatewayAddrs, " "+tcpTo(whonix.TorBrowserUpdatePort))...)
		}
	}
	by(w.AllowSdwdate, "TUNNEL_FIREWALL_ALLOW_SDWDATE_USER", "beside the tunnel", s.Sdwdate)
	by(full && w.AllowNoTunnel, "TUNNEL_FIREWALL_ALLOW_NOTUNNEL_USER", "beside the tunnel", s.NoTunnel)
	by(full && w.AllowSystemcheck, "TUNNEL_FIREWALL_ALLOW_SYSTEMCHECK", "beside the tunnel", s.Systemcheck)
	if w.AllowControlFilter {
		p.weak(id, "TUNNEL_FIREWALL_ALLOW_CONTROL_PORT_FILTER_PROXY", "beside the tunnel", each(w.GatewayAddrs, " "+tcpTo(s.ControlPort))...)
	}
}

// toWorkstation is what a Workstation takes in.
func (p *permits) toWorkstation() {
	const id = "P10"
	s := p.s
	if s.Tunnel {
		p.weak(id, "TUNNEL_FIREWALL_ENABLE", "whatever comes through the tunnel is taken in", "iifname "+s.TunnelInterface.String())
	}
	for _, e := range s.RouterAdvert {
		p.weak(id, "IPV6_RA_IF", "router advertisements", "iifname "+e.String()+" icmpv6 type nd-router-advert")
	}
	if !s.Timesync {
		p.opened(id, "")
	}
}
