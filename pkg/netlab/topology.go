// SPDX-License-Identifier: GPL-3.0-or-later

package netlab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"whonix-networking/pkg/whonix"
)

// Addresses of the topology.
const (
	WorkstationIP  = "10.152.152.11"
	WorkstationIP6 = "fd19:c33d:88bc::11"
	ExternalIP     = "10.0.2.15"      // the Gateway's, towards the Internet
	ExternalIP6    = "2001:db8:1::15" // its IPv6 counterpart, what an attacker wants
	RouterIP       = "10.0.2.2"
	RouterIP6      = "2001:db8:1::2"
	ServerIP       = "198.51.100.1"
	ServerIP6      = "2001:db8::1"
	AttackerIP     = "198.51.100.66" // the attacker's own machine on the Internet
	AttackerIP6    = "2001:db8:66::66"
)

// Topology is a Workstation behind a Gateway on an Internet:
//
//	workstation eth0 -- eth1 gateway eth0 -- eth0 internet
//
// The Gateway's kernel is set to the worst: it forwards, and checks no
// sources. Only its firewall stands in the way.
type Topology struct {
	Workstation, Gateway, Internet Port // Gateway is its external side
	Inside                         Port // the Gateway's internal side
	servers                        []io.Closer
}

// NewTopology builds the networks. No firewall is loaded.
func NewTopology() (_ *Topology, err error) {
	t := &Topology{}
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	for _, p := range []struct {
		port      *Port
		name, nic string
	}{{&t.Workstation, "workstation", "eth0"}, {&t.Gateway, "gateway", "eth0"}, {&t.Internet, "internet", "eth0"}} {
		n, err := New(p.name)
		if err != nil {
			return nil, err
		}
		*p.port = Port{Namespace: n, Interface: p.nic}
	}
	t.Inside = Port{Namespace: t.Gateway.Namespace, Interface: "eth1"}
	for _, p := range []Port{t.Workstation, t.Gateway, t.Internet} {
		err = errors.Join(err, p.Namespace.worstCase())
	}
	err = errors.Join(err,
		Connect(t.Workstation, t.Inside),
		Connect(t.Gateway, t.Internet),
		t.Workstation.Address(WorkstationIP+"/18", WorkstationIP6+"/96"),
		t.Inside.Address(whonix.GatewayIP+"/18", whonix.GatewayIP6+"/96"),
		t.Gateway.Address(ExternalIP+"/24", ExternalIP6+"/64"),
		t.Internet.Address(RouterIP+"/24", RouterIP6+"/64", ServerIP+"/32", ServerIP6+"/128", AttackerIP+"/32", AttackerIP6+"/128"),
		t.Workstation.DefaultVia(whonix.GatewayIP, whonix.GatewayIP6),
		t.Gateway.DefaultVia(RouterIP, RouterIP6),
	)
	if err != nil {
		return nil, fmt.Errorf("build the networks: %w", err)
	}
	return t, t.startServers()
}

// worstCase makes a kernel forward everything and check nothing.
func (n *Namespace) worstCase() error {
	return errors.Join(
		n.Sysctl("ipv4/ip_forward", "1"),
		n.Sysctl("ipv6/conf/all/forwarding", "1"),
		n.Sysctl("ipv4/conf/all/rp_filter", "0"),
		n.Sysctl("ipv4/conf/default/rp_filter", "0"),
		n.Sysctl("ipv6/conf/all/accept_ra", "2"),
		n.Sysctl("ipv6/conf/default/accept_ra", "2"),
		n.Sysctl("ipv6/conf/default/accept_dad", "0"), // addresses count at once
		n.Sysctl("ipv4/icmp_ratelimit", "0"),
	)
}

// startServers opens, on the Internet, TCP ports that say who called, and UDP
// ports that answer.
func (t *Topology) startServers() error {
	for _, addr := range []string{ServerIP, ServerIP6, RouterIP} {
		l, err := t.Internet.Namespace.Listen(0, net.JoinHostPort(addr, "80"))
		if err != nil {
			return err
		}
		t.servers = append(t.servers, l)
		go greet(l)
		for _, port := range []string{"53", "123", "443"} {
			pc, err := t.Internet.Namespace.ListenPacket(0, net.JoinHostPort(addr, port))
			if err != nil {
				return err
			}
			t.servers = append(t.servers, pc)
			go echo(pc)
		}
	}
	return nil
}

// greet tells each caller its address, as one line.
func greet(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintf(c, "you are %v\n", c.RemoteAddr())
		c.Close()
	}
}

// Greeting is the address that a greeting names, if text is one.
func Greeting(text string) (netip.AddrPort, bool) {
	var s string
	for i := range len(text) { // behind what a SOCKS server says first
		if k, _ := fmt.Sscanf(text[i:], "you are %s", &s); k == 1 {
			a, err := netip.ParseAddrPort(s)
			return a, err == nil
		}
	}
	return netip.AddrPort{}, false
}

func echo(pc net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}
}

// Close ends everything.
func (t *Topology) Close() {
	for _, s := range t.servers {
		s.Close()
	}
	for _, p := range []Port{t.Workstation, t.Gateway, t.Internet} {
		if p.Namespace != nil {
			p.Namespace.Close()
		}
	}
}
