// SPDX-License-Identifier: GPL-3.0-or-later

package netlab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Port is one end of a link: an interface of a namespace.
type Port struct {
	Namespace *Namespace
	Interface string
}

// Connect joins two namespaces by a virtual Ethernet link that is up.
func Connect(a, b Port) error {
	return a.Namespace.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = a.Interface
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: b.Interface, PeerNamespace: netlink.NsFd(b.Namespace.handle.Fd())}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("link %s and %s: %w", a.Namespace.Name, b.Namespace.Name, err)
		}
		if err := netlink.LinkSetUp(veth); err != nil {
			return err
		}
		return b.Namespace.Do(func() error {
			peer, err := netlink.LinkByName(b.Interface)
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(peer)
		})
	})
}

// Address gives the interface addresses in CIDR form. IPv6 ones can be used at
// once, without duplicate address detection.
func (p Port) Address(cidrs ...string) error {
	return p.Namespace.Do(func() error {
		link, err := netlink.LinkByName(p.Interface)
		if err != nil {
			return err
		}
		for _, c := range cidrs {
			addr, err := netlink.ParseAddr(c)
			if err != nil {
				return err
			}
			if addr.IP.To4() == nil {
				addr.Flags |= unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return fmt.Errorf("address %s on %s of %s: %w", c, p.Interface, p.Namespace.Name, err)
			}
		}
		return nil
	})
}

// DefaultVia routes everything through gateways, one a family.
func (p Port) DefaultVia(gateways ...string) error {
	return p.Namespace.Do(func() error {
		link, err := netlink.LinkByName(p.Interface)
		if err != nil {
			return err
		}
		for _, g := range gateways {
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(g)}); err != nil {
				return fmt.Errorf("default route of %s via %s: %w", p.Namespace.Name, g, err)
			}
		}
		return nil
	})
}

// HardwareAddr is the interface's Ethernet address.
func (p Port) HardwareAddr() (addr net.HardwareAddr, err error) {
	err = p.Namespace.Do(func() error {
		link, err := netlink.LinkByName(p.Interface)
		if err == nil {
			addr = link.Attrs().HardwareAddr
		}
		return err
	})
	return addr, err
}

// LinkLocal is the interface's IPv6 link-local address.
func (p Port) LinkLocal() (addr netip.Addr, err error) {
	err = p.Namespace.Do(func() error {
		link, err := netlink.LinkByName(p.Interface)
		if err != nil {
			return err
		}
		list, err := netlink.AddrList(link, unix.AF_INET6)
		for _, a := range list {
			if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.IsLinkLocalUnicast() {
				addr = ip
			}
		}
		if err == nil && !addr.IsValid() {
			err = fmt.Errorf("%s of %s has no link-local address", p.Interface, p.Namespace.Name)
		}
		return err
	})
	return addr, err
}

// ForgetNeighbours empties the interface's ARP and neighbour caches.
func (p Port) ForgetNeighbours() error {
	return p.Namespace.Do(func() error {
		link, err := netlink.LinkByName(p.Interface)
		if err != nil {
			return err
		}
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			list, err := netlink.NeighList(link.Attrs().Index, family)
			if err != nil {
				return err
			}
			for _, e := range list {
				if e.State&(netlink.NUD_NOARP|netlink.NUD_PERMANENT) == 0 {
					_ = netlink.NeighDel(&e) // it may have gone by itself
				}
			}
		}
		return nil
	})
}

// DefaultRoutes lists the gateways of the namespace's default routes in a
// family, AF_INET or AF_INET6.
func (n *Namespace) DefaultRoutes(family int) (gateways []string, err error) {
	err = n.Do(func() error {
		routes, err := netlink.RouteList(nil, family)
		for _, r := range routes {
			ones := 0
			if r.Dst != nil {
				ones, _ = r.Dst.Mask.Size()
			}
			if ones == 0 && r.Gw != nil {
				gateways = append(gateways, r.Gw.String())
			}
		}
		return err
	})
	return gateways, err
}
