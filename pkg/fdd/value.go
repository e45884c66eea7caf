// SPDX-License-Identifier: GPL-3.0-or-later

// Package fdd reasons about sets of packets: all those that a ruleset can
// tell apart, at once, not samples of them.
//
// A set is a firewall decision diagram (Gouda and Liu, "Structured firewall
// design", 2007): a graph whose nodes each look at one field of the packet,
// always in the same order, and whose edges are disjoint intervals of values
// that together are all values. Diagrams are reduced and shared: two sets are
// equal exactly when their numbers are. What a ruleset asks of a packet that
// the fields cannot say is a Range of two sets, one too large and one too small
// (as in Diekmann et al., "Verified iptables Firewall Analysis", 2016).
//
// Nothing here does input or output, or knows of any syntax.
package fdd

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Value is what a field holds: an unsigned number of 128 bits, as large as an
// IPv6 address.
type Value struct{ Hi, Lo uint64 }

// maxValue is the largest value.
var maxValue = Value{^uint64(0), ^uint64(0)}

// N is a small value.
func N(n uint64) Value { return Value{Lo: n} }

// Less orders values.
func (v Value) Less(w Value) bool { return v.Hi < w.Hi || v.Hi == w.Hi && v.Lo < w.Lo }

// next is the value above v, which must not be the largest.
func (v Value) next() Value {
	lo, carry := bits.Add64(v.Lo, 1, 0)
	return Value{v.Hi + carry, lo}
}

// prev is the value below v, which must not be 0.
func (v Value) prev() Value {
	lo, borrow := bits.Sub64(v.Lo, 1, 0)
	return Value{v.Hi - borrow, lo}
}

// Addr is the value of an address in its own family.
func Addr(a netip.Addr) Value {
	if a.Is4() {
		b := a.As4()
		return N(uint64(binary.BigEndian.Uint32(b[:])))
	}
	b := a.As16()
	return Value{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// IP is the address that v stands for in a family, IPv4 or IPv6.
func (v Value) IP(family Value) netip.Addr {
	if family == IPv4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(v.Lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], v.Hi)
	binary.BigEndian.PutUint64(b[8:], v.Lo)
	return netip.AddrFrom16(b)
}

// nameLen is the room an interface name has, IFNAMSIZ of <net/if.h>.
const nameLen = 16

// Name is the value of an interface name: its bytes, so that names with a
// common beginning are an interval.
func Name(name string) Value {
	var b [nameLen]byte
	copy(b[:], name)
	return Value{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// Names is the interval of the names that begin with prefix.
func Names(prefix string) (first, last Value) {
	var b [nameLen]byte
	for i := copy(b[:], prefix); i < nameLen; i++ {
		b[i] = 0xff
	}
	return Name(prefix), Value{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// Text is the interface name that v stands for.
func (v Value) Text() string {
	var b [nameLen]byte
	binary.BigEndian.PutUint64(b[:8], v.Hi)
	binary.BigEndian.PutUint64(b[8:], v.Lo)
	n := 0
	for n < nameLen && b[n] != 0 {
		n++
	}
	return string(b[:n])
}
