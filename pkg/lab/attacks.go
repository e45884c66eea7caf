// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// dropWorkstationFirewall is what an attacker with root does first.
func dropWorkstationFirewall(ctx context.Context, l *Lab) error {
	said, status, err := l.workstation.run(ctx, strings.NewReader(""), "/usr/sbin/nft", "flush", "ruleset")
	if err == nil && status != 0 {
		err = fmt.Errorf("nft flush ruleset on the workstation: %s", said)
	}
	return err
}

// endAttack ends the attack: the Workstation has its firewall back, and nobody
// remembers the Ethernet addresses that the attacker made up for its own.
func endAttack(ctx context.Context, l *Lab) error {
	return errors.Join(l.loadWorkstation(ctx, modeFull), l.topo.Inside.ForgetNeighbours(), l.topo.Workstation.ForgetNeighbours())
}

// sender builds frames from the Workstation to the Gateway.
type sender struct {
	l       *Lab
	gateway net.HardwareAddr
	own     net.HardwareAddr
	err     error
}

func (l *Lab) sender() *sender {
	own, err := l.topo.Workstation.HardwareAddr()
	return &sender{l: l, gateway: net.HardwareAddr(l.gatewayL), own: own, err: err}
}

func (s *sender) frame(kind uint16, packet []byte) {
	if s.err == nil {
		s.err = s.l.raw.Send(netlab.Ethernet(s.gateway, s.own, kind, packet))
	}
}

// packet sends a transport payload with addresses of the sender's choice.
func (s *sender) packet(src, dst netip.Addr, proto uint8, payload []byte) {
	kind, packet := netlab.Packet(src, dst, proto, payload)
	s.frame(kind, packet)
}

func (s *sender) tcp(src, dst netip.AddrPort, flags uint8) {
	s.packet(src.Addr(), dst.Addr(), netlab.ProtoTCP, netlab.TCP(src, dst, flags))
}

func (s *sender) udp(src, dst netip.AddrPort, data []byte) {
	s.packet(src.Addr(), dst.Addr(), netlab.ProtoUDP, netlab.UDP(src, dst, data))
}

func (s *sender) ping(src, dst netip.Addr) {
	kind := uint8(8)
	proto := uint8(netlab.ProtoICMP)
	if dst.Is6() {
		kind, proto = 128, netlab.ProtoICMPv6
	}
	s.packet(src, dst, proto, netlab.ICMP(src, dst, kind, 0, []byte{0x42, 0x42, 0, 1, 'x'}))
}

// noLeak sends frames and expects that nothing appears on the Internet side.
func noLeak(tried string, send func(s *sender)) attempt {
	return attempt{tried, "nothing on the Internet side", func(ctx context.Context, l *Lab) (string, bool) {
		from := l.internet.Count()
		s := l.sender()
		send(s)
		if s.err != nil {
			return s.err.Error(), false
		}
		if err := l.settle(ctx); err != nil {
			return err.Error(), false
		}
		frames, err := l.internet.Frames()
		if err != nil {
			return err.Error(), false
		}
		if leaks := frames[from:]; len(leaks) > 0 {
			return fmt.Sprintf("%d packets, first: %v", len(leaks), leaks[0]), false
		}
		return "nothing", true
	}}
}

// family is the addresses of one family.
type family struct {
	name                                                         string
	own, inside, external, server, attacker, loopback, neighbour netip.Addr
}

func families() []family {
	a := netip.MustParseAddr
	return []family{
		{"IPv4", a(netlab.WorkstationIP), a(whonix.GatewayIP), a(netlab.ExternalIP), a(netlab.ServerIP), a(netlab.AttackerIP), a("127.0.0.1"), a("10.0.2.14")},
		{"IPv6", a(netlab.WorkstationIP6), a(whonix.GatewayIP6), a(netlab.ExternalIP6), a(netlab.ServerIP6), a(netlab.AttackerIP6), a("::1"), a("2001:db8:1::14")},
	}
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// attacks begin with the quiet ones: floods would use up what the kernel
// answers within a second.
func attacks() []attempt {
	var list []attempt
	for _, f := range families() {
		list = append(list, tellsApart(f))
	}
	list = append(list, arpAsks(), arpTells())
	for _, f := range families() {
		list = append(list, spoofing(f)...)
	}
	for _, f := range families() {
		list = append(list, bypasses(f)...)
	}
	return append(list, rerouting(), shortQuestions(), randomFrames())
}

// shortQuestions are datagrams to the DnsPort that are shorter than the header
// of a question: one of them would end Tor. The first question opens a flow, in
// which they would be let through as its sequel.
func shortQuestions() attempt {
	return attempt{"datagrams too short for a question of DNS", "Tor goes on answering", func(ctx context.Context, l *Lab) (string, bool) {
		const port, dnsHeader = 4449, 12
		question := netlab.Query("example.com")
		for _, f := range families() {
			s := l.sender()
			for _, dst := range []netip.AddrPort{at(f.server, 53), at(f.inside, 53), at(f.inside, whonix.DNSPortWorkstation)} {
				s.udp(at(f.own, port), dst, question)
				for n := range dnsHeader {
					s.udp(at(f.own, port), dst, question[:n])
				}
			}
			if s.err != nil {
				return s.err.Error(), false
			}
			if err := l.settle(ctx); err != nil {
				return err.Error(), false
			}
			if seen, ok := l.asks(join(f.inside.String(), 53)); !ok {
				return f.name + ": " + seen, false
			}
		}
		return "it does", true
	}}
}

// spoofing is D38: a Workstation that says its packets come from the
// attacker's own machine on the Internet gets the Gateway to answer there,
// from the user's address.
func spoofing(f family) []attempt {
	const port = 4444
	sources := []netip.Addr{f.attacker, f.external, f.inside, f.loopback, f.server}
	each := func(send func(s *sender, src, dst netip.Addr)) func(*sender) {
		return func(s *sender) {
			for _, src := range sources {
				for _, dst := range []netip.Addr{f.external, f.inside, f.server, f.attacker} {
					send(s, src, dst)
				}
			}
		}
	}
	return []attempt{
		noLeak("D38 "+f.name+": TCP SYN in the attacker's name: your address?", each(func(s *sender, src, dst netip.Addr) {
			s.tcp(at(src, port), at(dst, 80), netlab.SYN)
			s.tcp(at(src, port), at(dst, whonix.DefaultPort), netlab.SYN)
		})),
		noLeak("D38 "+f.name+": DNS question in the attacker's name", each(func(s *sender, src, dst netip.Addr) {
			s.udp(at(src, port), at(dst, 53), netlab.Query("example.com"))
		})),
		noLeak("D38 "+f.name+": ping in the attacker's name", each(func(s *sender, src, dst netip.Addr) { s.ping(src, dst) })),
		noLeak("D38 "+f.name+": odd TCP flags in the attacker's name", each(func(s *sender, src, dst netip.Addr) {
			for _, flags := range []uint8{netlab.ACK, netlab.RST, netlab.SYN | netlab.FIN, netlab.FIN, 0, 0x3f} {
				s.tcp(at(src, port), at(dst, 80), flags)
			}
		})),
	}
}

// bypasses are packets under the Workstation's own address that Tor does not
// carry.
func bypasses(f family) []attempt {
	const port = 4445
	return []attempt{
		noLeak(f.name+": UDP to a server", func(s *sender) {
			for _, p := range []uint16{123, 443, 9999} {
				s.udp(at(f.own, port), at(f.server, p), []byte("x"))
			}
		}),
		noLeak(f.name+": ping to a server", func(s *sender) { s.ping(f.own, f.server) }),
		noLeak(f.name+": every IP protocol to a server", func(s *sender) {
			for proto := range 256 {
				s.packet(f.own, f.server, uint8(proto), []byte("0123456789abcdefghij"))
			}
		}),
		noLeak(f.name+": odd TCP flags to a server", func(s *sender) {
			for flags := range 64 {
				s.tcp(at(f.own, port), at(f.server, 80), uint8(flags))
			}
		}),
		noLeak(f.name+": fragments", func(s *sender) { fragments(s, f) }),
	}
}

// fragments are a datagram cut in two, a late part without the first, and
// options or extension headers that ask for a route of the sender's choice.
func fragments(s *sender, f family) {
	data := netlab.UDP(at(f.own, 4446), at(f.server, 443), make([]byte, 64))
	if f.own.Is4() {
		const more = 0x2000
		for _, p := range []netlab.IPv4{
			{Src: f.own, Dst: f.server, Proto: netlab.ProtoUDP, Fragment: more, Payload: data[:32]},
			{Src: f.own, Dst: f.server, Proto: netlab.ProtoUDP, Fragment: 4, Payload: data[32:]},
			{Src: f.own, Dst: f.server, Proto: netlab.ProtoTCP, Fragment: 9, Payload: data[:16]},
			{Src: f.own, Dst: f.inside, Proto: netlab.ProtoUDP, Options: append([]byte{131, 7, 4}, append(f.server.AsSlice(), 0)...), Payload: data}, // loose source route
			{Src: f.own, Dst: f.server, Proto: netlab.ProtoUDP, Options: []byte{7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0}, Payload: data},                 // record route
		} {
			s.frame(netlab.EtherIPv4, p.Bytes())
		}
		return
	}
	const hopByHop, routing, fragment = 0, 43, 44
	route := append([]byte{netlab.ProtoUDP, 2, 0, 1, 0, 0, 0, 0}, f.server.AsSlice()...)
	for _, p := range []netlab.IPv6{
		{Src: f.own, Dst: f.server, Next: fragment, Payload: append([]byte{netlab.ProtoUDP, 0, 0, 1, 0, 0, 0, 1}, data[:32]...)},
		{Src: f.own, Dst: f.server, Next: fragment, Payload: append([]byte{netlab.ProtoUDP, 0, 0, 32, 0, 0, 0, 1}, data[32:]...)},
		{Src: f.own, Dst: f.server, Next: fragment, Payload: append([]byte{netlab.ProtoTCP, 0, 0, 72, 0, 0, 0, 2}, data[:16]...)},
		{Src: f.own, Dst: f.inside, Next: routing, Payload: append(route, data...)},
		{Src: f.own, Dst: f.server, Next: hopByHop, Payload: append([]byte{netlab.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}, data...)},
	} {
		s.frame(netlab.EtherIPv6, p.Bytes())
	}
}

// rerouting is D3: a router advertisement of the Workstation's must not change
// where the Gateway sends its packets.
func rerouting() attempt {
	return attempt{"D3: router advertisement and redirect to the Gateway", "the Gateway's routes stay", func(ctx context.Context, l *Lab) (string, bool) {
		before, err := l.topo.Gateway.Namespace.DefaultRoutes(unix.AF_INET6)
		if err != nil {
			return err.Error(), false
		}
		s := l.sender()
		src, all := netip.MustParseAddr("fe80::bad"), netip.MustParseAddr("ff02::1")
		advert := netlab.RouterAdvertisement(netip.MustParsePrefix("2001:db8:bad::/64"), s.own)
		s.packet(src, all, netlab.ProtoICMPv6, netlab.ICMP(src, all, 134, 0, advert))
		six := families()[1]
		redirect := append(append(make([]byte, 4), src.AsSlice()...), six.server.AsSlice()...)
		router := netip.MustParseAddr(netlab.RouterIP6)
		s.packet(router, six.inside, netlab.ProtoICMPv6, netlab.ICMP(router, six.inside, 137, 0, redirect))
		if s.err != nil {
			return s.err.Error(), false
		}
		if err := l.settle(ctx); err != nil {
			return err.Error(), false
		}
		after, err := l.topo.Gateway.Namespace.DefaultRoutes(unix.AF_INET6)
		if err != nil || !slices.Equal(before, after) {
			return fmt.Sprintf("default routes were via %v, are via %v", before, after), false
		}
		return "unchanged, via " + strings.Join(after, ", "), true
	}}
}

// arpAsks is D39: the Gateway must not answer, inside, for its external
// address.
func arpAsks() attempt {
	return attempt{"D39: ARP request for the Gateway's external address", "no answer; one for its internal address", func(ctx context.Context, l *Lab) (string, bool) {
		s := l.sender()
		own, none := netip.MustParseAddr(netlab.WorkstationIP), make(net.HardwareAddr, 6)
		answered := func(target netip.Addr) bool {
			from := l.inside.Count()
			s.frame(netlab.EtherARP, netlab.ARP(1, s.own, own, none, target))
			if s.err = l.settle(ctx); s.err != nil {
				return false
			}
			frames, _ := l.inside.Frames()
			return slices.ContainsFunc(frames[from:], func(f netlab.Captured) bool {
				return !f.Outgoing && f.EtherType == netlab.EtherARP && f.ARPOperation == 2 && f.Src == target
			})
		}
		external, internal := answered(netip.MustParseAddr(netlab.ExternalIP)), answered(netip.MustParseAddr(whonix.GatewayIP))
		switch {
		case s.err != nil:
			return s.err.Error(), false
		case external:
			return "the external address is answered for", false
		case !internal:
			return "the internal address is not answered for", false
		}
		return "external silent, internal answered", true
	}}
}

// arpTells: asked to connect to its own external address by a machine it has
// not met, the Gateway must not ask for that machine in the name of the
// external address.
func arpTells() attempt {
	return attempt{"D41: whose name is in the Gateway's own ARP requests?", "only its internal address", func(ctx context.Context, l *Lab) (string, bool) {
		s := l.sender()
		from := l.inside.Count()
		for i, dst := range []string{netlab.ServerIP, netlab.ExternalIP, "10.0.2.77"} {
			stranger := netip.AddrFrom4([4]byte{10, 152, 152, byte(100 + i)})
			s.tcp(at(stranger, 4447), at(netip.MustParseAddr(dst), 80), netlab.SYN)
		}
		if s.err != nil {
			return s.err.Error(), false
		}
		if err := l.settle(ctx); err != nil {
			return err.Error(), false
		}
		frames, _ := l.inside.Frames()
		asked := 0
		for _, f := range frames[from:] {
			if f.Outgoing || f.EtherType != netlab.EtherARP || f.ARPOperation != 1 {
				continue
			}
			asked++
			if f.Src.String() != whonix.GatewayIP {
				return f.String(), false
			}
		}
		return fmt.Sprintf("%d requests, all by %s", asked, whonix.GatewayIP), asked > 0
	}}
}

// tellsApart: the Gateway must answer for its external address just as for its
// neighbours, or the Workstation finds it by asking for each.
func tellsApart(f family) attempt {
	return attempt{"D40 " + f.name + ": does the Gateway's address answer differently?", "every address answers alike", func(ctx context.Context, l *Lab) (string, bool) {
		answers := map[netip.Addr]string{}
		for _, dst := range []netip.Addr{f.external, f.neighbour, f.neighbour.Next().Next()} {
			from := l.inside.Count()
			s := l.sender()
			for _, hops := range []uint8{1, 64} {
				for _, p := range []struct {
					proto   uint8
					payload []byte
				}{
					{netlab.ProtoUDP, netlab.UDP(at(f.own, 4448), at(dst, 9999), []byte("x"))},
					{netlab.ProtoTCP, netlab.TCP(at(f.own, 4448), at(dst, 9999), netlab.ACK)},
					{132, make([]byte, 32)},
				} {
					if f.own.Is4() {
						s.frame(netlab.EtherIPv4, netlab.IPv4{Src: f.own, Dst: dst, Proto: p.proto, TTL: hops, Payload: p.payload}.Bytes())
					} else {
						s.frame(netlab.EtherIPv6, netlab.IPv6{Src: f.own, Dst: dst, Next: p.proto, HopLimit: hops, Payload: p.payload}.Bytes())
					}
				}
				s.ping(f.own, dst)
			}
			if s.err != nil {
				return s.err.Error(), false
			}
			if err := l.settle(ctx); err != nil {
				return err.Error(), false
			}
			answers[dst] = l.answersSince(from)
		}
		kinds := slices.Compact(slices.Sorted(maps.Values(answers)))
		if len(kinds) == 1 {
			return "alike: " + kinds[0], true
		}
		return fmt.Sprintf("%v: %s; %v: %s", f.external, answers[f.external], f.neighbour, answers[f.neighbour]), false
	}}
}

// answersSince tells, without addresses, what the Gateway sent inside since
// the frame numbered from.
func (l *Lab) answersSince(from int) string {
	frames, _ := l.inside.Frames()
	var kinds []string
	for _, f := range frames[from:] {
		if !f.Outgoing && !f.NeighbourDiscovery() {
			kinds = append(kinds, fmt.Sprintf("protocol %d type %d code %d", f.Proto, f.Type, f.Code))
		}
	}
	if len(kinds) == 0 {
		return "no answer"
	}
	slices.Sort(kinds)
	return strings.Join(slices.Compact(kinds), ", ")
}
