// SPDX-License-Identifier: GPL-3.0-or-later

package netlab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Decoded is what matters of a captured frame.
type Decoded struct {
	EtherType        uint16
	Source           net.HardwareAddr
	Src, Dst         netip.Addr
	Proto            uint8 // behind extension headers
	SrcPort, DstPort uint16
	Flags            uint8 // TCP
	Type, Code       uint8 // ICMP
	ARPOperation     uint16
	Fragment         bool // not the first
	Hops             uint8
}

// Decode reads a frame as far as it is understood.
func Decode(frame []byte) Decoded {
	const etherLen = 14
	var d Decoded
	if len(frame) < etherLen {
		return d
	}
	d.Source = net.HardwareAddr(frame[6:12])
	d.EtherType = binary.BigEndian.Uint16(frame[12:])
	b := frame[etherLen:]
	switch {
	case d.EtherType == EtherARP && len(b) >= 28:
		d.ARPOperation = binary.BigEndian.Uint16(b[6:])
		d.Src, _ = netip.AddrFromSlice(b[14:18])
		d.Dst, _ = netip.AddrFromSlice(b[24:28])
	case d.EtherType == EtherIPv4 && len(b) >= 20:
		d.ipv4(b)
	case d.EtherType == EtherIPv6 && len(b) >= 40:
		d.ipv6(b)
	}
	return d
}

func (d *Decoded) ipv4(b []byte) {
	d.Src, _ = netip.AddrFromSlice(b[12:16])
	d.Dst, _ = netip.AddrFromSlice(b[16:20])
	d.Proto, d.Hops = b[9], b[8]
	d.Fragment = binary.BigEndian.Uint16(b[6:])&0x1fff != 0
	if n := int(b[0]&15) * 4; n <= len(b) && !d.Fragment {
		d.transport(b[n:])
	}
}

func (d *Decoded) ipv6(b []byte) {
	const hopByHop, routing, fragment, options = 0, 43, 44, 60
	d.Src, _ = netip.AddrFromSlice(b[8:24])
	d.Dst, _ = netip.AddrFromSlice(b[24:40])
	d.Proto, d.Hops = b[6], b[7]
	b = b[40:]
	for {
		switch d.Proto {
		case hopByHop, routing, options:
			if len(b) < 8 || len(b) < 8+int(b[1])*8 {
				return
			}
			d.Proto, b = b[0], b[8+int(b[1])*8:]
		case fragment:
			if len(b) < 8 {
				return
			}
			d.Fragment = binary.BigEndian.Uint16(b[2:])&0xfff8 != 0
			d.Proto, b = b[0], b[8:]
			if d.Fragment {
				return
			}
		default:
			d.transport(b)
			return
		}
	}
}

func (d *Decoded) transport(b []byte) {
	switch {
	case (d.Proto == ProtoTCP && len(b) >= 14) || (d.Proto == ProtoUDP && len(b) >= 4):
		d.SrcPort, d.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if d.Proto == ProtoTCP {
			d.Flags = b[13]
		}
	case (d.Proto == ProtoICMP || d.Proto == ProtoICMPv6) && len(b) >= 2:
		d.Type, d.Code = b[0], b[1]
	}
}

// String is the packet in words.
func (d Decoded) String() string {
	switch d.EtherType {
	case EtherARP:
		if d.ARPOperation == 1 {
			return fmt.Sprintf("ARP request by %v for %v", d.Src, d.Dst)
		}
		return fmt.Sprintf("ARP reply by %v to %v", d.Src, d.Dst)
	case EtherIPv4, EtherIPv6:
		family := "IPv4"
		if d.EtherType == EtherIPv6 {
			family = "IPv6"
		}
		return family + " " + d.inWords()
	}
	return fmt.Sprintf("frame of type %#04x", d.EtherType)
}

func (d Decoded) inWords() string {
	from, to := netip.AddrPortFrom(d.Src, d.SrcPort), netip.AddrPortFrom(d.Dst, d.DstPort)
	switch {
	case d.Fragment:
		return fmt.Sprintf("fragment of protocol %d %v -> %v", d.Proto, d.Src, d.Dst)
	case d.Proto == ProtoTCP:
		return fmt.Sprintf("TCP %v -> %v %s", from, to, flagNames(d.Flags))
	case d.Proto == ProtoUDP:
		return fmt.Sprintf("UDP %v -> %v", from, to)
	case d.Proto == ProtoICMP:
		return fmt.Sprintf("ICMP type %d code %d %v -> %v", d.Type, d.Code, d.Src, d.Dst)
	case d.Proto == ProtoICMPv6:
		return fmt.Sprintf("ICMPv6 type %d code %d %v -> %v", d.Type, d.Code, d.Src, d.Dst)
	}
	return fmt.Sprintf("protocol %d %v -> %v", d.Proto, d.Src, d.Dst)
}

func flagNames(flags uint8) string {
	var names []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if flags&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "no flags"
	}
	return strings.Join(names, ",")
}

// NeighbourDiscovery reports whether the packet is one of the messages by which
// machines find each other: ARP, or a solicitation or advertisement of IPv6
// neighbours, or a router solicitation.
func (d Decoded) NeighbourDiscovery() bool {
	const routerSolicit, neighbourSolicit, neighbourAdvert = 133, 135, 136
	return d.EtherType == EtherARP || d.EtherType == EtherIPv6 && d.Proto == ProtoICMPv6 &&
		(d.Type == routerSolicit || d.Type == neighbourSolicit || d.Type == neighbourAdvert)
}
