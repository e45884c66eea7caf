// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// originalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, of the same value.
const originalDst = 80

// originalDestination is where a redirected connection was meant to go: what
// the kernel's connection tracking remembers.
func originalDestination(c *net.TCPConn) (to netip.AddrPort, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return to, err
	}
	local := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	ctlErr := raw.Control(func(fd uintptr) {
		if local.Unmap().Is4() {
			// struct sockaddr_in, in the first 16 of these 20 bytes.
			var m *unix.IPv6Mreq
			if m, err = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, originalDst); err == nil {
				to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Multiaddr[4:8])), binary.BigEndian.Uint16(m.Multiaddr[2:4]))
			}
			return
		}
		var m *unix.IPv6MTUInfo // begins with a struct sockaddr_in6
		if m, err = unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, originalDst); err == nil {
			port := binary.NativeEndian.AppendUint16(nil, m.Addr.Port)
			to = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port))
		}
	})
	return to, errors.Join(ctlErr, err)
}
