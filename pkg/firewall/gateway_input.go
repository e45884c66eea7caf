// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"fmt"

	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// gatewayInput is what the gateway, or the host, takes in; the caller ends the
// chain.
func (r *rules) gatewayInput() {
	s, in := r.s, r.s.Inbound
	r.add(input, nft.Accept{}, nft.IIfName{Interface: loopback})
	if in.Related {
		r.add(input, nft.Accept{}, nft.CTState{"related", "established"})
	} else {
		r.add(input, nft.Accept{}, nft.CTState{"established"})
	}
	if in.FragNeeded {
		r.add(input, nft.Accept{}, nft.ICMPType("destination-unreachable"), nft.ICMPCode("frag-needed"), nft.CTState{"related"})
		r.add(input, nft.Accept{}, nft.ICMP6Type{"packet-too-big"}, nft.CTState{"related"})
	}
	r.add(input, nft.Accept{}, neighbours())
	r.routerAdverts()
	if in.ICMP { // D23
		r.add(input, nft.Accept{}, nft.ICMPType("echo-request"))
		r.add(input, nft.Accept{}, nft.ICMP6Type{"echo-request"})
	} else {
		r.add(input, nft.Drop{}, nft.IPProtocol{Protos: []string{"icmp"}})
		r.add(input, nft.Drop{}, nft.L4Proto{Protos: []string{"icmpv6"}}) // a name that nft knows without /etc/protocols
	}
	if s.Tunnel {
		r.add(input, nft.Accept{}, nft.IIfName{Interface: s.TunnelInterface})
	}
	r.externalInput()
	if s.Timesync {
		return
	}
	r.relayInput()
	r.internalInput()
	for _, i := range s.Gateway.internal() {
		r.redirects(i)
	}
}

// shieldDNS keeps datagrams from Tor's DnsPorts that are shorter than the header
// of a question. One of them ends Tor, by a fault of the library that reads it
// (request_parse of libevent 2.1.12): every Workstation could. It comes before
// what is accepted because others were.
func (r *rules) shieldDNS() {
	const udpHeader, dnsHeader = 8, 12 // RFC 768, RFC 1035 section 4.1.1
	for _, p := range []uint16{r.s.Gateway.DNSWorkstation, r.s.Gateway.DNSGateway} {
		r.add(input, nft.Drop{}, udp(nft.Port(p)), nft.UDPShorter(udpHeader+dnsHeader))
	}
}

// externalInput opens, on the external interfaces only (D13), what the
// configuration says.
func (r *rules) externalInput() {
	s, in := r.s, r.s.Inbound
	for _, e := range s.External {
		from := nft.IIfName{Interface: e}
		if in.SSH {
			r.add(input, nft.Accept{}, from, tcp(nft.Port(22)))
		}
		if in.FlashProxy {
			r.add(input, nft.Accept{}, from, tcp(nft.Port(in.FlashProxyPort)))
		}
		r.info("INFO: Opening External TCP port(s): " + orNone(s.ExternalTCPText))
		for _, p := range s.ExternalTCP {
			r.add(input, nft.Accept{}, from, tcp(p))
		}
		r.info("INFO: Opening External UDP port(s): " + orNone(s.ExternalUDPText))
		for _, p := range s.ExternalUDP {
			r.add(input, nft.Accept{}, from, udp(p))
		}
		if s.ExternalAll {
			r.info("INFO: EXTERNAL_OPEN_ALL='true', opening all External ports")
			r.add(input, nft.Accept{}, from)
		}
	}
}

// relayInput opens the ports of a Tor relay.
func (r *rules) relayInput() {
	in := r.s.Inbound
	for _, e := range r.s.External {
		from := nft.IIfName{Interface: e}
		if in.DirPort {
			r.add(input, nft.Accept{}, from, tcp(nft.Port(in.DirPortNumber)))
		}
		if in.ORPort {
			r.add(input, nft.Accept{}, from, tcp(nft.Port(in.ORPortNumber)))
		}
	}
}

// internalInput accepts, from inside, what ends at Tor: its DnsPort and
// TransPort, the control port filter and the SocksPorts.
func (r *rules) internalInput() {
	s, g := r.s, &r.s.Gateway
	for _, t := range g.internalTunnel() {
		if g.TransparentDNS {
			r.add(input, nft.Accept{}, nft.IIfName{Interface: t}, udp(nft.Port(g.DNSWorkstation)))
		}
	}
	for _, i := range g.internal() {
		if g.TransparentTCP {
			r.add(input, nft.Accept{}, nft.IIfName{Interface: i}, tcp(nft.Port(g.TransWorkstation)))
		}
	}
	for _, t := range g.internalTunnel() {
		from := nft.IIfName{Interface: t}
		if g.ControlFilter {
			r.add(input, nft.Accept{}, from, tcp(nft.Port(s.ControlPort)))
		}
		if g.Socksified {
			r.info("INFO: WORKSTATION_ALLOW_SOCKSIFIED='1', Socks Ports will be reachable from the Workstation")
			r.info("INFO: opening Internal TCP port(s): " + s.SocksPortsText)
			for _, p := range s.SocksPorts {
				r.add(input, nft.Accept{}, from, tcp(p))
			}
			r.info(fmt.Sprintf("INFO: opening TCP port(s) %d:%d for user custom applications", whonix.CustomPortFirst, whonix.CustomPortLast))
			r.add(input, nft.Accept{}, from, tcp(customPorts()))
		}
	}
}

// redirects sends what comes in through i to Tor: addressed to a SocksPort of
// a configured destination to that SocksPort, any other DNS to the DnsPort,
// any other TCP to the TransPort.
func (r *rules) redirects(i nft.Interface) {
	s, g := r.s, &r.s.Gateway
	from := nft.IIfName{Interface: i}
	keepPort := func(p nft.Ports, v nft.Redirect) {
		for _, d := range g.Destinations {
			r.add(natPrerouting, v, from, nft.DAddr{Net: d}, tcp(p))
		}
	}
	if g.ControlFilter {
		keepPort(nft.Port(s.ControlPort), nft.Redirect{To: nft.Port(s.ControlPort)})
	}
	if g.Socksified {
		for _, p := range s.SocksPorts {
			keepPort(p, nft.Redirect{To: p})
		}
		keepPort(customPorts(), nft.Redirect{})
	} else {
		r.note("INFO: WORKSTATION_ALLOW_SOCKSIFIED='" + s.SocksifiedText + "', Socks Ports will not be opened")
	}
	if g.TransparentDNS {
		r.add(natPrerouting, nft.Redirect{To: nft.Port(g.DNSWorkstation)}, from, udp(nft.Port(53)))
	}
	if g.TransparentTCP {
		r.add(natPrerouting, nft.Redirect{To: nft.Port(g.TransWorkstation)}, from, newConnection())
	}
}

// newConnection matches the first segment of a TCP connection.
func newConnection() nft.Match {
	return nft.TCPFlags{Mask: "fin|syn|rst|ack", Value: "syn"}
}
