// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"whonix-networking/pkg/fdd"
	"whonix-networking/pkg/nft"
)

// Names looks up what a ruleset may name instead of a number.
type Names struct {
	Account func(name string) (uint32, bool)
	Service func(name string) (uint16, bool)
}

// matcher turns conditions of rules into sets of packets.
type matcher struct {
	*fdd.Space
	names Names
}

// at is the place a rule is at, as far as conditions depend on it.
type at struct {
	hook    string
	tracked bool // connection tracking has seen the packet
}

// unknown is a condition that may or may not hold for the packets of within.
func (m *matcher) unknown(within fdd.Set) fdd.Range { return fdd.Range{Must: fdd.None, May: within} }

// match is the packets that a condition holds for, and why that is not known
// exactly if it is not.
func (m *matcher) match(c nft.Cond, where at) (fdd.Range, string) {
	if c.Unknown != "" {
		return m.unknown(fdd.All), c.Unknown
	}
	within, field, number := m.field(c.Key)
	switch {
	case c.Key == "tcp flags":
		return m.flags(c)
	case c.Key == "ct state", c.Key == "ct direction", c.Key == "ct status":
		return m.connection(c, where)
	case c.Key == "ip frag-off":
		return m.fragment(c)
	case c.Key == "fib saddr . iif oif":
		return m.routeBack(c, where)
	case number == nil:
		return m.unknown(within), "what " + c.Key + " is, is not modelled"
	case c.Mask != nil:
		return m.unknown(within), "a mask of " + c.Key + " is not modelled"
	}
	var list []fdd.Interval
	for _, v := range c.Values {
		i, err := number(v)
		if err != nil {
			return m.unknown(within), fmt.Sprintf("%s: %s %v", c.Key, v, err)
		}
		list = append(list, i)
	}
	set := m.OneOf(field, list)
	if c.Key == "ip6 nexthdr" { // of the fixed header: another one's number where an extension header comes first
		set = m.And(set, m.Is(fdd.Extensions, fdd.N(0)))
	}
	if c.Not {
		set = m.Not(set)
	}
	return fdd.Exactly(m.And(within, set)), ""
}

// numberer reads a value as an interval.
type numberer func(text string) (fdd.Interval, error)

// field is what a condition looks at: the packets that have such a field at
// all, the field, and how its values are read. Conditions hold for no packet
// that has no such field, also negated ones.
func (m *matcher) field(key string) (within fdd.Set, f fdd.Field, number numberer) {
	v4, v6, whole := m.Is(fdd.Family, fdd.IPv4), m.Is(fdd.Family, fdd.IPv6), m.Is(fdd.Fragment, fdd.N(0))
	proto := func(n uint64) fdd.Set { return m.And(m.Is(fdd.Proto, fdd.N(n)), whole) }
	first, second, _ := strings.Cut(key, " ")
	switch key {
	case "iifname", "iif":
		return fdd.All, fdd.In, name
	case "oifname", "oif":
		return fdd.All, fdd.Out, name
	case "skuid":
		return m.Not(m.Is(fdd.UID, fdd.N(fdd.NoUID))), fdd.UID, m.account
	case "l4proto":
		return fdd.All, fdd.Proto, named(protocols())
	case "nfproto", "protocol":
		return fdd.All, fdd.Family, named(map[string]uint64{"ipv4": 4, "ipv6": 6, "ip": 4, "ip6": 6})
	case "ip protocol":
		return v4, fdd.Proto, named(protocols())
	case "ip6 nexthdr":
		return v6, fdd.Proto, transportHeader
	case "ip saddr":
		return v4, fdd.Src, address(4)
	case "ip daddr":
		return v4, fdd.Dst, address(4)
	case "ip6 saddr":
		return v6, fdd.Src, address(6)
	case "ip6 daddr":
		return v6, fdd.Dst, address(6)
	case "icmp type":
		return m.And(v4, proto(fdd.ICMP)), fdd.Type, named(icmpTypes())
	case "icmp code":
		return m.And(v4, proto(fdd.ICMP)), fdd.Code, named(icmpCodes())
	case "icmpv6 type":
		return m.And(v6, proto(fdd.ICMPv6)), fdd.Type, named(icmpv6Types())
	case "icmpv6 code":
		return m.And(v6, proto(fdd.ICMPv6)), fdd.Code, named(nil)
	case "udp length":
		return proto(fdd.UDP), fdd.Length, named(nil)
	case "fib daddr type":
		return fdd.All, fdd.Route, named(routes())
	}
	if n, ok := protocols()[first]; ok && (second == "sport" || second == "dport") {
		f = fdd.SrcPort
		if second == "dport" {
			f = fdd.DstPort
		}
		return proto(n), f, m.port
	}
	switch first {
	case "ip":
		return v4, 0, nil
	case "ip6":
		return v6, 0, nil
	case "tcp", "udp":
		return proto(protocols()[first]), 0, nil
	}
	return fdd.All, 0, nil
}

// transportHeader reads a protocol that is no extension header: those are
// between the fixed header and the transport's, where the model does not look.
func transportHeader(text string) (fdd.Interval, error) {
	i, err := named(protocols())(text)
	extensions := []uint64{0, 43, 44, 50, 51, 60, 135, 139, 140}
	if err == nil && (i.First != i.Last || slices.Contains(extensions, i.First.Lo)) {
		err = fmt.Errorf("is an extension header")
	}
	return i, err
}

// name reads an interface name, or the beginning of one.
func name(text string) (fdd.Interval, error) {
	if prefix, ok := strings.CutSuffix(text, "*"); ok {
		first, last := fdd.Names(prefix)
		return fdd.Interval{First: first, Last: last}, nil
	}
	if text == "" || text[0] >= '0' && text[0] <= '9' || text[0] == '$' {
		return fdd.Interval{}, fmt.Errorf("is no name of an interface")
	}
	return fdd.Interval{First: fdd.Name(text), Last: fdd.Name(text)}, nil
}

// ranged reads a-b, or one value.
func ranged(text string, one func(string) (fdd.Value, error)) (i fdd.Interval, err error) {
	if i.First, err = one(text); err == nil {
		i.Last = i.First
		return i, nil
	}
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		return i, err
	}
	if i.First, err = one(from); err == nil {
		i.Last, err = one(to)
	}
	return i, err
}

// named reads a number or one of the names.
func named(names map[string]uint64) numberer {
	return func(text string) (fdd.Interval, error) {
		return ranged(text, func(s string) (fdd.Value, error) {
			if n, ok := names[s]; ok {
				return fdd.N(n), nil
			}
			n, err := strconv.ParseUint(s, 0, 32)
			if err != nil {
				return fdd.Value{}, fmt.Errorf("is no value that is known")
			}
			return fdd.N(n), nil
		})
	}
}

func (m *matcher) account(text string) (fdd.Interval, error) {
	return ranged(text, func(s string) (fdd.Value, error) {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil {
			return fdd.N(n), nil
		}
		if m.names.Account != nil {
			if uid, ok := m.names.Account(s); ok {
				return fdd.N(uint64(uid)), nil
			}
		}
		return fdd.Value{}, fmt.Errorf("is no account that is known")
	})
}

func (m *matcher) port(text string) (fdd.Interval, error) {
	return ranged(text, func(s string) (fdd.Value, error) {
		if n, err := strconv.ParseUint(s, 10, 16); err == nil {
			return fdd.N(n), nil
		}
		if m.names.Service != nil {
			if port, ok := m.names.Service(s); ok {
				return fdd.N(uint64(port)), nil
			}
		}
		return fdd.Value{}, fmt.Errorf("is no port that is known")
	})
}

// address reads an address, a network or a range of a family.
func address(family int) numberer {
	return func(text string) (fdd.Interval, error) {
		n, err := nft.ParseNet(text)
		if err != nil {
			return fdd.Interval{}, err
		}
		if n.First.Is4() != (family == 4) {
			return fdd.Interval{}, fmt.Errorf("is of the other family")
		}
		return fdd.Interval{First: fdd.Addr(n.First), Last: fdd.Addr(n.Last)}, nil
	}
}

// flags is a comparison of TCP flags, bit by bit.
func (m *matcher) flags(c nft.Cond) (fdd.Range, string) {
	segment := m.And(m.Is(fdd.Proto, fdd.N(fdd.TCP)), m.Is(fdd.Fragment, fdd.N(0)))
	number := func(words []string) (sum uint64, ok bool) {
		for _, w := range words {
			i, err := named(flagBits())(w)
			if err != nil || i.First != i.Last {
				return 0, false
			}
			sum |= i.First.Lo
		}
		return sum, true
	}
	const allFlags = 255
	mask, ok := uint64(allFlags), true
	if c.Mask != nil {
		mask, ok = number(c.Mask)
	}
	value, ok2 := number(c.Values)
	if !ok || !ok2 {
		return m.unknown(segment), "these flags are not known"
	}
	anyBit := c.Mask == nil && !c.Exact && !c.Not && !c.Braces
	var list []fdd.Interval
	for f := range uint64(allFlags + 1) {
		holds := f&mask == value
		switch {
		case anyBit:
			holds = f&value != 0
		case c.Braces:
			holds = slices.ContainsFunc(c.Values, func(w string) bool { v, _ := number([]string{w}); return f&mask == v })
		}
		if holds != c.Not {
			list = append(list, fdd.Interval{First: fdd.N(f), Last: fdd.N(f)})
		}
	}
	return fdd.Exactly(m.And(segment, m.OneOf(fdd.Flags, list))), ""
}

// connection is what connection tracking knows of a packet. Before it has seen
// the packet every one is invalid, but for those that come back over loopback
// and what the kernel answers, which have a connection already.
func (m *matcher) connection(c nft.Cond, where at) (fdd.Range, string) {
	field, names := fdd.State, map[string]uint64{"new": fdd.New, "established": fdd.Established, "related": fdd.Related, "invalid": fdd.Invalid, "untracked": fdd.Untracked}
	within := fdd.All
	switch c.Key {
	case "ct direction":
		field, names = fdd.Direction, map[string]uint64{"original": fdd.Original, "reply": fdd.Reply}
		within = m.Not(m.Is(fdd.Direction, fdd.N(fdd.NoDirection)))
	case "ct status":
		field, names = fdd.NAT, map[string]uint64{"dnat": 1}
		within = m.Not(m.Is(fdd.Direction, fdd.N(fdd.NoDirection)))
	}
	var list []fdd.Interval
	for _, v := range c.Values {
		n, ok := names[v]
		if !ok || c.Mask != nil {
			return m.unknown(fdd.All), c.Key + " " + v + " is not modelled"
		}
		list = append(list, fdd.Interval{First: fdd.N(n), Last: fdd.N(n)})
	}
	set := m.OneOf(field, list)
	severalBits := len(list) > 1 && !c.Braces // of which a packet never has more than one
	switch {
	case c.Not && severalBits:
		set = fdd.All
	case c.Exact && severalBits:
		set = fdd.None
	case c.Not:
		set = m.Not(set)
	}
	set = m.And(within, set)
	if where.tracked {
		return fdd.Exactly(set), ""
	}
	early := fdd.None
	if field == fdd.State && m.And(set, m.Is(fdd.State, fdd.N(fdd.Invalid))) != fdd.None {
		early = fdd.All
	}
	either := fdd.Range{Must: m.And(set, early), May: m.Or(set, early)}
	if where.hook != "prerouting" {
		return either, "asked before connection tracking"
	}
	lo := m.Is(fdd.In, fdd.Name("lo"))
	return fdd.Range{
		Must: m.Or(m.And(lo, either.Must), m.Diff(early, lo)),
		May:  m.Or(m.And(lo, either.May), m.Diff(early, lo)),
	}, ""
}

// fragment is `ip frag-off & 0x1fff`, compared with 0.
func (m *matcher) fragment(c nft.Cond) (fdd.Range, string) {
	v4 := m.Is(fdd.Family, fdd.IPv4)
	if len(c.Mask) == 1 && (c.Mask[0] == "0x1fff" || c.Mask[0] == "8191") && len(c.Values) == 1 && (c.Values[0] == "0" || c.Values[0] == "0x0") {
		is := uint64(0)
		if c.Not {
			is = 1
		}
		return fdd.Exactly(m.And(v4, m.Is(fdd.Fragment, fdd.N(is)))), ""
	}
	return m.unknown(v4), "this question about fragments is not modelled"
}

// routeBack is whether the source is routed back the way the packet came.
func (m *matcher) routeBack(c nft.Cond, where at) (fdd.Range, string) {
	if where.hook != "prerouting" || len(c.Values) != 1 || c.Mask != nil {
		return m.unknown(fdd.All), "this question about routes is not modelled"
	}
	var is uint64
	switch c.Values[0] {
	case "missing", "0":
	case "exists":
		is = 1
	default:
		return m.unknown(fdd.All), "this question about routes is not modelled"
	}
	if c.Not {
		is = 1 - is
	}
	return fdd.Exactly(m.Is(fdd.Return, fdd.N(is))), ""
}
