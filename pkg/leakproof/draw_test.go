// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"whonix-networking/pkg/fdd"
	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// oneOf draws one of some words.
func oneOf(t *rapid.T, words ...string) string { return rapid.SampledFrom(words).Draw(t, "word") }

func chance(t *rapid.T, percent int) bool {
	return rapid.IntRange(1, 100).Draw(t, "percent") <= percent
}

// drawRuleset draws a ruleset of the modelled language: chains at every hook,
// jumps, sets, translations.
func drawRuleset(t *rapid.T) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("add table inet t")
	line("add set inet t addrs { type ipv4_addr; flags interval; elements = { 10.152.152.0/24, %s }; }", nobodys)
	line("add set inet t ports { type inet_service; elements = { 53, 80, 7001 }; }")
	line("add chain inet t first { type filter hook prerouting priority -190; }")
	line("add rule inet t first ct state new continue") // or connections are not tracked
	line("add chain inet t second { type filter hook output priority -190; }")
	line("add rule inet t second ct state new continue")
	for _, c := range []struct {
		hook, priority string
		percent        int
	}{
		{prerouting, "-300", 40}, {prerouting, "mangle", 20}, {prerouting, "dstnat + 10", 30}, {input, "filter", 90}, {input, "10", 20},
		{forward, "filter", 90}, {output, "raw", 20}, {output, "filter", 90}, {output, "20", 20}, {postrouting, "srcnat + 10", 30},
	} {
		if !chance(t, c.percent) {
			continue
		}
		name := fmt.Sprintf("%s%d", c.hook, strings.Count(b.String(), "add chain"))
		family := "inet t"
		if chance(t, 15) {
			family = oneOf(t, "ip", "ip6") + " t"
			line("add table %s", family)
			line("add set %s ports { type inet_service; elements = { 53, 80, 7001 }; }", family)
			line("add set %s addrs { type ipv4_addr; flags interval; elements = { 10.152.152.0/24, %s }; }", family, nobodys)
		}
		policy := "accept"
		if c.hook != prerouting && c.hook != postrouting && chance(t, 50) {
			policy = "drop"
		}
		sub := "sub" + name
		line("add chain %s %s", family, sub)
		line("add chain %s %s { type filter hook %s priority %s; policy %s; }", family, name, c.hook, c.priority, policy)
		for range rapid.IntRange(0, 3).Draw(t, "rules") {
			line("add rule %s %s %s", family, sub, drawRule(t, c.hook, family, ""))
		}
		for range rapid.IntRange(1, 8).Draw(t, "rules") {
			line("add rule %s %s %s", family, name, drawRule(t, c.hook, family, sub))
		}
	}
	if chance(t, 60) {
		drawNAT(t, line)
	}
	return b.String()
}

func drawNAT(t *rapid.T, line func(string, ...any)) {
	line("add chain inet t todst { type nat hook prerouting priority dstnat; }")
	for range rapid.IntRange(0, 4).Draw(t, "rules") {
		match := "iifname " + oneOf(t, "eth0", "eth1", `"eth*"`) + " " + oneOf(t, "tcp dport 80", "udp dport { 53, 123 }", "tcp flags & (fin | syn | rst | ack) == syn",
			"ip daddr 198.51.100.0/24 tcp dport 1-1000", "ip6 daddr 2001:db8:66::/48 udp dport != 53", "meta l4proto tcp")
		to := oneOf(t, "redirect to :8080", "redirect", "return", "accept")
		if strings.Contains(match, "ip daddr") {
			to = oneOf(t, to, "dnat ip to "+whonix.GatewayIP+":8081", "dnat ip to "+netlab.WorkstationIP)
		}
		line("add rule inet t todst %s counter %s", match, to)
	}
	if chance(t, 50) {
		line("add chain inet t own { type nat hook output priority -100; }")
		for range rapid.IntRange(0, 3).Draw(t, "rules") {
			line("add rule inet t own %s counter %s", oneOf(t, "meta skuid 1000 tcp dport 80", "udp dport 53", "meta skuid != 0 meta l4proto tcp"), oneOf(t, "redirect to :8080", "return"))
		}
	}
	if chance(t, 50) {
		line("add chain inet t tosrc { type nat hook postrouting priority srcnat; }")
		line("add rule inet t tosrc oifname eth0 meta l4proto { tcp, udp } masquerade")
	}
}

// drawRule draws a rule for a hook: some conditions and a verdict.
func drawRule(t *rapid.T, hook, table, sub string) string {
	var parts []string
	add := func(percent int, words ...string) {
		if !chance(t, 100-percent) { // rapid likes small numbers: few conditions
			parts = append(parts, oneOf(t, words...))
		}
	}
	if hook == prerouting || hook == input || hook == forward {
		add(40, `iifname "eth1"`, "iifname eth0", `iifname "eth*"`, `iifname != "eth1"`, `iifname { "eth1", "lo" }`, `iif lo`)
	}
	if hook == output || hook == forward || hook == postrouting {
		add(40, `oifname "eth0"`, "oifname eth1", `oifname "eth*"`, `oifname != "lo"`, `oifname { "eth0", "lo" }`)
	}
	if hook == output {
		add(30, "meta skuid 0", "meta skuid 1000", "meta skuid != 1000", "meta skuid { 0, 65534 }", "meta skuid 1-1000")
	}
	if hook == prerouting {
		add(20, "fib saddr . iif oif missing", "fib saddr . iif oif exists", "fib daddr type local", "fib daddr type != { local, multicast }")
	}
	add(30, "ct state new", "ct state established,related", "ct state { new, untracked }", "ct state != new", "ct state invalid", "ct direction reply", "ct direction original")
	family := 4
	switch {
	case table == "ip6 t" || table == "inet t" && chance(t, 50):
		family = 6
	}
	if family == 4 {
		add(30, "ip saddr 10.152.152.11", "ip saddr != 10.152.128.0/18", "ip saddr @addrs", "ip daddr 198.51.100.0-198.51.100.100", "ip daddr { 10.0.2.15, 198.51.100.200 }", "ip daddr @addrs", "ip daddr != "+nobodys)
	} else {
		add(30, "ip6 saddr fd19:c33d:88bc::/96", "ip6 saddr != fd19:c33d:88bc::11", "ip6 daddr 2001:db8:66::200", "ip6 daddr { fd19:c33d:88bc::10, 2001:db8::/32 }")
	}
	for _, one := range drawProto(t, family) {
		if strings.HasPrefix(one, "meta nfproto") && table != "inet t" {
			one = "meta l4proto udp"
		}
		parts = append(parts, one)
	}
	verdicts := []string{"accept", "accept", "drop", "drop", "return", ""}
	if hook == input || hook == forward || hook == output {
		verdicts = append(verdicts, "reject", "reject")
	}
	if sub != "" {
		verdicts = append(verdicts, "jump "+sub, "goto "+sub)
	}
	return strings.TrimSpace(strings.Join(parts, " ") + " counter " + oneOf(t, verdicts...))
}

// drawProto draws conditions on one protocol.
func drawProto(t *rapid.T, family int) []string {
	kinds := []string{"", "", "tcp", "udp", "icmp", "l4"}
	switch oneOf(t, kinds...) {
	case "tcp":
		return []string{oneOf(t, "tcp dport 80", "tcp dport 1-1000", "tcp dport { 22, 80, 8080-8090 }", "tcp dport != 80", "tcp dport @ports", "tcp sport 20000-40000",
			"tcp flags syn", "tcp flags & (fin | syn | rst | ack) == syn", "tcp flags & (syn | rst) == syn | rst", "tcp flags ! fin,syn,rst,psh,ack,urg", "tcp flags != syn", "tcp flags == ack", "tcp flags fin / fin,ack",
			"tcp flags { syn, ack }")}
	case "udp":
		return []string{oneOf(t, "udp dport 53", "udp dport { 53, 7001 }", "udp dport != 53", "udp dport 7000-7002", "udp dport @ports")}
	case "icmp":
		if family == 4 {
			return []string{oneOf(t, "icmp type echo-request", "icmp type { echo-request, timestamp-request }", "icmp type != echo-request", "icmp type destination-unreachable icmp code frag-needed", "ip protocol icmp")}
		}
		return []string{oneOf(t, "icmpv6 type echo-request", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }", "icmpv6 type nd-router-advert", "icmpv6 type != echo-request", "icmpv6 type packet-too-big", "ip6 nexthdr icmpv6")}
	case "l4":
		if family == 4 {
			return []string{oneOf(t, "ip protocol tcp", "ip protocol != tcp", "ip protocol { tcp, udp }", "meta l4proto udp", "meta nfproto ipv4", "ip frag-off & 0x1fff != 0")}
		}
		return []string{oneOf(t, "ip6 nexthdr tcp", "ip6 nexthdr != udp", "meta l4proto tcp", "meta l4proto != { tcp, udp }", "meta nfproto ipv6")}
	}
	return nil
}

// drawProbe draws a packet: one that begins something, one of a known
// connection, or an error about one.
func (b *bench) drawProbe(t *rapid.T) *probe {
	p := &probe{tag: b.tag()}
	p.id = uint16(b.count)
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		b.drawKnown(t, p)
	case 1:
		b.drawRelated(t, p)
	default:
		b.drawFresh(t, p)
	}
	return p
}

func (b *bench) drawKnown(t *rapid.T, p *probe) {
	k := rapid.SampledFrom(knownConnections()).Draw(t, "known")
	if ours(k.outside.Addr()) || rapid.Bool().Draw(t, "there") {
		p.udp(k.inside, k.outside, "eth1")
	} else {
		p.udp(k.outside, k.inside, "eth0")
		p.pkt[fdd.Direction] = fdd.N(fdd.Reply)
	}
	p.pkt[fdd.State] = fdd.N(fdd.Established)
}

// drawRelated draws an error about a packet of a known connection.
func (b *bench) drawRelated(t *rapid.T, p *probe) {
	all := knownConnections()
	k := all[rapid.IntRange(0, 2).Draw(t, "known")]
	quoted := &probe{tag: p.tag}
	quoted.udp(k.inside, k.outside, "eth1")
	p.pkt[fdd.Family], p.pkt[fdd.In], p.pkt[fdd.UID] = quoted.pkt[fdd.Family], fdd.Name("eth0"), fdd.N(fdd.NoUID)
	p.pkt[fdd.Src], p.pkt[fdd.Dst] = fdd.Addr(k.outside.Addr()), fdd.Addr(k.inside.Addr())
	p.pkt[fdd.State], p.pkt[fdd.Direction] = fdd.N(fdd.Related), fdd.N(fdd.Reply)
	p.pkt[fdd.Proto], p.pkt[fdd.Type], p.pkt[fdd.Code] = fdd.N(fdd.ICMP), fdd.N(unreachable), fdd.N(uint64(rapid.SampledFrom([]int{1, 3, 4}).Draw(t, "code")))
	if k.inside.Addr().Is6() {
		p.pkt[fdd.Proto], p.pkt[fdd.Type], p.pkt[fdd.Code] = fdd.N(fdd.ICMPv6), fdd.N(uint64(rapid.SampledFrom([]int{1, 2}).Draw(t, "type"))), fdd.N(0)
	}
	routeBack(&p.pkt)
	route(&p.pkt)
	p.pkt[fdd.Out] = fdd.Value{}
	p.build(quoted.bytes)
}

// drawFresh draws a packet that belongs to no connection.
func (b *bench) drawFresh(t *rapid.T, p *probe) {
	v6 := rapid.Bool().Draw(t, "IPv6")
	pick := func(v4List, v6List []string) fdd.Value {
		list := v4List
		if v6 {
			list = v6List
		}
		return fdd.Addr(netip.MustParseAddr(oneOf(t, list...)))
	}
	pkt := &p.pkt
	pkt[fdd.Family], pkt[fdd.UID] = fdd.IPv4, fdd.N(fdd.NoUID)
	if v6 {
		pkt[fdd.Family] = fdd.IPv6
	}
	gateway, gateway6 := []string{whonix.GatewayIP, netlab.ExternalIP}, []string{whonix.GatewayIP6, netlab.ExternalIP6}
	switch from := oneOf(t, "eth1", "eth1", "eth0", ""); from {
	case "eth1":
		pkt[fdd.In] = fdd.Name(from)
		pkt[fdd.Src] = pick([]string{netlab.WorkstationIP, netlab.WorkstationIP, insideOther, netlab.AttackerIP}, []string{netlab.WorkstationIP6, netlab.WorkstationIP6, insideOther6, netlab.AttackerIP6})
		pkt[fdd.Dst] = pick(append(gateway, nobodys, "198.51.100.9"), append(gateway6, nobodys6, "2001:db8::9"))
	case "eth0":
		pkt[fdd.In] = fdd.Name(from)
		pkt[fdd.Src] = pick([]string{nobodys, netlab.AttackerIP, insideOther}, []string{nobodys6, netlab.AttackerIP6, insideOther6})
		pkt[fdd.Dst] = pick([]string{netlab.ExternalIP, netlab.WorkstationIP}, []string{netlab.ExternalIP6, netlab.WorkstationIP6})
	default:
		pkt[fdd.UID] = fdd.N(uint64(rapid.SampledFrom([]int{0, 1000, 65534}).Draw(t, "uid")))
		pkt[fdd.Src] = pick(gateway, gateway6)
		pkt[fdd.Dst] = pick([]string{nobodys, netlab.WorkstationIP, whonix.GatewayIP, "127.0.0.1"}, []string{nobodys6, netlab.WorkstationIP6, whonix.GatewayIP6, "::1"})
		dst := pkt[fdd.Dst].IP(pkt[fdd.Family])
		out := "eth0"
		if ours(dst) {
			out = "lo"
			if dst.IsLoopback() {
				pkt[fdd.Src] = pkt[fdd.Dst]
			}
		} else if inner(dst) {
			out = "eth1"
		}
		pkt[fdd.Out] = fdd.Name(out)
	}
	b.drawTransport(t, pkt, v6)
	route(pkt)
	if pkt[fdd.In] != (fdd.Value{}) {
		routeBack(pkt)
		pkt[fdd.Out] = fdd.Value{}
	}
	p.build(nil)
}

func (b *bench) drawTransport(t *rapid.T, pkt *fdd.Packet, v6 bool) {
	n := func(list ...int) fdd.Value { return fdd.N(uint64(rapid.SampledFrom(list).Draw(t, "number"))) }
	pkt[fdd.State] = fdd.N(fdd.New)
	const fin, syn, rst, psh, ack, urg = 1, 2, 4, 8, 16, 32
	kind := oneOf(t, "tcp", "tcp", "udp", "udp", "icmp", "other")
	if kind == "other" && pkt[fdd.In] != fdd.Name("eth1") {
		kind = "udp" // without ports, one way would be the answer to the other
	}
	switch kind {
	case "tcp":
		pkt[fdd.Proto] = fdd.N(fdd.TCP)
		pkt[fdd.Flags] = n(syn, syn, syn, ack, psh|ack, syn|ack, rst, fin, fin|ack, 0, syn|rst, syn|fin, fin|syn|rst|psh|ack|urg, syn|urg)
		pkt[fdd.DstPort] = n(22, 53, 80, 443, 7001, 8080, 9999)
		// The same for udp. Each connection has a port of its own.
		pkt[fdd.SrcPort] = fdd.N(uint64(20000 + b.count%40000))
	case "udp":
		pkt[fdd.Proto] = fdd.N(fdd.UDP)
		pkt[fdd.DstPort] = n(53, 123, 80, 7001, 9999)
		pkt[fdd.SrcPort] = fdd.N(uint64(20000 + b.count%40000))
	case "icmp":
		if pkt[fdd.Proto] = fdd.N(fdd.ICMP); v6 {
			pkt[fdd.Proto] = fdd.N(fdd.ICMPv6)
			pkt[fdd.Type] = n(echoRequest6, echoRequest6, routerAdvert, neighbourSolicit, redirect6, 1, packetTooBig, 129)
		} else {
			pkt[fdd.Type] = n(echoRequest, echoRequest, unreachable, 13, 0)
		}
	default:
		pkt[fdd.Proto] = fdd.N(otherProto)
	}
	if v6 && chance(t, 15) {
		pkt[fdd.Extensions] = fdd.N(1)
	}
	pkt[fdd.State] = fdd.N(trackedAs(pkt))
	if s := pkt[fdd.State].Lo; s == fdd.Invalid || s == fdd.Untracked {
		pkt[fdd.Direction] = fdd.N(fdd.NoDirection)
	}
}

// trackedAs is the state that connection tracking gives a packet of no
// connection.
func trackedAs(pkt *fdd.Packet) uint64 {
	const fin, syn, rst, ack = 1, 2, 4, 16
	switch pkt[fdd.Proto].Lo {
	case fdd.TCP:
		f := pkt[fdd.Flags].Lo
		if f&(fin|rst) == 0 && f&(syn|ack) != 0 && f&(syn|ack) != syn|ack {
			return fdd.New
		}
		return fdd.Invalid
	case fdd.ICMP:
		if slices.Contains([]uint64{echoRequest, 13, 15, 17}, pkt[fdd.Type].Lo) {
			return fdd.New
		}
		return fdd.Invalid
	case fdd.ICMPv6:
		switch t := pkt[fdd.Type].Lo; {
		case t == echoRequest6 || t == 139:
			return fdd.New
		case t >= listenerQuery && t <= neighbourAdvert || t == listenerReport2:
			return fdd.Untracked
		}
		return fdd.Invalid
	}
	return fdd.New
}

// compare holds what the kernel did with a packet against the model: rule by
// rule, and by diagrams. It reports whether the model leaves it open.
func compare(t *rapid.T, m *model, p *probe, at []arrival, rules string) (open bool) {
	entry := output
	if p.pkt[fdd.In] != (fdd.Value{}) {
		entry = prerouting
	}
	tr := &tracer{model: m, prefer: &fdd.Preference{}, at: p.pkt}
	tr.route = func(now *fdd.Packet) {
		if tr.hook == postrouting { // masqueraded, which is done on eth0 only
			own := netlab.ExternalIP
			if now[fdd.Family] == fdd.IPv6 {
				own = netlab.ExternalIP6
			}
			now[fdd.Src] = fdd.Addr(netip.MustParseAddr(own))
			return
		}
		if now[fdd.Route].Lo != fdd.Local {
			route(now) // by its new destination
			now[fdd.Out] = p.pkt[fdd.Out]
		} else if now[fdd.In] != (fdd.Value{}) { // redirected, to the interface's address
			v4, v6 := whonix.GatewayIP, whonix.GatewayIP6
			if now[fdd.In] == fdd.Name("eth0") {
				v4, v6 = netlab.ExternalIP, netlab.ExternalIP6
			}
			if now[fdd.Family] == fdd.IPv4 {
				v6 = v4
			}
			now[fdd.Dst] = fdd.Addr(netip.MustParseAddr(v6))
		}
	}
	tr.way = func(now fdd.Packet) fdd.Value { route(&now); return now[fdd.Out] }
	tr.run(entry)
	looped := entry == output && (p.pkt[fdd.Out] == fdd.Name("lo") || tr.leaves == fdd.Name("lo"))
	sent := *tr
	if looped && tr.verdict == passed { // and it comes in again
		tr.at[fdd.In], tr.at[fdd.Out], tr.at[fdd.Return], tr.at[fdd.UID] = fdd.Name("lo"), fdd.Value{}, fdd.N(1), fdd.N(fdd.NoUID)
		tr.at[fdd.Route], tr.translated = fdd.N(fdd.Local), true
		tr.run(prerouting)
	}
	want := tr.verdict == passed
	got := len(at) > 0
	fail := func(why string) {
		t.Fatalf("%s: %s\nthe kernel let it pass: %v %+v\nthe model: %s %v\n%s", words(p.pkt), why, got, at, tr.verdict, tr.steps, rules)
	}
	if !tr.maybe && want != got {
		fail("the kernel and the model differ")
	}
	if got && !tr.maybe {
		end := at[0]
		if hasPorts(tr.at) && uint64(end.dstPort) != tr.at[fdd.DstPort].Lo {
			fail(fmt.Sprintf("port %d instead of %d", end.dstPort, tr.at[fdd.DstPort].Lo))
		}
	}
	if !looped || sent.verdict != passed { // diagrams are of one hook's way
		must, may := m.diagrams(p.pkt, entry, &sent)
		if got && !may {
			fail("the diagrams say it cannot pass")
		}
		if !got && must {
			fail("the diagrams say it must pass")
		}
		if may != must {
			open = true
		}
	}
	return open || tr.maybe
}

// diagrams is whether a packet must, and whether it may pass.
func (m *model) diagrams(pkt fdd.Packet, entry string, tr *tracer) (must, may bool) {
	all := m.passage()
	branches := all.sent
	if entry == prerouting {
		branches = all.taken
		if !m.Contains(m.ours(), tr.at) {
			branches = all.forwarded
		}
	}
	for _, b := range branches {
		before := m.Only(pkt)
		if b.by.Kind == "" || b.by.Kind == "masquerade" || b.by.Kind == "snat" {
			end := pkt
			end[fdd.Out] = tr.at[fdd.Out]
			now := m.Only(end)
			if b.by.Kind != "" {
				now = m.translate(now, b.by, postrouting)
				before = m.Only(end)
			}
			must = must || m.And(now, b.now.Must) == now && now != fdd.None && (b.by.Kind == "" || m.And(before, b.from.Must) != fdd.None)
			may = may || m.And(now, b.now.May) != fdd.None && (b.by.Kind == "" || m.And(before, b.from.May) != fdd.None)
			continue
		}
		now := m.Assign(m.translate(before, b.by, entry), fdd.Out, tr.at[fdd.Out], tr.at[fdd.Out])
		now = m.And(m.Forget(now, fdd.Route), m.Is(fdd.Route, tr.at[fdd.Route]))
		// Behind output, a translated packet may have come from any interface.
		must = must || entry == prerouting && m.And(before, b.from.Must) != fdd.None && m.And(now, b.now.Must) == now && now != fdd.None
		may = may || m.And(before, b.from.May) != fdd.None && m.And(now, b.now.May) != fdd.None
	}
	return must, may
}
