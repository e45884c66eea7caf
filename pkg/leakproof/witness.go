// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"whonix-networking/pkg/fdd"
)

// Witness is one packet for which a property does not hold.
type Witness struct {
	Words   string `json:"words"`  // for people
	Tuple   string `json:"packet"` // in conditions of nft(8)
	Then    string `json:"then"`   // what happens to it
	Certain bool   `json:"certain"`
	Steps   []Step `json:"rules"` // the rules that decide

	Entry  string     `json:"hook"` // where it enters: prerouting or output
	Packet fdd.Packet `json:"-"`
}

// preference makes witnesses read like packets one knows.
func preference(policy *Policy) *fdd.Preference {
	var p fdd.Preference
	n := func(list ...uint64) (out []fdd.Value) {
		for _, v := range list {
			out = append(out, fdd.N(v))
		}
		return out
	}
	addrs := func(list ...string) (out []fdd.Value) { // IPv6 first: an IPv4 one is a number of IPv6 too
		for _, a := range list {
			out = append(out, fdd.Addr(netip.MustParseAddr(a)))
		}
		return out
	}
	for _, i := range policy.Inside {
		if prefix, ok := strings.CutSuffix(i, "*"); ok {
			i = prefix + "1.0"
		}
		p[fdd.In] = append(p[fdd.In], fdd.Name(i))
	}
	p[fdd.In] = append(p[fdd.In], fdd.Name("eth0"), fdd.Name("wlan0"), fdd.Name("eth7"), fdd.Value{})
	p[fdd.Out] = append([]fdd.Value{{}, fdd.Name("eth0"), fdd.Name("wlan0"), fdd.Name("eth7")}, p[fdd.In]...)
	p[fdd.Family] = []fdd.Value{fdd.IPv4, fdd.IPv6}
	p[fdd.Proto] = n(fdd.TCP, fdd.UDP, fdd.ICMP, fdd.ICMPv6)
	p[fdd.State] = n(fdd.New, fdd.Untracked, fdd.Related, fdd.Established, fdd.Invalid)
	p[fdd.UID] = n(65534, 1000, fdd.NoUID)
	p[fdd.Flags] = n(2, 16)
	p[fdd.Type] = n(echoRequest, echoRequest6, routerAdvert)
	p[fdd.SrcPort] = n(1234, 40000)
	p[fdd.DstPort] = n(80, 53, 123)
	p[fdd.Return] = n(1)
	p[fdd.Route] = n(fdd.Unicast, fdd.Local)
	p[fdd.Src] = addrs("fd19:c33d:88bc::11", "10.152.152.11")
	p[fdd.Dst] = addrs("2001:db8:66::66", "198.51.100.66")
	return &p
}

// witness is a packet of bad, which came along branch b, as it was in the
// beginning.
func (p *prover) witness(b branch, bad fdd.Set, c claim, certain bool) *Witness {
	prefer := p.prefer
	if c.prefer != nil {
		prefer = c.prefer
	}
	end, ok := p.Pick(bad, prefer)
	if !ok {
		return nil
	}
	start := end
	then := c.verb
	if b.by.Kind != "" {
		from := p.And(b.from.Must, p.before(end, b.by))
		if from == fdd.None {
			from = p.And(b.from.May, p.before(end, b.by))
		}
		if s, ok := p.Pick(from, prefer); ok {
			start = s
		}
		then += " as " + strings.TrimPrefix(words(end), "fragment of ")
	}
	start[fdd.NAT] = fdd.Value{}
	if c.entry == prerouting {
		start[fdd.Out] = fdd.Value{}
	}
	w := &Witness{Words: words(start), Tuple: tuple(start), Then: then, Certain: certain && !p.wide(), Entry: c.entry, Packet: start}
	w.Steps = p.trace(c.entry, start)
	return w
}

// protocolName is the name of a protocol, or its number.
func protocolName(n uint64) string {
	for _, name := range slices.Sorted(maps.Keys(protocols())) {
		if protocols()[name] == n && name != "ipv6-icmp" {
			return name
		}
	}
	return fmt.Sprint(n)
}

// flagWords are the names of TCP flags.
func flagWords(f uint64) string {
	var out []string
	for _, name := range []string{"fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"} {
		if f&flagBits()[name] != 0 {
			out = append(out, name)
		}
	}
	if out == nil {
		return "0x0"
	}
	return strings.Join(out, "|")
}

// usualLength is that of a datagram of which nothing is said.
const usualLength = 64

func hasPorts(p fdd.Packet) bool {
	return p[fdd.Fragment].Lo == 0 && slices.Contains([]uint64{fdd.TCP, fdd.UDP, fdd.DCCP, fdd.SCTP, fdd.UDPLite}, p[fdd.Proto].Lo)
}

func hasType(p fdd.Packet) bool {
	return p[fdd.Fragment].Lo == 0 && (p[fdd.Proto].Lo == fdd.ICMP && p[fdd.Family] == fdd.IPv4 || p[fdd.Proto].Lo == fdd.ICMPv6 && p[fdd.Family] == fdd.IPv6)
}

func stateName(v fdd.Value) string {
	return [...]string{"new", "established", "related", "invalid", "untracked"}[v.Lo]
}

// words is a packet as people write it.
func words(p fdd.Packet) string {
	var b strings.Builder
	if p[fdd.Fragment].Lo == 1 {
		b.WriteString("fragment of ")
	}
	src, dst := p[fdd.Src].IP(p[fdd.Family]), p[fdd.Dst].IP(p[fdd.Family])
	b.WriteString(protocolName(p[fdd.Proto].Lo) + " ")
	if hasPorts(p) {
		fmt.Fprintf(&b, "%v -> %v", netip.AddrPortFrom(src, uint16(p[fdd.SrcPort].Lo)), netip.AddrPortFrom(dst, uint16(p[fdd.DstPort].Lo)))
	} else {
		fmt.Fprintf(&b, "%v -> %v", src, dst)
	}
	if hasType(p) {
		fmt.Fprintf(&b, " type %d code %d", p[fdd.Type].Lo, p[fdd.Code].Lo)
	}
	if hasPorts(p) && p[fdd.Proto].Lo == fdd.TCP {
		b.WriteString(" flags " + flagWords(p[fdd.Flags].Lo))
	}
	if n := p[fdd.Length].Lo; hasPorts(p) && p[fdd.Proto].Lo == fdd.UDP && n != usualLength {
		fmt.Fprintf(&b, " length %d", n)
	}
	if p[fdd.Extensions].Lo == 1 {
		b.WriteString(" with extension headers")
	}
	b.WriteString(" " + stateName(p[fdd.State]))
	if p[fdd.Direction].Lo == fdd.Reply {
		b.WriteString(" reply")
	}
	if in := p[fdd.In].Text(); in != "" {
		b.WriteString(" iif " + in)
		if p[fdd.Return].Lo == 0 {
			b.WriteString(" spoofed")
		}
		switch r := p[fdd.Route].Lo; r {
		case fdd.Unicast:
		case fdd.Local:
			b.WriteString(" local")
		default:
			b.WriteString(" to " + routeName(r))
		}
	}
	if out := p[fdd.Out].Text(); out != "" {
		b.WriteString(" oif " + out)
		if p[fdd.UID].Lo < fdd.NoUID {
			fmt.Fprintf(&b, " uid %d", p[fdd.UID].Lo)
		}
	}
	return b.String()
}

func routeName(n uint64) string {
	for name, is := range routes() {
		if is == n {
			return name
		}
	}
	return fmt.Sprint(n)
}

// tuple is a packet as conditions of nft(8).
func tuple(p fdd.Packet) string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if in := p[fdd.In].Text(); in != "" {
		add("iifname %q", in)
	}
	if o := p[fdd.Out].Text(); o != "" {
		add("oifname %q", o)
		if p[fdd.UID].Lo < fdd.NoUID {
			add("meta skuid %d", p[fdd.UID].Lo)
		}
	}
	family := "ip"
	if p[fdd.Family] == fdd.IPv6 {
		family = "ip6"
	}
	add("%s saddr %v %s daddr %v", family, p[fdd.Src].IP(p[fdd.Family]), family, p[fdd.Dst].IP(p[fdd.Family]))
	proto := protocolName(p[fdd.Proto].Lo)
	switch {
	case hasPorts(p):
		add("%s sport %d %s dport %d", proto, p[fdd.SrcPort].Lo, proto, p[fdd.DstPort].Lo)
		if p[fdd.Proto].Lo == fdd.TCP {
			add("tcp flags == %s", flagWords(p[fdd.Flags].Lo))
		}
	case hasType(p):
		add("%s type %d %s code %d", proto, p[fdd.Type].Lo, proto, p[fdd.Code].Lo)
	default:
		add("meta l4proto %s", proto)
	}
	add("ct state %s", stateName(p[fdd.State]))
	return strings.Join(out, " ")
}
