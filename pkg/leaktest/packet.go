// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/checksum"
)

// Header lengths without options, RFC 791, 8200, 9293.
const (
	ipv4Header = 20
	ipv6Header = 40
	tcpHeader  = 20
	udpHeader  = 8
)

// packet is an IP packet from src to dst, which are of one family.
func packet(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	const hops = 64
	if dst.Is4() {
		b := make([]byte, ipv4Header, ipv4Header+len(payload))
		b[0] = 0x45
		binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
		b[8], b[9] = hops, proto
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(b[10:], checksum.Of(b))
		return append(b, payload...)
	}
	b := make([]byte, ipv6Header, ipv6Header+len(payload))
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6], b[7] = proto, hops
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	return append(b, payload...)
}

// syn is the first segment of a connection.
func syn(src, dst netip.AddrPort) []byte {
	const flagSYN, window = 2, 64240
	b := make([]byte, tcpHeader)
	binary.BigEndian.PutUint16(b[0:], src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint32(b[4:], uint32(dst.Port())<<16|uint32(src.Port()))
	b[12], b[13] = tcpHeader/4<<4, flagSYN
	binary.BigEndian.PutUint16(b[14:], window)
	binary.BigEndian.PutUint16(b[16:], checksum.Transport(src.Addr(), dst.Addr(), unix.IPPROTO_TCP, b))
	return b
}

// datagram is one of UDP.
func datagram(src, dst netip.AddrPort, data []byte) []byte {
	b := make([]byte, udpHeader, udpHeader+len(data))
	binary.BigEndian.PutUint16(b[0:], src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(cap(b)))
	b = append(b, data...)
	s := checksum.Transport(src.Addr(), dst.Addr(), unix.IPPROTO_UDP, b)
	if s == 0 {
		s = 0xffff // zero means no checksum, RFC 768
	}
	binary.BigEndian.PutUint16(b[6:], s)
	return b
}

// Types of ICMP and ICMPv6, RFC 792 and 4443.
const (
	echoReply4   = 0
	echoRequest4 = 8
	echoRequest6 = 128
	echoReply6   = 129
)

// echoRequest asks dst to answer.
func echoRequest(src, dst netip.Addr, id, number uint16, data []byte) (proto uint8, message []byte) {
	const header = 8
	b := make([]byte, header, header+len(data))
	b[0], proto = echoRequest4, unix.IPPROTO_ICMP
	if dst.Is6() {
		b[0], proto = echoRequest6, unix.IPPROTO_ICMPV6
	}
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], number)
	b = append(b, data...)
	s := checksum.Of(b)
	if dst.Is6() {
		s = checksum.Transport(src, dst, proto, b)
	}
	binary.BigEndian.PutUint16(b[2:], s)
	return proto, b
}
