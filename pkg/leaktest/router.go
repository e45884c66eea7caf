// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// routers are the default gateways by an interface. The thread's own view: a
// program may be in several network namespaces.
func routers(root fsx.Root, device string) []netip.Addr {
	const limit = 1 << 20
	four, _ := root.ReadFile("/proc/thread-self/net/route", limit) // none: nothing is excluded
	six, _ := root.ReadFile("/proc/thread-self/net/ipv6_route", limit)
	return append(routers4(string(four), device), routers6(string(six), device)...)
}

// routers4 reads lines of: interface, destination, gateway, ... The numbers are
// as they are in memory.
func routers4(text, device string) (out []netip.Addr) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != device || f[1] != "00000000" {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err != nil || len(b) != 4 {
			continue
		}
		if bigEndian(1) != 1 { // little endian
			slices.Reverse(b)
		}
		if a := netip.AddrFrom4([4]byte(b)); !a.IsUnspecified() {
			out = append(out, a)
		}
	}
	return out
}

// routers6 reads lines of: destination, its length, source, its length,
// gateway, ..., interface.
func routers6(text, device string) (out []netip.Addr) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 || f[9] != device || f[1] != "00" {
			continue
		}
		b, err := hex.DecodeString(f[4])
		if err != nil || len(b) != 16 {
			continue
		}
		if a := netip.AddrFrom16([16]byte(b)); !a.IsUnspecified() {
			out = append(out, a)
		}
	}
	return out
}

// neighbourly reports what machines say on a link to find each other, and
// their groups; no router passes it on.
func neighbourly(f frame) bool {
	switch {
	case f.Type == unix.ETH_P_ARP:
		return true
	case f.icmp6() && !f.Fragment:
		local := f.Dst.IsLinkLocalUnicast() || f.Dst.IsLinkLocalMulticast()
		switch f.Kind {
		case 133, 135, 136: // RFC 4861
			return true
		case 131, 132, 143: // RFC 2710, 3810
			return local
		}
	case f.Type == unix.ETH_P_IP && f.Proto == unix.IPPROTO_IGMP:
		return f.Dst.IsLinkLocalMulticast()
	}
	return false
}

// lease reports DHCP that stays on the link.
func lease(f frame, routers []netip.Addr) bool {
	if f.Proto != unix.IPPROTO_UDP || f.Fragment {
		return false
	}
	servers := netip.MustParseAddr("ff02::1:2")
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch {
	case f.SrcPort == 68 && f.DstPort == 67:
		return f.Dst == broadcast || slices.Contains(routers, f.Dst)
	case f.SrcPort == 546 && f.DstPort == 547:
		return f.Dst == servers
	}
	return false
}

// forRouter reports what is for the local router itself. A question of DNS is
// not: it is passed on.
func forRouter(f frame, routers []netip.Addr) bool {
	const domain, domainTLS = 53, 853
	asks := (f.Proto == unix.IPPROTO_UDP || f.Proto == unix.IPPROTO_TCP) && (f.DstPort == domain || f.DstPort == domainTLS)
	return !f.Fragment && !asks && slices.Contains(routers, f.Dst)
}
