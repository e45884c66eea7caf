// SPDX-License-Identifier: GPL-3.0-or-later

package netlab

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Tracked tells from what the namespace's kernel knows of connections where a
// client's TCP connection was taken to: the local port that answers it, and
// where the client meant to go.
func (n *Namespace) Tracked(client, to netip.AddrPort) (Accepted, bool, error) {
	var found Accepted
	known := false
	family := netlink.InetFamily(unix.AF_INET)
	if client.Addr().Is6() {
		family = unix.AF_INET6
	}
	err := n.Do(func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		for _, f := range flows {
			if f.Forward.Protocol == ProtoTCP && addrPort(f.Forward.SrcIP, f.Forward.SrcPort) == client && addrPort(f.Forward.DstIP, f.Forward.DstPort) == to {
				found, known = Accepted{Port: f.Reverse.SrcPort, To: to}, true
			}
		}
		return err
	})
	return found, known, err
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}
