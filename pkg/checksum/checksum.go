// SPDX-License-Identifier: GPL-3.0-or-later

// Package checksum is the checksum of the Internet's protocols, RFC 1071.
package checksum

import (
	"encoding/binary"
	"net/netip"
)

// Of is the checksum of b. Over what contains its own checksum it is 0.
func Of(b []byte) uint16 { return ^fold(sum(b)) }

// Transport is the checksum of a transport protocol: over its data and the
// pseudo header of the addresses' family, RFC 9293 section 3.1 and RFC 8200
// section 8.1.
func Transport(src, dst netip.Addr, proto uint8, b []byte) uint16 {
	return ^fold(sum(src.AsSlice()) + sum(dst.AsSlice()) + uint32(proto) + uint32(len(b)) + sum(b))
}

func sum(b []byte) (s uint32) {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
