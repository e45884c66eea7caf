// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// frame is what matters of a packet on a link, without the link's header.
type frame struct {
	Type             uint16 // Ethernet's
	Src, Dst         netip.Addr
	Proto            uint8 // behind extension headers
	SrcPort, DstPort uint16
	Flags            uint8 // TCP
	Kind, Code       uint8 // ICMP
	Fragment         bool  // not the first
}

// decode reads a packet as far as it is understood. What is not, keeps its
// zero value, and so is never taken for something harmless.
func decode(etherType uint16, b []byte) frame {
	f := frame{Type: etherType}
	switch {
	case etherType == unix.ETH_P_IP && len(b) >= ipv4Header && b[0]>>4 == 4:
		f.Src, f.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		f.Proto = b[9]
		f.Fragment = binary.BigEndian.Uint16(b[6:])&0x1fff != 0
		if n := int(b[0]&15) * 4; n >= ipv4Header && n <= len(b) && !f.Fragment {
			f.transport(b[n:])
		}
	case etherType == unix.ETH_P_IPV6 && len(b) >= ipv6Header && b[0]>>4 == 6:
		f.Src, f.Dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		f.Proto = b[6]
		f.extensions(b[ipv6Header:])
	}
	return f
}

// extensions goes through the extension headers of RFC 8200.
func (f *frame) extensions(b []byte) {
	const header = 8
	for {
		switch f.Proto {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			if len(b) < header || len(b) < header+int(b[1])*8 {
				return
			}
			f.Proto, b = b[0], b[header+int(b[1])*8:]
		case unix.IPPROTO_FRAGMENT:
			if len(b) < header {
				return
			}
			f.Fragment = binary.BigEndian.Uint16(b[2:])&0xfff8 != 0
			f.Proto, b = b[0], b[header:]
			if f.Fragment {
				return
			}
		default:
			f.transport(b)
			return
		}
	}
}

func (f *frame) transport(b []byte) {
	const flagsAt = 13
	switch {
	case f.Proto == unix.IPPROTO_TCP && len(b) > flagsAt:
		f.SrcPort, f.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		f.Flags = b[flagsAt]
	case f.Proto == unix.IPPROTO_UDP && len(b) >= udpHeader:
		f.SrcPort, f.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case (f.icmp4() || f.icmp6()) && len(b) >= 2:
		f.Kind, f.Code = b[0], b[1]
	}
}

// icmp4 and icmp6 report a message of the family's own kind: the other's number
// is no more than a number, and must not pass for something harmless.
func (f frame) icmp4() bool { return f.Type == unix.ETH_P_IP && f.Proto == unix.IPPROTO_ICMP }
func (f frame) icmp6() bool { return f.Type == unix.ETH_P_IPV6 && f.Proto == unix.IPPROTO_ICMPV6 }

// protocol names what is inside.
func (f frame) protocol() string {
	switch {
	case f.Type == unix.ETH_P_ARP:
		return "ARP"
	case f.Type != unix.ETH_P_IP && f.Type != unix.ETH_P_IPV6, !f.Src.IsValid():
		return fmt.Sprintf("Ethernet type %#04x", f.Type)
	case f.Fragment:
		return fmt.Sprintf("fragment of protocol %d", f.Proto)
	case f.Proto == unix.IPPROTO_TCP:
		return "TCP"
	case f.Proto == unix.IPPROTO_UDP:
		return "UDP"
	case f.icmp4():
		return fmt.Sprintf("ICMP type %d code %d", f.Kind, f.Code)
	case f.icmp6():
		return fmt.Sprintf("ICMPv6 type %d code %d", f.Kind, f.Code)
	}
	return fmt.Sprintf("protocol %d", f.Proto)
}

// String is the packet in words.
func (f frame) String() string {
	switch {
	case !f.Src.IsValid():
		return f.protocol()
	case f.SrcPort != 0 || f.DstPort != 0:
		return fmt.Sprintf("%s %v -> %v", f.protocol(), netip.AddrPortFrom(f.Src, f.SrcPort), netip.AddrPortFrom(f.Dst, f.DstPort))
	}
	return fmt.Sprintf("%s %v -> %v", f.protocol(), f.Src, f.Dst)
}
