// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// installedTree installs the files of the package of the Gateway's Tor below a
// directory, as its list says.
func installedTree(t *testing.T) string {
	t.Helper()
	const top = "../../"
	list, err := os.ReadFile(top + "scripts/packages/anon-gw-anonymizer-config/files")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for line := range strings.Lines(string(list)) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "file" {
			continue
		}
		text, err := os.ReadFile(top + words[1])
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(dir, words[2])), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, words[2]), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// startReal is start with Debian's tor. A private network takes its time.
func startReal(t *testing.T, opts Options) *Lab {
	t.Helper()
	opts.Tor, opts.Installed = RealTor, installedTree(t)
	opts.Sane, opts.Leaktest = filepath.Join(programs, "tor-config-sane"), filepath.Join(programs, "leaktest")
	if err := opts.check(); err != nil {
		t.Fatal(err)
	}
	l, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	begin := time.Now()
	if err := l.begin(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("Tor is ready after %.1f s", time.Since(begin).Seconds())
	return l
}

// TestRealTor: behind the firewall, with the shipped configuration, Debian's
// tor listens where the table says and carries what a Workstation does; of
// 10,000 packets of all kinds, and of the leak tests, none is seen outside but
// Tor's own. The same before the clock is right. Without a wall that is
// noticed.
func TestRealTor(t *testing.T) {
	opts := testOptions()
	opts.Frames = 10000
	t.Logf("seed %d", opts.Seed)
	l := startReal(t, opts)
	tryAll(t, l, torListens())
	tryAll(t, l, atWork()...)
	if err := dropWorkstationFirewall(testContext(t), l); err != nil {
		t.Fatal(err)
	}
	tryAll(t, l, shortQuestions(), randomFrames())
	tryAll(t, l, leakTests("--rate=0", "--wait=200ms")[1:]...) // the demo has both families
	if err := endAttack(testContext(t), l); err != nil {
		t.Fatal(err)
	}
	tryAll(t, l, throughTor(netlab.ServerIP), throughTor(netlab.ServerIP6))
	if err := reloadWorkstation(testContext(t), l); err != nil {
		t.Fatal(err)
	}
	tryAll(t, l, timesync()...)
	if err := dropWorkstationFirewall(testContext(t), l); err != nil {
		t.Fatal(err)
	}
	tryAll(t, l, randomFrames())
	if sent, carried := l.sent.Load(), l.carried.Load(); sent < int64(2*opts.Frames) || carried == 0 {
		t.Errorf("the Workstation sent %d packets, Tor %d: too few to say anything", sent, carried)
	}

	l.opts.Gateway = weakened(t, "gateway-full", "fib saddr . iif oif missing", "ct direction reply counter drop")
	if err := l.loadGateway(testContext(t), modeFull); err != nil {
		t.Fatal(err)
	}
	if seen, ok := spoofing(families()[1])[0].try(testContext(t), l); ok {
		t.Errorf("a leak was not noticed: %s", seen)
	}
}

// TestRealTorsPackets: what is told from others as Tor's own.
func TestRealTorsPackets(t *testing.T) {
	r := newRealTor(&netlab.Topology{}, nil, "", Options{})
	packet := func(from uint16, to string, port uint16) netlab.Captured {
		return netlab.Captured{Decoded: netlab.Decoded{Proto: netlab.ProtoTCP, SrcPort: from, Dst: netip.MustParseAddr(to), DstPort: port}}
	}
	const relay, own = 5000, torPortFirst + 1
	for name, c := range map[string]struct {
		packet netlab.Captured
		own    bool
	}{
		"to a relay":                         {packet(own, relayIP, relay), true},
		"to a relay, from a port of others'": {packet(whonix.TransPortWorkstation, relayIP, relay), false},
		"to a port of the relay's machine":   {packet(own, relayIP, 80), false},
		"to a server":                        {packet(own, netlab.ServerIP, relay), false},
		"to an exit's other address":         {packet(own, exitIP, relay), false},
	} {
		if got := r.sent(c.packet); got != c.own {
			t.Errorf("%s: %v", name, got)
		}
	}
	for from, want := range map[string]bool{exitIP + ":1": true, "[" + exitIP6 + "]:1": true, netlab.ExternalIP + ":50001": false} {
		if got := r.called(netip.MustParseAddrPort(from)); got != want {
			t.Errorf("%s: %v", from, got)
		}
	}
}

// TestTableListeners: what is compared with Tor's own word is the whole table.
func TestTableListeners(t *testing.T) {
	list := tableListeners()
	const socks, tunnels, others, controls = 165, 160, 8, 2
	if len(list) != socks+tunnels+others+controls || len(slices.Compact(slices.Sorted(slices.Values(list)))) != len(list) {
		t.Errorf("%d listeners", len(list))
	}
}

// TestChecksOptions: without what a real Tor needs, nothing is built.
func TestChecksOptions(t *testing.T) {
	good := testOptions()
	good.Tor, good.Installed, good.Sane = RealTor, installedTree(t), filepath.Join(programs, "tor-config-sane")
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for want, spoil := range map[string]func(*Options){
		`--tor: "reel" is neither stand-in nor real`: func(o *Options) { o.Tor = "reel" },
		"--installed: there is no file ":             func(o *Options) { o.Installed = t.TempDir() },
		"--tor-config-sane: there is no file ":       func(o *Options) { o.Sane = "/nonexistent" },
		"--leaktest: there is no file ":              func(o *Options) { o.Leaktest = "/nonexistent" },
	} {
		o := good
		spoil(&o)
		if err := o.check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
