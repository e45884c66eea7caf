// SPDX-License-Identifier: GPL-3.0-or-later

// Package lab is a whole Whonix network on one machine, in namespaces: an
// Internet, a Gateway with both firewalls' real programs and a Tor, a
// Workstation. Tor is a stand-in or Debian's own with the Gateway's
// configuration. The lab tries what a person would fear and what an attacker
// with root in the Workstation would do, and says what came of it.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// Options of a lab.
type Options struct {
	Firewall    string // the program whonix-firewall
	Enable      string // the program enable-firewall
	Shipped     string // directory of the shipped fragments
	Config      string // directory of the administrator's fragments; empty for none
	Gateway     string // nft script to load on the Gateway instead; empty for none
	Workstation string // nft script to load on the Workstation instead; empty for none
	Frames      int    // random raw frames that the Workstation sends
	Seed        uint64 // for their randomness

	Tor       string // which Tor the Gateway has: StandInTor or RealTor
	Installed string // for RealTor: the root below which the Gateway's files are installed
	Sane      string // for RealTor: the program tor-config-sane
	Leaktest  string // the program leaktest, which the Workstation runs; empty for none
}

// Tors that the Gateway may have.
const (
	StandInTor = "stand-in"
	RealTor    = "real"
)

// Ports of connections that may appear on the Internet side, by their local
// port: Tor's and those of the Gateway's exempt accounts.
const (
	torPortFirst, torPortLast       = 50000, 57999
	exemptPortFirst, exemptPortLast = 58000, 60999
)

// Lab is the running network.
type Lab struct {
	opts        Options
	topo        *netlab.Topology
	gateway     *machine
	workstation *machine
	tor         tor
	exempt      netlab.PortRange
	scratch     string

	internet *netlab.Capture // what the Gateway sent to the Internet and should not have
	inside   *netlab.Capture // everything on the link between Workstation and Gateway
	raw      *netlab.Socket  // the Workstation's, for frames of any kind
	outward  *netlab.Socket  // the Gateway's external side, for markers
	inward   *netlab.Socket  // the Gateway's internal side, for markers
	gatewayL string          // Ethernet address of the Gateway's internal side
	marks    int

	sent    atomic.Int64 // packets of the Workstation on the link inside
	carried atomic.Int64 // packets of Tor's own on the Internet
	flood   atomic.Bool  // what comes inside is counted only
}

// quick bounds attempts that should be answered, or refused, at once, also on a
// machine with much to do; silent
// bounds those that nobody should answer.
const (
	quick  = 20 * time.Second
	silent = 400 * time.Millisecond
)

// New builds the network. No firewall is loaded, and Tor does not run.
func New(opts Options) (_ *Lab, err error) {
	l := &Lab{opts: opts, exempt: netlab.NewPortRange(exemptPortFirst, exemptPortLast)}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if l.topo, err = netlab.NewTopology(); err != nil {
		return nil, err
	}
	if l.scratch, err = os.MkdirTemp("", "whonix-lab-"); err != nil {
		return nil, err
	}
	if err := l.machines(); err != nil {
		return nil, err
	}
	l.tor = l.newTor()
	return l, l.openSockets()
}

func (l *Lab) machines() (err error) {
	programs := map[string]string{
		"/usr/bin/whonix-firewall":                     l.opts.Firewall,
		"/usr/bin/whonix_firewall":                     "->whonix-firewall",
		"/usr/bin/whonix-gateway-firewall":             "->whonix-firewall",
		"/usr/bin/whonix-workstation-firewall":         "->whonix-firewall",
		"/usr/libexec/whonix-firewall/enable-firewall": l.opts.Enable,
	}
	if l.opts.Leaktest != "" {
		programs[leaktestPath] = l.opts.Leaktest
	}
	l.gateway, err = newMachine(l.topo.Gateway.Namespace, l.scratch+"/gateway", whonix.GatewayMarker, programs)
	if err != nil {
		return err
	}
	l.workstation, err = newMachine(l.topo.Workstation.Namespace, l.scratch+"/workstation", whonix.WorkstationMarker, programs)
	if err != nil {
		return err
	}
	for role, m := range map[string]*machine{"gateway": l.gateway, "workstation": l.workstation} {
		dirs := []string{l.opts.Shipped}
		if c := l.opts.Config; c != "" {
			dirs = append(dirs, c, c+"/"+role)
		}
		if err := m.configure(dirs...); err != nil {
			return fmt.Errorf("configure the %s: %w", role, err)
		}
	}
	return nil
}

func (l *Lab) openSockets() (err error) {
	hw, err := l.topo.Inside.HardwareAddr()
	if err != nil {
		return err
	}
	l.gatewayL = string(hw)
	if l.raw, err = l.topo.Workstation.OpenSocket(); err != nil {
		return err
	}
	if l.outward, err = l.topo.Gateway.OpenSocket(); err != nil {
		return err
	}
	if l.inward, err = l.topo.Inside.OpenSocket(); err != nil {
		return err
	}
	if l.inside, err = l.topo.Workstation.Capture(l.seenInside); err != nil {
		return err
	}
	l.internet, err = l.topo.Internet.Capture(l.leaked)
	return err
}

// seenInside counts the Workstation's packets, and keeps every frame but those
// of a flood.
func (l *Lab) seenInside(f netlab.Captured) bool {
	if f.Outgoing {
		l.sent.Add(1)
	}
	return !l.flood.Load()
}

// leaked reports whether a frame on the Internet side is one that the Gateway
// sent and should not have: anything but finding its neighbours, Tor's own
// connections, and those of accounts that are meant to go out.
func (l *Lab) leaked(f netlab.Captured) bool {
	if f.Outgoing {
		return false
	}
	own := f.Src == netip.MustParseAddr(netlab.ExternalIP) || f.Src == netip.MustParseAddr(netlab.ExternalIP6) ||
		f.Src.IsLinkLocalUnicast() || f.Src.IsUnspecified()
	if own && f.Proto == netlab.ProtoTCP && l.tor.sent(f) {
		l.carried.Add(1)
		return false
	}
	permitted := f.Proto == netlab.ProtoTCP && l.exempt.Contains(f.SrcPort)
	return !own || !f.NeighbourDiscovery() && !permitted
}

// Close ends everything and leaves nothing behind.
func (l *Lab) Close() {
	for _, c := range []*netlab.Capture{l.internet, l.inside} {
		if c != nil {
			c.Close()
		}
	}
	for _, s := range []*netlab.Socket{l.raw, l.outward, l.inward} {
		if s != nil {
			s.Close()
		}
	}
	if l.tor != nil {
		l.tor.stop()
	}
	if l.topo != nil {
		l.topo.Close()
	}
	if l.scratch != "" {
		os.RemoveAll(l.scratch)
	}
}

// settle waits until every frame that the Workstation has sent was dealt with
// by the Gateway, and what the Gateway sent has come to the Internet.
func (l *Lab) settle(ctx context.Context) error {
	const rounds = 3 // answers to answers, such as ARP
	for range rounds {
		l.marks++
		mark := fmt.Sprintf("mark %d", l.marks)
		if err := errors.Join(
			netlab.Fence(ctx, l.inward, l.inside, mark),
			netlab.Fence(ctx, l.outward, l.internet, mark),
		); err != nil {
			return err
		}
	}
	return nil
}

// begin loads both firewalls, then starts Tor. What the Gateway sent before,
// when there was no firewall yet, does not count.
func (l *Lab) begin(ctx context.Context) error {
	if err := errors.Join(l.loadGateway(ctx, modeFull), l.loadWorkstation(ctx, modeFull), l.settle(ctx)); err != nil {
		return err
	}
	l.internet.Forget()
	l.sent.Store(0)
	l.carried.Store(0)
	l.internet.Annotate("Tor starts")
	if err := l.tor.start(ctx); err != nil {
		return fmt.Errorf("start Tor on the Gateway: %w", err)
	}
	return nil
}

// loadGateway loads the Gateway's firewall in a mode, or the script given
// instead of it. A refusal is an error with what the program said.
func (l *Lab) loadGateway(ctx context.Context, mode string) error {
	return l.load(ctx, l.gateway, l.opts.Gateway, mode)
}

func (l *Lab) loadWorkstation(ctx context.Context, mode string) error {
	return l.load(ctx, l.workstation, l.opts.Workstation, mode)
}

func (l *Lab) load(ctx context.Context, m *machine, script, mode string) error {
	argv := []string{"/usr/bin/whonix_firewall", "--mode", mode}
	var stdin *strings.Reader
	if script != "" {
		text, err := os.ReadFile(script)
		if err != nil {
			return err
		}
		argv, stdin = []string{"/usr/sbin/nft", "-f", "-"}, strings.NewReader(string(text))
	} else {
		stdin = strings.NewReader("")
	}
	said, status, err := m.run(ctx, stdin, argv...)
	if err == nil && status != 0 {
		err = fmt.Errorf("%s on the %s: exit status %d:\n%s", argv[0], m.namespace.Name, status, said)
	}
	return err
}
