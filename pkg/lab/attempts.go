// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// attempt is one thing to try. try returns what was seen and whether that is
// as expected.
type attempt struct {
	tried, expected string
	try             func(ctx context.Context, l *Lab) (seen string, ok bool)
}

// group is a list of attempts under one heading; prepare, which may be nil,
// comes first and must succeed.
type group struct {
	name     string
	prepare  func(ctx context.Context, l *Lab) error
	attempts []attempt
}

// groups is everything the lab tries, in order.
func groups(opts Options) []group {
	var listeners, honest, attacker []group
	if opts.Tor == RealTor {
		listeners = []group{{"The Gateway's Tor, with the shipped configuration", nil, []attempt{torListens()}}}
	}
	if opts.Leaktest != "" {
		honest = []group{{"The leak tests in the Workstation", nil, leakTests("--rate=0", "--wait=200ms")}}
		attacker = []group{{"The leak tests in a Workstation without firewall", nil, leakTests()}}
	}
	return slices.Concat(listeners, []group{
		{"A Workstation at work, both firewalls loaded", nil, atWork()},
		{"Programs in the Workstation that do not speak TCP", nil, notTorified()},
	}, honest, []group{
		{"An attacker with root in the Workstation, its firewall gone", dropWorkstationFirewall, attacks()},
	}, attacker, []group{
		{"Honest programs in the Workstation, after the attack", endAttack, []attempt{throughTor(netlab.ServerIP), throughTor(netlab.ServerIP6)}},
		{"Accounts on the Gateway", nil, gatewayAccounts()},
		{"All packets there can be: what the proof says, and each leak it claims", nil, proved()},
		{"Before the clock is right (timesync-fail-closed)", reloadWorkstation, timesync()},
		{"An attacker with root in the Workstation, before the clock is right", dropWorkstationFirewall, []attempt{randomFrames()}},
		{"Firewalls that fail to load", endAttack, failures()},
	})
}

func join(addr string, port uint16) string { return net.JoinHostPort(addr, fmt.Sprint(port)) }

// Addresses of both families.
func servers() []string      { return []string{netlab.ServerIP, netlab.ServerIP6} }
func gatewayAddrs() []string { return []string{whonix.GatewayIP, whonix.GatewayIP6} }

// throughTor connects to a server on the Internet and checks that it was
// called from the Gateway's address, by Tor.
func throughTor(to string) attempt {
	return attempt{"TCP to " + join(to, 80), "answered, through Tor's TransPort", func(_ context.Context, l *Lab) (string, bool) {
		return l.persist(func() (string, bool) {
			return l.viaTor(l.topo.Workstation.Namespace.TCP(uidUser, join(to, 80), quick), whonix.TransPortWorkstation)
		})
	}}
}

// viaTor describes a connection that should have come in at the given port of
// Tor and been answered through it.
func (l *Lab) viaTor(o netlab.Outcome, port uint16) (string, bool) {
	caller, greeted := netlab.Greeting(o.Text)
	in, reached := l.reached(o)
	switch {
	case o.Verdict != netlab.Answered || !greeted:
		return o.Verdict, false
	case !l.tor.called(caller):
		return fmt.Sprintf("answered, but the server was called by %v: not Tor", caller), false
	case !reached || in.Port != port:
		return fmt.Sprintf("answered, but through port %d", in.Port), false
	}
	return fmt.Sprintf("answered, through Tor's port %d", in.Port), true
}

// reached is how a client's connection came in at Tor, which may take it up
// only after the client has it.
func (l *Lab) reached(o netlab.Outcome) (netlab.Accepted, bool) {
	const step = 10 * time.Millisecond
	for end := time.Now().Add(quick); ; time.Sleep(step) {
		in, ok := l.tor.took(o)
		if ok || !o.Local.IsValid() || time.Now().After(end) {
			return in, ok
		}
	}
}

func socks(proxy string, port uint16, to string) attempt {
	return attempt{fmt.Sprintf("SOCKS at %s to %s", join(proxy, port), join(to, 80)), "answered, through that port", func(_ context.Context, l *Lab) (string, bool) {
		return l.persist(func() (string, bool) {
			return l.viaTor(l.topo.Workstation.Namespace.SOCKS(uidUser, join(proxy, port), join(to, 80), quick), port)
		})
	}}
}

func tunnel(proxy string, port uint16, to string) attempt {
	return attempt{fmt.Sprintf("HTTP CONNECT at %s to %s", join(proxy, port), join(to, 80)), "answered, through that port", func(_ context.Context, l *Lab) (string, bool) {
		return l.persist(func() (string, bool) {
			return l.viaTor(l.topo.Workstation.Namespace.HTTPConnect(uidUser, join(proxy, port), join(to, 80), quick), port)
		})
	}}
}

func atWork() []attempt {
	var list []attempt
	for _, s := range servers() {
		list = append(list, throughTor(s))
	}
	for _, g := range gatewayAddrs() {
		list = append(list, attempt{"DNS at " + join(g, 53), "answered by Tor's DnsPort", func(_ context.Context, l *Lab) (string, bool) {
			return l.asks(join(g, 53))
		}})
	}
	for _, port := range []uint16{whonix.DefaultPort, whonix.LegacyBrowserPort, whonix.AptGetPort, whonix.SdwdatePort, whonix.BrowserPort, whonix.CustomPortFirst, whonix.HTTPTunnelPortFirst - 1} {
		list = append(list, socks(whonix.GatewayIP, port, netlab.ServerIP))
	}
	for _, port := range []uint16{whonix.HTTPTunnelPortFirst, whonix.CustomPortLast} {
		list = append(list, tunnel(whonix.GatewayIP, port, netlab.ServerIP))
	}
	list = append(list, socks(whonix.GatewayIP6, whonix.DefaultPort, netlab.ServerIP6))
	for _, to := range []string{join(whonix.GatewayIP, 22), join(whonix.GatewayIP, 8080), join(netlab.ExternalIP, 22), join(whonix.GatewayIP6, 22)} {
		list = append(list, attempt{"TCP to " + to + ", a port of the Gateway's", "ends at the TransPort, not at the Gateway", func(_ context.Context, l *Lab) (string, bool) {
			o := l.topo.Workstation.Namespace.TCP(uidUser, to, quick)
			in, ok := l.reached(o)
			return fmt.Sprintf("ended at port %d", in.Port), ok && in.Port == whonix.TransPortWorkstation && in.To.String() == to
		}})
	}
	return append(list, attempt{"TCP to " + join(whonix.GatewayIP, whonix.ControlPort) + ", the control port filter", "connected", func(_ context.Context, l *Lab) (string, bool) {
		o := l.topo.Workstation.Namespace.TCP(uidUser, join(whonix.GatewayIP, whonix.ControlPort), silent)
		in, ok := l.reached(o)
		return o.Verdict, ok && in.Port == whonix.ControlPort
	}})
}

// asks asks for a name, as an honest program of the Workstation does.
func (l *Lab) asks(at string) (string, bool) {
	return l.persist(func() (string, bool) {
		return dnsAnswer(l.topo.Workstation.Namespace.UDP(uidUser, at, netlab.Query("example.com"), quick))
	})
}

func dnsAnswer(o netlab.Outcome) (string, bool) {
	if o.Verdict != netlab.Answered {
		return o.Verdict, false
	}
	want := string(netip.MustParseAddr(netlab.ServerIP).AsSlice())
	if !strings.Contains(o.Text, want) {
		return "answered by somebody else", false
	}
	return "answered by Tor's DnsPort", true
}

// notTorified are attempts that the Workstation's own firewall must stop:
// nothing of them may even reach the wire (D1).
func notTorified() []attempt {
	var list []attempt
	stopped := func(tried, to string, try func(n *netlab.Namespace) netlab.Outcome) {
		list = append(list, attempt{tried, "not let out, nothing on the wire", func(ctx context.Context, l *Lab) (string, bool) {
			from := l.inside.Count()
			o := try(l.topo.Workstation.Namespace)
			if f, leaked := l.wired(ctx, from, netip.MustParseAddr(to)); leaked {
				return "on the wire: " + f, false
			}
			return o.Verdict, o.Verdict == netlab.Forbidden || o.Verdict == netlab.Refused
		}})
	}
	for _, s := range servers() {
		for _, port := range []uint16{53, 123, 443} {
			stopped("UDP to "+join(s, port), s, func(n *netlab.Namespace) netlab.Outcome {
				return n.UDP(uidUser, join(s, port), netlab.Query("example.com"), silent)
			})
		}
		stopped("ping "+s, s, func(n *netlab.Namespace) netlab.Outcome { return n.Ping(s, silent) })
	}
	for _, g := range gatewayAddrs() {
		stopped("UDP to "+join(g, 123), g, func(n *netlab.Namespace) netlab.Outcome { return n.UDP(uidUser, join(g, 123), []byte("x"), silent) })
	}
	return list
}

// wired looks for a packet, other than of TCP, that left the Workstation for an
// address since the frame numbered from.
func (l *Lab) wired(ctx context.Context, from int, to netip.Addr) (string, bool) {
	if err := l.settle(ctx); err != nil {
		return err.Error(), true
	}
	frames, err := l.inside.Frames()
	if err != nil {
		return err.Error(), true
	}
	for _, f := range frames[from:] {
		if f.Outgoing && f.Dst == to && f.Proto != netlab.ProtoTCP && !f.NeighbourDiscovery() {
			return f.String(), true
		}
	}
	return "", false
}

// gatewayAccounts are direct connections by the Gateway's own accounts.
func gatewayAccounts() []attempt {
	var list []attempt
	for _, a := range accounts() {
		exempt := a.uid == uidClearnet || a.uid == uidTunnel || a.uid == uidTor
		expected := "refused"
		if exempt {
			expected = "answered"
		}
		for _, s := range servers() {
			list = append(list, attempt{fmt.Sprintf("TCP by %s to %s", a.name, join(s, 80)), expected, func(_ context.Context, l *Lab) (string, bool) {
				if exempt {
					o := l.topo.Gateway.Namespace.TCPFrom(a.uid, join(s, 80), l.exempt, quick)
					return o.Verdict, o.Verdict == netlab.Answered
				}
				o := l.topo.Gateway.Namespace.TCP(a.uid, join(s, 80), quick)
				return o.Verdict, o.Verdict == netlab.Refused || o.Verdict == netlab.Forbidden
			}})
		}
	}
	for _, s := range servers() {
		list = append(list, attempt{"UDP by user to " + join(s, 53), "refused", func(_ context.Context, l *Lab) (string, bool) {
			o := l.topo.Gateway.Namespace.UDP(uidUser, join(s, 53), netlab.Query("example.com"), silent)
			return o.Verdict, o.Verdict == netlab.Refused || o.Verdict == netlab.Forbidden
		}})
	}
	return list
}
