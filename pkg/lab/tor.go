// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"context"
	"net/netip"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// tor is what the lab's Gateway has as its Tor.
type tor interface {
	// start starts it, behind the firewalls, and waits until it carries
	// connections.
	start(ctx context.Context) error
	// sent reports whether a TCP packet that the Gateway sent to the Internet is
	// Tor's own. It may be called before and while Tor starts.
	sent(f netlab.Captured) bool
	// called reports whether Tor is behind a connection to a server from there.
	called(from netip.AddrPort) bool
	// took tells where a client's connection came in.
	took(o netlab.Outcome) (netlab.Accepted, bool)
	// tries is how often to try what should be answered: circuits may fail, which
	// harms nobody.
	tries() int
	// stop ends it, also when it was not started.
	stop()
}

func (l *Lab) newTor() tor {
	if l.opts.Tor == RealTor {
		return newRealTor(l.topo, l.gateway, l.scratch, l.opts)
	}
	return &standIn{l.newStandIn()}
}

func (l *Lab) newStandIn() *netlab.StandIn {
	return &netlab.StandIn{
		Namespace: l.topo.Gateway.Namespace, UID: uidTor,
		Ports:   netlab.NewPortRange(torPortFirst, torPortLast),
		Answer4: netip.MustParseAddr(netlab.ServerIP), Answer6: netip.MustParseAddr(netlab.ServerIP6),
	}
}

// everywhere are the addresses that a stand-in listens at.
func everywhere() []string { return []string{"0.0.0.0", "::"} }

// standIn behaves as Tor does, and is told by its local ports.
type standIn struct{ *netlab.StandIn }

func (s *standIn) start(context.Context) error {
	var socks []uint16
	for _, p := range whonix.SocksPorts() {
		socks = append(socks, p.First)
	}
	socks = append(socks, whonix.CustomPortFirst, whonix.HTTPTunnelPortFirst-1, whonix.ControlPort)
	return s.Start(everywhere(), netlab.StandInPorts{
		Socks: socks, Tunnel: []uint16{whonix.HTTPTunnelPortFirst, whonix.CustomPortLast},
		Trans: []uint16{whonix.TransPortWorkstation, whonix.TransPortGateway}, DNS: []uint16{whonix.DNSPortWorkstation, whonix.DNSPortGateway},
	})
}

func (s *standIn) sent(f netlab.Captured) bool     { return s.Ports.Contains(f.SrcPort) }
func (s *standIn) called(from netip.AddrPort) bool { return s.Ports.Contains(from.Port()) }
func (s *standIn) took(o netlab.Outcome) (netlab.Accepted, bool) {
	return s.Reached(o.Local)
}
func (s *standIn) tries() int { return 1 }
func (s *standIn) stop()      { s.Stop() }

// persist tries until it is as expected, as often as that is worth.
func (l *Lab) persist(try func() (seen string, ok bool)) (seen string, ok bool) {
	for n := 0; n < l.tor.tries() && !ok; n++ {
		seen, ok = try()
	}
	return seen, ok
}
