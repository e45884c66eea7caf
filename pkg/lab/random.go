// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// randomFrames sends frames of every kind that chance makes. The kernel's
// receive queue holds a thousand, so they go in portions.
func randomFrames() attempt {
	return attempt{"raw frames of every kind, at random", "nothing on the Internet side", func(ctx context.Context, l *Lab) (string, bool) {
		const portion = 500
		from := l.internet.Count()
		g := newGenerator(l.opts.Seed)
		s := l.sender()
		for i := range l.opts.Frames {
			s.frame(g.frame())
			if s.err != nil {
				return s.err.Error(), false
			}
			if i%portion == portion-1 {
				if err := l.settle(ctx); err != nil {
					return err.Error(), false
				}
			}
		}
		if err := l.settle(ctx); err != nil {
			return err.Error(), false
		}
		frames, err := l.internet.Frames()
		if err != nil {
			return err.Error(), false
		}
		if n := len(frames) - from; n > 0 {
			return fmt.Sprintf("%d packets of %d, first: %v", n, l.opts.Frames, frames[from]), false
		}
		return fmt.Sprintf("nothing, of %d (seed %d)", l.opts.Frames, l.opts.Seed), true
	}}
}

// generator draws frames.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) *generator { return &generator{rand.New(rand.NewPCG(seed, seed))} }

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

func (g *generator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// frame draws an Ethernet type and a packet for it.
func (g *generator) frame() (kind uint16, packet []byte) {
	switch g.IntN(20) {
	case 0:
		return pick(g, netlab.EtherARP, netlab.EtherIPv4, netlab.EtherIPv6, uint16(g.Uint32N(1<<16))), g.bytes(g.IntN(100))
	case 1:
		a := func() netip.Addr { return g.addr(true) }
		return netlab.EtherARP, netlab.ARP(uint16(1+g.IntN(2)), g.bytes(6), a(), g.bytes(6), a())
	}
	if g.IntN(2) == 0 {
		return netlab.EtherIPv4, g.ipv4()
	}
	return netlab.EtherIPv6, g.ipv6()
}

// addr draws an address: one of those that matter, mostly.
func (g *generator) addr(v4 bool) netip.Addr {
	list := []string{
		netlab.WorkstationIP6, whonix.GatewayIP6, netlab.ExternalIP6, netlab.ServerIP6, netlab.AttackerIP6, netlab.RouterIP6, exitIP6,
		"::1", "::", "ff02::1", "ff02::2", "fe80::1", "fd19:c33d:88bc::77", "::ffff:198.51.100.66", "2002:c633:6442::1",
	}
	size := 16
	if v4 {
		size = 4
		list = []string{
			netlab.WorkstationIP, whonix.GatewayIP, netlab.ExternalIP, netlab.ServerIP, netlab.AttackerIP, netlab.RouterIP, relayIP,
			"127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "10.152.191.255", "10.0.2.255", "10.152.152.77", "169.254.1.1",
		}
	}
	if g.IntN(10) == 0 {
		a, _ := netip.AddrFromSlice(g.bytes(size))
		return a
	}
	return netip.MustParseAddr(pick(g, list...))
}

// port draws a port below those by which permitted connections are told.
func (g *generator) port() uint16 {
	if g.IntN(4) == 0 {
		return uint16(1 + g.IntN(torPortFirst-1))
	}
	return pick[uint16](g, 53, 80, 443, 123, 22, whonix.TransPortWorkstation, whonix.DefaultPort, whonix.ControlPort,
		whonix.SdwdatePort, whonix.DNSPortWorkstation, 1234)
}

func (g *generator) transport(src, dst netip.Addr) (proto uint8, payload []byte) {
	from, to := netip.AddrPortFrom(src, g.port()), netip.AddrPortFrom(dst, g.port())
	switch g.IntN(8) {
	case 0, 1, 2:
		return netlab.ProtoTCP, netlab.TCP(from, to, uint8(g.IntN(64)))
	case 3:
		return netlab.ProtoTCP, netlab.TCP(from, to, netlab.SYN)
	case 4, 5:
		return netlab.ProtoUDP, netlab.UDP(from, to, pick(g, netlab.Query("example.com"), g.bytes(g.IntN(64))))
	case 6:
		kind := uint8(g.Uint32())
		body := g.bytes(4 + g.IntN(40))
		if dst.Is6() {
			return netlab.ProtoICMPv6, netlab.ICMP(src, dst, kind, uint8(g.IntN(8)), body)
		}
		return netlab.ProtoICMP, netlab.ICMP(src, dst, kind%20, uint8(g.IntN(8)), body)
	}
	return uint8(g.Uint32()), g.bytes(g.IntN(64))
}

func (g *generator) ipv4() []byte {
	p := netlab.IPv4{Src: g.addr(true), Dst: g.addr(true), TTL: pick[uint8](g, 1, 2, 64, 255)}
	p.Proto, p.Payload = g.transport(p.Src, p.Dst)
	if g.IntN(6) == 0 {
		p.Fragment = uint16(g.Uint32N(1 << 16))
	}
	if g.IntN(6) == 0 {
		route := g.addr(true).AsSlice()
		p.Options = pick(g,
			append([]byte{131, 7, 4}, append(route, 0)...),                  // loose source route
			append([]byte{137, 7, 4}, append(route, 0)...),                  // strict source route
			append([]byte{131, 7, 8}, append(route, 0)...),                  // one that is done
			[]byte{7, 7, 4, 0, 0, 0, 0, 0}, []byte{68, 8, 5, 1, 0, 0, 0, 0}, // record route, timestamp
			g.bytes(4*(1+g.IntN(9))),
		)
	}
	return p.Bytes()
}

func (g *generator) ipv6() []byte {
	p := netlab.IPv6{Src: g.addr(false), Dst: g.addr(false), HopLimit: pick[uint8](g, 1, 2, 64, 255)}
	p.Next, p.Payload = g.transport(p.Src, p.Dst)
	for g.IntN(5) == 0 {
		const hopByHop, routing, fragment, options = 0, 43, 44, 60
		header := pick[uint8](g, hopByHop, routing, fragment, options)
		b := []byte{p.Next, 0, 1, 4, 0, 0, 0, 0} // padding
		switch header {
		case routing:
			b = append([]byte{p.Next, 2, byte(g.IntN(5)), 1, 0, 0, 0, 0}, g.addr(false).AsSlice()...)
		case fragment:
			binary.BigEndian.PutUint16(b[2:], uint16(g.Uint32N(1<<16)))
		}
		p.Next, p.Payload = header, append(b, p.Payload...)
	}
	return p.Bytes()
}
