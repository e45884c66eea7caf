// SPDX-License-Identifier: GPL-3.0-or-later

package fdd

// Field is something that a ruleset can ask of a packet.
type Field uint8

// The fields, in the order in which diagrams look at them. At which hook a
// packet is, is not among them: there is a diagram for each hook.
const (
	Out        Field = iota // interface it leaves by, a Name; empty where it does not
	In                      // interface it came in by, likewise
	Family                  // IPv4 or IPv6
	Proto                   // transport protocol, behind extension headers
	Fragment                // 1: not the first fragment, so without transport header
	Extensions              // 1: IPv6 with extension headers before the transport's
	State                   // of its connection
	Direction               // in its connection
	UID                     // owner of the socket it was sent from; NoUID if none
	Flags                   // of TCP
	Type                    // of ICMP or ICMPv6
	Code                    // likewise
	Length                  // of UDP, in bytes, header included
	SrcPort                 // of TCP, UDP and their like
	DstPort                 // likewise
	Return                  // 1: its source is routed back by the interface it came in by
	Route                   // kind of route its destination has
	NAT                     // 1: its destination has been rewritten here
	Src                     // address
	Dst                     // address
	fieldCount
)

// String names a field as nft(8) does where it can.
func (f Field) String() string {
	return [...]string{"oifname", "iifname", "family", "protocol", "fragment", "extension headers", "ct state", "ct direction",
		"skuid", "tcp flags", "icmp type", "icmp code", "udp length", "sport", "dport", "route back", "route", "translated", "saddr", "daddr"}[f]
}

// Values of Family.
var (
	IPv4 = N(4)
	IPv6 = N(6)
)

// Values of Proto.
const (
	ICMP    = 1
	TCP     = 6
	UDP     = 17
	DCCP    = 33
	ICMPv6  = 58
	SCTP    = 132
	UDPLite = 136
)

// Values of State.
const (
	New = iota
	Established
	Related
	Invalid
	Untracked
	stateCount
)

// Values of Direction. A packet without connection has none.
const (
	Original = iota
	Reply
	NoDirection
)

// NoUID is the UID of packets that no socket of an account sent.
const NoUID = 1 << 32

// Values of Route: those of rtnetlink(7), RTN_*.
const (
	Unicast     = 1
	Local       = 2
	Broadcast   = 3
	Anycast     = 4
	Multicast   = 5
	Blackhole   = 6
	Unreachable = 7
	Prohibit    = 8
)

// Packet is one packet.
type Packet [fieldCount]Value

// Interval is the values from First to Last.
type Interval struct{ First, Last Value }

// Valid is the set of packets that can be: each field within its bounds, and 0
// where the packet has no such field.
func (s *Space) Valid() Set {
	if s.valid != None {
		return s.valid
	}
	in := func(f Field, first, last uint64) Set { return s.Range(f, N(first), N(last)) }
	zero := func(f Field) Set { return in(f, 0, 0) }
	v := s.And(in(Proto, 0, 255), in(Fragment, 0, 1), in(Extensions, 0, 1), in(State, 0, stateCount-1), in(UID, 0, NoUID),
		in(Return, 0, 1), in(Route, Unicast, Prohibit), in(NAT, 0, 1))
	v = s.And(v, s.Or(
		s.And(s.Range(Family, IPv4, IPv4), in(Src, 0, 1<<32-1), in(Dst, 0, 1<<32-1), zero(Extensions)),
		s.Range(Family, IPv6, IPv6)))
	tracked := s.Not(s.Or(in(State, Invalid, Untracked)))
	v = s.And(v, s.Or(s.And(tracked, in(Direction, Original, Reply)), s.And(s.Not(tracked), in(Direction, NoDirection, NoDirection))))
	v = s.And(v, s.Or(s.Not(in(State, New, New)), in(Direction, Original, Original)))
	// A fragment behind the first has no transport header.
	whole := zero(Fragment)
	withPorts := s.And(whole, s.ports())
	v = s.And(v, s.Or(s.And(withPorts, in(SrcPort, 0, 65535), in(DstPort, 0, 65535)), s.And(s.Not(withPorts), zero(SrcPort), zero(DstPort))))
	isTCP := s.And(whole, in(Proto, TCP, TCP))
	v = s.And(v, s.Or(s.And(isTCP, in(Flags, 0, 255)), s.And(s.Not(isTCP), zero(Flags))))
	isUDP := s.And(whole, in(Proto, UDP, UDP))
	v = s.And(v, s.Or(s.And(isUDP, in(Length, 0, 65535)), s.And(s.Not(isUDP), zero(Length))))
	isICMP := s.And(whole, s.Or(s.And(s.Range(Family, IPv4, IPv4), in(Proto, ICMP, ICMP)), s.And(s.Range(Family, IPv6, IPv6), in(Proto, ICMPv6, ICMPv6))))
	v = s.And(v, s.Or(s.And(isICMP, in(Type, 0, 255), in(Code, 0, 255)), s.And(s.Not(isICMP), zero(Type), zero(Code))))
	s.valid = v
	return v
}

// ports is the set of packets whose protocol has ports.
func (s *Space) ports() Set {
	var set Set
	for _, p := range []uint64{TCP, UDP, DCCP, SCTP, UDPLite} {
		set = s.Or(set, s.Range(Proto, N(p), N(p)))
	}
	return set
}
