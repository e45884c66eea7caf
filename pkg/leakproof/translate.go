// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"net/netip"
	"strings"

	"whonix-networking/pkg/fdd"
	"whonix-networking/pkg/nft"
)

// destination is where a translation leads.
type destination struct {
	addressed bool // to an address; else only the port may change
	family    fdd.Value
	addr      fdd.Interval
	ported    bool
	port      fdd.Interval
}

// destination reads the operand of a translation: ADDRESS, ADDRESS:PORT,
// [ADDRESS]:PORT or :PORT, with ranges of each. It is false if that is not
// understood.
func (m *matcher) destination(a nft.Action) (d destination, ok bool) {
	switch a.Kind {
	case "redirect", "masquerade", "dnat", "snat":
	default:
		return d, true
	}
	host, port := a.To, ""
	if i := strings.LastIndexByte(a.To, ':'); i >= 0 && (a.To[0] == ':' || a.To[0] == '[' || strings.Count(a.To, ":") == 1) {
		host, port = a.To[:i], a.To[i+1:]
	}
	var err error
	if port != "" {
		d.ported = true
		if d.port, err = m.port(port); err != nil {
			return d, false
		}
	}
	if host == "" {
		return d, a.Kind == "redirect" || a.Kind == "masquerade" || d.ported
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	n, err := nft.ParseNet(host)
	if err != nil || a.Kind == "redirect" || a.Kind == "masquerade" {
		return d, false
	}
	d.addressed, d.family, d.addr = true, fdd.IPv6, fdd.Interval{First: fdd.Addr(n.First), Last: fdd.Addr(n.Last)}
	if n.First.Is4() {
		d.family = fdd.IPv4
	}
	return d, true
}

// translate is the packets of a after a translation at a hook.
func (m *matcher) translate(a fdd.Set, by nft.Action, hook string) fdd.Set {
	d, _ := m.destination(by)
	addr, port := fdd.Dst, fdd.DstPort
	if by.Kind == "snat" || by.Kind == "masquerade" {
		addr, port = fdd.Src, fdd.SrcPort
	}
	switch {
	case by.Kind == "redirect" && hook == output:
		lo4, lo6 := fdd.Addr(netip.AddrFrom4([4]byte{127, 0, 0, 1})), fdd.Addr(netip.IPv6Loopback())
		a = m.And(m.Forget(a, fdd.Dst), m.Or(m.And(m.Is(fdd.Family, fdd.IPv4), m.Is(fdd.Dst, lo4)), m.And(m.Is(fdd.Family, fdd.IPv6), m.Is(fdd.Dst, lo6))))
	case d.addressed:
		a = m.Assign(a, addr, d.addr.First, d.addr.Last)
	case by.Kind == "redirect", by.Kind == "masquerade": // an address of ours, of the interface
		a = m.Forget(a, addr)
	}
	if d.ported {
		ports := m.And(a, m.withPorts())
		a = m.Or(m.Diff(a, ports), m.Assign(ports, port, d.port.First, d.port.Last))
	}
	switch by.Kind {
	case "redirect":
		a = m.Assign(a, fdd.Route, fdd.N(fdd.Local), fdd.N(fdd.Local))
	case "dnat":
		a = m.Forget(a, fdd.Route)
	}
	if by.Kind == "redirect" || by.Kind == "dnat" {
		a = m.Assign(a, fdd.NAT, fdd.N(1), fdd.N(1))
	}
	return m.And(a, m.Valid())
}

// before is the packets that a translation may have made p from.
func (m *matcher) before(p fdd.Packet, by nft.Action) fdd.Set {
	changed := []fdd.Field{fdd.Dst, fdd.DstPort, fdd.Route, fdd.NAT}
	if by.Kind == "snat" || by.Kind == "masquerade" {
		changed = []fdd.Field{fdd.Src, fdd.SrcPort}
	}
	return m.Forget(m.Only(p), changed...)
}

// withPorts is the packets that have ports.
func (m *matcher) withPorts() fdd.Set {
	var set fdd.Set
	for _, p := range []uint64{fdd.TCP, fdd.UDP, fdd.DCCP, fdd.SCTP, fdd.UDPLite} {
		set = m.Or(set, m.Is(fdd.Proto, fdd.N(p)))
	}
	return m.And(set, m.Is(fdd.Fragment, fdd.N(0)))
}
