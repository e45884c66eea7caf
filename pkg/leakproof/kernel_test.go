// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"whonix-networking/pkg/checksum"
	"whonix-networking/pkg/fdd"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// The tests of this file hold the model against the kernel: random rulesets are
// loaded in a namespace, random packets go through them, and what the kernel
// does must be what the model says.

// Addresses that nobody has, so that no answer disturbs.
const (
	insideOther  = "10.152.152.77"
	insideOther6 = "fd19:c33d:88bc::77"
	nobodys      = "198.51.100.200"
	nobodys6     = "2001:db8:66::200"
)

// bench is the network in which the kernel is asked.
type bench struct {
	topo     *netlab.Topology
	inside   *netlab.Socket // the Workstation's end of the inner link
	outside  *netlab.Socket // the Internet's end of the outer one
	toInside *netlab.Socket // the Gateway's ends, for fences
	toOut    *netlab.Socket
	seen     map[string]*netlab.Capture // at: workstation, internet, and the Gateway's two interfaces
	raw      map[int]int                // the Gateway's raw sockets, by protocol and family
	macs     map[string]net.HardwareAddr
	count    uint32 // of packets, ever
}

// failer is a test, or one round of rapid's.
type failer interface {
	Helper()
	Fatal(args ...any)
}

func check(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newBench(t *testing.T) *bench {
	t.Helper()
	topo, err := netlab.NewTopology()
	check(t, err)
	t.Cleanup(topo.Close)
	b := &bench{topo: topo, seen: map[string]*netlab.Capture{}, raw: map[int]int{}, macs: map[string]net.HardwareAddr{}}
	for _, s := range []struct {
		to   **netlab.Socket
		port netlab.Port
	}{{&b.inside, topo.Workstation}, {&b.outside, topo.Internet}, {&b.toInside, topo.Inside}, {&b.toOut, topo.Gateway}} {
		*s.to, err = s.port.OpenSocket()
		check(t, err)
		t.Cleanup(func() { (*s.to).Close() })
	}
	tagged := func(f netlab.Captured) bool { return !f.Outgoing }
	for name, port := range map[string]netlab.Port{"workstation": topo.Workstation, "internet": topo.Internet, "eth1": topo.Inside, "eth0": topo.Gateway} {
		b.seen[name], err = port.Capture(tagged)
		check(t, err)
		t.Cleanup(b.seen[name].Close)
		b.macs[name], err = port.HardwareAddr()
		check(t, err)
	}
	// Neighbours are known for good, or rules would keep them from being found.
	check(t, topo.Gateway.Namespace.Do(func() error {
		var failed error
		for ip, at := range map[string][2]string{
			netlab.WorkstationIP: {"eth1", "workstation"}, netlab.WorkstationIP6: {"eth1", "workstation"}, insideOther: {"eth1", "workstation"}, insideOther6: {"eth1", "workstation"},
			netlab.RouterIP: {"eth0", "internet"}, netlab.RouterIP6: {"eth0", "internet"},
		} {
			link, err := netlink.LinkByName(at[0])
			if err != nil {
				return err
			}
			failed = errors.Join(failed, netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(ip), HardwareAddr: b.macs[at[1]]}))
		}
		return failed
	}))
	b.openRaw(t)
	return b
}

// openRaw opens sockets that see whatever passes the Gateway's input hook.
func (b *bench) openRaw(t *testing.T) {
	t.Helper()
	check(t, b.topo.Gateway.Namespace.Do(func() error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			for _, proto := range []int{fdd.TCP, fdd.UDP, fdd.ICMP, fdd.ICMPv6, otherProto} {
				if family == unix.AF_INET && proto == fdd.ICMPv6 || family == unix.AF_INET6 && proto == fdd.ICMP {
					continue
				}
				fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
				if err != nil {
					return err
				}
				t.Cleanup(func() { unix.Close(fd) })
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
					return err
				}
				b.raw[family<<16|proto] = fd
			}
		}
		return nil
	}))
}

// otherProto is one that nothing knows (RFC 3692).
const otherProto = 253

// probe is a packet that is sent, and what it is in the model.
type probe struct {
	pkt   fdd.Packet
	tag   []byte // in its payload, of this packet only
	id    uint16 // of echo requests
	bytes []byte // from the IP header on
}

func (p *probe) ip(f fdd.Field) netip.Addr { return p.pkt[f].IP(p.pkt[fdd.Family]) }

// build makes the packet's bytes.
func (p *probe) build(inner []byte) {
	src, dst := p.ip(fdd.Src), p.ip(fdd.Dst)
	var body []byte
	switch p.pkt[fdd.Proto].Lo {
	case fdd.UDP:
		p.pkt[fdd.Length] = fdd.N(uint64(8 + len(p.tag)))
		body = netlab.UDP(netip.AddrPortFrom(src, uint16(p.pkt[fdd.SrcPort].Lo)), netip.AddrPortFrom(dst, uint16(p.pkt[fdd.DstPort].Lo)), p.tag)
	case fdd.TCP:
		body = segment(src, dst, p)
	case fdd.ICMP, fdd.ICMPv6:
		data := append([]byte{0, 0, 0, 0}, inner...)
		if inner == nil { // an identifier of its own
			binary.BigEndian.PutUint16(data, p.id)
		}
		body = netlab.ICMP(src, dst, uint8(p.pkt[fdd.Type].Lo), uint8(p.pkt[fdd.Code].Lo), append(data, p.tag...))
	default:
		body = append(make([]byte, 8), p.tag...)
	}
	proto := uint8(p.pkt[fdd.Proto].Lo)
	if p.pkt[fdd.Extensions].Lo == 1 { // destination options, of padding
		const destinationOptions = 60
		body = append([]byte{proto, 0, 1, 4, 0, 0, 0, 0}, body...)
		proto = destinationOptions
	}
	_, p.bytes = netlab.Packet(src, dst, proto, body)
}

// segment is a TCP segment that carries the tag.
func segment(src, dst netip.Addr, p *probe) []byte {
	b := netlab.TCP(netip.AddrPortFrom(src, uint16(p.pkt[fdd.SrcPort].Lo)), netip.AddrPortFrom(dst, uint16(p.pkt[fdd.DstPort].Lo)), uint8(p.pkt[fdd.Flags].Lo))
	b[16], b[17] = 0, 0
	b = append(b, p.tag...)
	binary.BigEndian.PutUint16(b[16:], checksum.Transport(src, dst, fdd.TCP, b))
	return b
}

// send sends a packet to where it enters.
func (b *bench) send(p *probe) error {
	kind := uint16(netlab.EtherIPv4)
	if p.pkt[fdd.Family] == fdd.IPv6 {
		kind = netlab.EtherIPv6
	}
	switch p.pkt[fdd.In] {
	case fdd.Name("eth1"):
		return b.inside.Send(netlab.Ethernet(b.macs["eth1"], b.macs["workstation"], kind, p.bytes))
	case fdd.Name("eth0"):
		return b.outside.Send(netlab.Ethernet(b.macs["eth0"], b.macs["internet"], kind, p.bytes))
	}
	return b.topo.Gateway.Namespace.As(int(p.pkt[fdd.UID].Lo), func() error {
		family, dst := unix.AF_INET, p.ip(fdd.Dst)
		var to unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{}}
		if dst.Is6() {
			family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: dst.As16()}
		} else {
			to = &unix.SockaddrInet4{Addr: dst.As4()}
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW) // which means: with header
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		err = unix.Sendto(fd, p.bytes, 0, to)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			err = nil // not let out, which is seen as well
		}
		return err
	})
}

// fence waits until everything sent before has been dealt with.
func (b *bench) fence(t failer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for range 2 {
		for _, f := range []struct {
			from *netlab.Socket
			to   string
		}{{b.inside, "eth1"}, {b.outside, "eth0"}, {b.toInside, "workstation"}, {b.toOut, "internet"}} {
			b.count++
			check(t, netlab.Fence(ctx, f.from, b.seen[f.to], fmt.Sprintf("fence %d", b.count)))
		}
	}
}

// arrival is where a packet was seen, and how.
type arrival struct {
	where    string // input, or the interface it left by
	dst, src netip.Addr
	dstPort  uint16
}

// arrivals collects what was seen of the tagged packets.
func (b *bench) arrivals(t failer) []struct {
	raw []byte
	arrival
} {
	t.Helper()
	var out []struct {
		raw []byte
		arrival
	}
	add := func(raw []byte, a arrival) {
		out = append(out, struct {
			raw []byte
			arrival
		}{raw, a})
	}
	for name, by := range map[string]string{"workstation": "eth1", "internet": "eth0"} {
		frames, err := b.seen[name].Frames()
		check(t, err)
		b.seen[name].Forget()
		for _, f := range frames {
			add(f.Raw, arrival{where: by, dst: f.Dst, src: f.Src, dstPort: f.DstPort})
		}
	}
	b.seen["eth0"].Forget()
	b.seen["eth1"].Forget()
	buf := make([]byte, 1<<16)
	for key, fd := range b.raw {
		for {
			n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
			if err != nil {
				break
			}
			raw := bytes.Clone(buf[:n])
			a := arrival{where: input}
			body := raw
			if key>>16 == unix.AF_INET {
				a.dst, _ = netip.AddrFromSlice(raw[16:20])
				body = raw[20:]
			}
			if p := key & 0xffff; len(body) >= 4 && (p == fdd.TCP || p == fdd.UDP) {
				a.dstPort = binary.BigEndian.Uint16(body[2:])
			}
			add(raw, a)
		}
	}
	return out
}

// route sets what the routes of the Gateway decide about a packet.
func route(p *fdd.Packet) {
	dst := p[fdd.Dst].IP(p[fdd.Family])
	kind, out := uint64(fdd.Unicast), "eth0"
	switch {
	case dst.IsMulticast():
		kind = fdd.Multicast
	case ours(dst):
		kind, out = fdd.Local, "lo"
	case inner(dst):
		out = "eth1"
	}
	p[fdd.Route] = fdd.N(kind)
	if p[fdd.In] != (fdd.Value{}) {
		if p[fdd.Out] = (fdd.Value{}); kind == fdd.Unicast {
			p[fdd.Out] = fdd.Name(out)
		}
	}
}

// ours reports whether the Gateway has the address.
func ours(a netip.Addr) bool {
	for _, own := range []string{whonix.GatewayIP, whonix.GatewayIP6, netlab.ExternalIP, netlab.ExternalIP6} {
		if a == netip.MustParseAddr(own) {
			return true
		}
	}
	return a.IsLoopback()
}

func inner(a netip.Addr) bool {
	return netip.MustParsePrefix("10.152.128.0/18").Contains(a) || netip.MustParsePrefix("fd19:c33d:88bc::/96").Contains(a)
}

// routeBack sets whether a source is routed back the way it came.
func routeBack(p *fdd.Packet) {
	src := p[fdd.Src].IP(p[fdd.Family])
	p[fdd.Return] = fdd.N(0)
	if by := p[fdd.In].Text(); by == "lo" || !ours(src) && inner(src) == (by == "eth1") {
		p[fdd.Return] = fdd.N(1)
	}
}

// loadRules replaces the Gateway's ruleset.
func (b *bench) loadRules(rules string) error {
	return b.topo.Gateway.Namespace.Do(func() error {
		return nft.Load(context.Background(), nft.NewExec(fsx.Host), []byte("flush ruleset\n"+rules))
	})
}

// known are connections that the kernel knows: a datagram there and one back.
type known struct{ inside, outside netip.AddrPort }

func knownConnections() []known {
	a := netip.MustParseAddrPort
	return []known{
		{a("10.152.152.11:10001"), a(nobodys + ":7001")}, {a("10.152.152.11:10002"), a(nobodys + ":53")},
		{a("[fd19:c33d:88bc::11]:10003"), a("[" + nobodys6 + "]:7001")},
		{a("10.152.152.11:10004"), a(whonix.GatewayIP + ":7002")},
	}
}

// remember makes the kernel know these connections, and no others.
func (b *bench) remember(t failer) {
	t.Helper()
	check(t, b.loadRules("add table inet t\nadd chain inet t c { type filter hook prerouting priority 0; }\nadd rule inet t c ct state new accept\n"+
		"add chain inet t o { type filter hook output priority 0; }\nadd rule inet t o ct state new accept\n"))
	check(t, b.topo.Gateway.Namespace.Do(nft.FlushConntrack))
	for _, k := range knownConnections() {
		there, back := &probe{tag: b.tag()}, &probe{tag: b.tag()}
		there.udp(k.inside, k.outside, "eth1")
		check(t, b.send(there))
		b.fence(t)
		if in := "eth0"; ours(k.outside.Addr()) {
			back.udp(k.outside, k.inside, "")
		} else {
			back.udp(k.outside, k.inside, in)
		}
		check(t, b.send(back))
	}
	b.fence(t)
	b.arrivals(t)
}

// udp makes a datagram that came in by an interface, or is sent.
func (p *probe) udp(from, to netip.AddrPort, in string) {
	p.pkt[fdd.Family], p.pkt[fdd.Proto] = fdd.IPv6, fdd.N(fdd.UDP)
	if from.Addr().Is4() {
		p.pkt[fdd.Family] = fdd.IPv4
	}
	p.pkt[fdd.Src], p.pkt[fdd.Dst] = fdd.Addr(from.Addr()), fdd.Addr(to.Addr())
	p.pkt[fdd.SrcPort], p.pkt[fdd.DstPort] = fdd.N(uint64(from.Port())), fdd.N(uint64(to.Port()))
	if in != "" {
		p.pkt[fdd.In], p.pkt[fdd.UID] = fdd.Name(in), fdd.N(fdd.NoUID)
		routeBack(&p.pkt)
		p.pkt[fdd.Route] = fdd.N(0)
		route(&p.pkt)
		p.pkt[fdd.Out] = fdd.Value{}
	} else {
		p.pkt[fdd.Out] = fdd.Name("eth1")
	}
	p.build(nil)
}

// tag is bytes of one packet only.
func (b *bench) tag() []byte {
	b.count++
	return append([]byte("tag"), fmt.Sprintf("%07d!!", b.count)...)
}

// TestKernelAgrees: 8 rulesets with 50 packets each; -rapid.checks=N for more.
func TestKernelAgrees(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		check(t, f.Value.Set("8"))
		defer func() { check(t, f.Value.Set(f.DefValue)) }()
	}
	check(t, flag.Set("rapid.nofailfile", "true"))
	b := newBench(t)
	packets, open, came := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		rules := drawRuleset(rt)
		b.remember(rt)
		if err := b.loadRules(rules); err != nil {
			rt.Fatalf("%v:\n%s", err, rules)
		}
		m := newModel(&matcher{Space: fdd.NewSpace()}, nft.Read([]byte(rules)))
		if len(m.hooks) == 0 {
			rt.Fatalf("nothing was read of\n%s", rules)
		}
		const each = 50
		var probes []*probe
		for range each {
			probes = append(probes, b.drawProbe(rt))
		}
		for _, p := range probes {
			check(rt, b.send(p))
		}
		b.fence(rt)
		seen := b.arrivals(rt)
		for _, p := range probes {
			packets++
			var at []arrival
			for _, s := range seen {
				if bytes.Contains(s.raw, p.tag) && sameKind(s.raw, s.arrival, p) {
					at = append(at, s.arrival)
				}
			}
			if compare(rt, m, p, at, rules) {
				open++
			}
			if len(at) > 0 {
				came++
			}
		}
	})
	t.Logf("%d packets, %d passed, of %d the model leaves the outcome open", packets, came, open)
	if came < packets/10 || came > packets*9/10 || open > packets/5 {
		t.Error("a test of nothing: too few packets passed, were stopped, or have an outcome that is known")
	}
}

// sameKind tells a packet from an error that quotes it.
func sameKind(raw []byte, a arrival, p *probe) bool {
	if a.where == input {
		i := bytes.Index(raw, p.tag)
		const farthest = 20 + 20 + 8 // headers before the tag of the packet itself
		return i <= farthest || p.pkt[fdd.State].Lo == fdd.Related
	}
	d := netlab.Decode(raw)
	return d.Proto == uint8(p.pkt[fdd.Proto].Lo) && (!hasType(p.pkt) || d.Type == uint8(p.pkt[fdd.Type].Lo))
}
