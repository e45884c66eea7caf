// SPDX-License-Identifier: GPL-3.0-or-later

package netlab

import (
	"encoding/binary"
	"net"
	"net/netip"

	"whonix-networking/pkg/checksum"
)

// Ethernet types.
const (
	EtherIPv4   = 0x0800
	EtherARP    = 0x0806
	EtherIPv6   = 0x86dd
	EtherMarker = 0x88b5 // IEEE 802 local experimental: carries a Fence
)

// IP protocol numbers.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// TCP flags.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Ethernet is a frame.
func Ethernet(dst, src net.HardwareAddr, kind uint16, payload []byte) []byte {
	b := append(append(make([]byte, 0, 14+len(payload)), dst...), src...)
	return append(binary.BigEndian.AppendUint16(b, kind), payload...)
}

// IPv4 is a header with options, which must fill words of 4 bytes, and a
// payload. Its fields are those of RFC 791.
type IPv4 struct {
	Src, Dst netip.Addr
	Proto    uint8
	TTL      uint8  // 0 counts as 64
	Fragment uint16 // flags and offset
	Options  []byte
	Payload  []byte
}

// Bytes is the packet with its checksum.
func (p IPv4) Bytes() []byte {
	const headerLen = 20
	b := make([]byte, headerLen, headerLen+len(p.Options)+len(p.Payload))
	b[0] = 0x40 | byte((headerLen+len(p.Options))/4)
	binary.BigEndian.PutUint16(b[2:], uint16(headerLen+len(p.Options)+len(p.Payload)))
	binary.BigEndian.PutUint16(b[4:], 0x4242)
	binary.BigEndian.PutUint16(b[6:], p.Fragment)
	b[8], b[9] = hops(p.TTL), p.Proto
	copy(b[12:], p.Src.AsSlice())
	copy(b[16:], p.Dst.AsSlice())
	b = append(b, p.Options...)
	binary.BigEndian.PutUint16(b[10:], checksum.Of(b))
	return append(b, p.Payload...)
}

// IPv6 is a header and what follows it, of type Next. Its fields are those of
// RFC 8200.
type IPv6 struct {
	Src, Dst netip.Addr
	Next     uint8
	HopLimit uint8 // 0 counts as 64
	Payload  []byte
}

// Bytes is the packet.
func (p IPv6) Bytes() []byte {
	const headerLen = 40
	b := make([]byte, headerLen, headerLen+len(p.Payload))
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(len(p.Payload)))
	b[6], b[7] = p.Next, hops(p.HopLimit)
	copy(b[8:], p.Src.AsSlice())
	copy(b[24:], p.Dst.AsSlice())
	return append(b, p.Payload...)
}

func hops(n uint8) byte {
	if n == 0 {
		return 64
	}
	return n
}

// TCP is a segment from src to dst with the given flags and no data.
func TCP(src, dst netip.AddrPort, flags uint8) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b[0:], src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint32(b[4:], 0x01020304)
	b[12], b[13] = 5<<4, flags
	binary.BigEndian.PutUint16(b[14:], 64240)
	binary.BigEndian.PutUint16(b[16:], checksum.Transport(src.Addr(), dst.Addr(), ProtoTCP, b))
	return b
}

// UDP is a datagram.
func UDP(src, dst netip.AddrPort, data []byte) []byte {
	b := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(b[0:], src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
	b = append(b, data...)
	binary.BigEndian.PutUint16(b[6:], checksum.Transport(src.Addr(), dst.Addr(), ProtoUDP, b))
	return b
}

// ICMP is a message of ICMP for IPv4 addresses, of ICMPv6 for IPv6 ones; body
// is what follows the checksum.
func ICMP(src, dst netip.Addr, kind, code uint8, body []byte) []byte {
	b := append([]byte{kind, code, 0, 0}, body...)
	sum := checksum.Of(b)
	if dst.Is6() {
		sum = checksum.Transport(src, dst, ProtoICMPv6, b)
	}
	binary.BigEndian.PutUint16(b[2:], sum)
	return b
}

// Packet wraps a transport payload in the header of the addresses' family.
func Packet(src, dst netip.Addr, proto uint8, payload []byte) (kind uint16, packet []byte) {
	if dst.Is4() {
		return EtherIPv4, IPv4{Src: src, Dst: dst, Proto: proto, Payload: payload}.Bytes()
	}
	const maxHops = 255 // neighbour discovery demands it
	return EtherIPv6, IPv6{Src: src, Dst: dst, Next: proto, HopLimit: maxHops, Payload: payload}.Bytes()
}

// ARP is a request (operation 1) or reply (2), see RFC 826.
func ARP(operation uint16, senderHW net.HardwareAddr, sender netip.Addr, targetHW net.HardwareAddr, target netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, operation)
	b = append(append(b, senderHW...), sender.AsSlice()...)
	return append(append(b, targetHW...), target.AsSlice()...)
}

// RouterAdvertisement is the body of an ICMPv6 message of type 134 that makes
// its sender a default router with high preference, see RFC 4861 and 4191.
func RouterAdvertisement(prefix netip.Prefix, hw net.HardwareAddr) []byte {
	b := []byte{64, 0x08, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // hop limit, high preference, 1800 s
	b = append(b, 3, 4, byte(prefix.Bits()), 0xc0)
	b = binary.BigEndian.AppendUint32(b, 86400)
	b = binary.BigEndian.AppendUint32(b, 14400)
	b = append(append(b, 0, 0, 0, 0), prefix.Addr().AsSlice()...)
	return append(append(b, 1, 1), hw...)
}
