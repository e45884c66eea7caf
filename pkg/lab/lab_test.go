// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/netlab"
)

// programs are built once, by TestMain.
var programs string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lab-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-trimpath", "-o", dir, "whonix-networking/cmd/whonix-firewall", "whonix-networking/cmd/enable-firewall",
		"whonix-networking/cmd/tor-config-sane", "whonix-networking/cmd/leaktest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	programs = dir
	return m.Run()
}

func testOptions() Options {
	return Options{
		Firewall: filepath.Join(programs, "whonix-firewall"),
		Enable:   filepath.Join(programs, "enable-firewall"),
		Shipped:  "../../etc/whonix_firewall.d",
		Frames:   2000,
		Seed:     uint64(time.Now().UnixNano()),
		Tor:      StandInTor,
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestShippedConfigurationHolds runs everything against our own programs with
// the shipped configuration.
func TestShippedConfigurationHolds(t *testing.T) {
	report, err := Try(testContext(t), testOptions(), func(r Result) {
		if r.Verdict != Pass {
			t.Errorf("%s: %s: saw %s, expected %s", r.Group, r.Tried, r.Seen, r.Expected)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range report.Leaks {
		t.Errorf("leak: %s, %d times during %s", l.Packet, l.Count, l.During)
	}
	if !report.Passed {
		t.Error("not passed")
	}
}

// tryAll fails unless every attempt goes as expected and nothing leaks.
func tryAll(t *testing.T, l *Lab, list ...attempt) {
	t.Helper()
	for _, a := range list {
		if seen, ok := a.try(testContext(t), l); !ok {
			t.Errorf("%s: saw %s, expected %s", a.tried, seen, a.expected)
		}
	}
	leaks, err := l.leaks()
	if err != nil || len(leaks) > 0 {
		t.Errorf("leaks %v, error %v", leaks, err)
	}
}

// TestAcceptance10_SwitchToTimesync a running connection of the Workstation
// stops when the Gateway goes to timesync mode.
func TestAcceptance10_SwitchToTimesync(t *testing.T) {
	tryAll(t, start(t, testOptions()), cutConnection())
}

// TestAcceptance14_15_23_Failures bad drop-ins and a missing nft end with
// everything shut, and a repaired configuration opens again.
func TestAcceptance14_15_23_Failures(t *testing.T) {
	tryAll(t, start(t, testOptions()), failures()...)
}

// TestAcceptance26_SpoofedSources nothing answers a spoofed source outside, and
// honest connections are served afterwards, with fresh neighbour caches.
func TestAcceptance26_SpoofedSources(t *testing.T) {
	l := start(t, testOptions())
	if err := dropWorkstationFirewall(testContext(t), l); err != nil {
		t.Fatal(err)
	}
	for _, f := range families() {
		tryAll(t, l, spoofing(f)...)
	}
	if err := l.topo.Workstation.ForgetNeighbours(); err != nil {
		t.Fatal(err)
	}
	tryAll(t, l, throughTor(netlab.ServerIP), throughTor(netlab.ServerIP6), fromLinkLocal())
}

// fromLinkLocal connects from the Workstation's link-local address.
func fromLinkLocal() attempt {
	return attempt{"TCP from the link-local address to the Gateway's", "ends at the TransPort", func(_ context.Context, l *Lab) (string, bool) {
		inside, err := l.topo.Inside.LinkLocal()
		if err != nil {
			return err.Error(), false
		}
		o := l.topo.Workstation.Namespace.TCP(uidUser, net.JoinHostPort(inside.String()+"%eth0", "80"), silent)
		in, ok := l.reached(o)
		return fmt.Sprintf("%v, at port %d", o, in.Port), ok
	}}
}

// TestAcceptance27_ARP the Gateway answers inside for its inside address only.
func TestAcceptance27_ARP(t *testing.T) {
	tryAll(t, start(t, testOptions()), arpAsks())
}

// TestAcceptance28_RandomFrames 20,000 frames of every kind: nothing outside
// but ARP and neighbour discovery of the Gateway's own.
func TestAcceptance28_RandomFrames(t *testing.T) {
	opts := testOptions()
	opts.Frames = 20000
	t.Logf("seed %d", opts.Seed)
	l := start(t, opts)
	if err := dropWorkstationFirewall(testContext(t), l); err != nil {
		t.Fatal(err)
	}
	tryAll(t, l, randomFrames())
}

// weakened writes one of our rulesets without the lines that contain one of
// the texts; `A => B` puts B in place of A instead.
func weakened(t *testing.T, golden string, changes ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "firewall", "testdata", "golden", golden+".nft"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for _, c := range changes {
		before := strings.Join(lines, "")
		if from, to, ok := strings.Cut(c, " => "); ok {
			lines = strings.SplitAfter(strings.ReplaceAll(before, from, to), "\n")
		} else {
			lines = slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, c) })
		}
		if strings.Join(lines, "") == before {
			t.Fatalf("%s: nothing to change for %q", golden, c)
		}
	}
	file := filepath.Join(t.TempDir(), "weakened.nft")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestFindsLeaks: a ruleset without one of the walls is found out, with the
// leaking packet named.
func TestFindsLeaks(t *testing.T) {
	six := families()[1]
	for _, c := range []struct {
		name        string
		gateway     []string // changes to the Gateway's ruleset
		workstation []string // changes to the Workstation's
		attempts    []attempt
		packet      string // part of the packet that leaks to the Internet side, if one does
		seen        string // part of what is seen
	}{
		{name: "D1", workstation: []string{"meta nfproto ipv6 meta l4proto != tcp"}, attempts: notTorified()[4:5], seen: "IPv6 UDP [fd19:c33d:88bc::11]:"},
		{
			name: "D38", gateway: []string{"fib saddr . iif oif missing", "ct direction reply counter drop"}, attempts: spoofing(six)[:1],
			packet: "IPv6 TCP [2001:db8:1::15]:80 -> [2001:db8:66::66]:4444 SYN,ACK", seen: "SYN,ACK",
		},
		{name: "D3", gateway: []string{"iifname eth0 icmpv6 type nd-router-advert => icmpv6 type nd-router-advert"}, attempts: []attempt{rerouting()}, seen: "fe80::bad"},
		{name: "D39", gateway: []string{"add rule arp whonix input"}, attempts: []attempt{arpAsks()}, seen: "the external address is answered for"},
		{name: "D40 IPv4", gateway: []string{"filter localonly iifname"}, attempts: []attempt{tellsApart(families()[0])}, seen: "10.0.2.15: no answer; 10.0.2.14: protocol 1 type 11"},
		{name: "D40 IPv6", gateway: []string{"filter localonly iifname"}, attempts: []attempt{tellsApart(six)}, seen: "2001:db8:1::15: no answer; 2001:db8:1::14: protocol 58"},
		{name: "D41", gateway: []string{"add rule arp whonix output"}, attempts: []attempt{arpTells()}, seen: "ARP request by 10.0.2.15 for "},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := testOptions()
			if c.gateway != nil {
				opts.Gateway = weakened(t, "gateway-full", c.gateway...)
			}
			if c.workstation != nil {
				opts.Workstation = weakened(t, "workstation-full", c.workstation...)
			}
			l := start(t, opts)
			for _, a := range c.attempts {
				seen, ok := a.try(testContext(t), l)
				if ok || !strings.Contains(seen, c.seen) {
					t.Errorf("%s: passed %v, saw %q, want %q in it", a.tried, ok, seen, c.seen)
				}
			}
			leaks, err := l.leaks()
			if err != nil {
				t.Fatal(err)
			}
			if c.packet != "" && !slices.ContainsFunc(leaks, func(k Leak) bool { return k.Packet == c.packet }) {
				t.Errorf("leaks %v, want %s among them", leaks, c.packet)
			}
		})
	}
}

// TestWitnessesAreSeen: a leak that the proof claims is a packet that is seen.
func TestWitnessesAreSeen(t *testing.T) {
	for _, c := range []struct {
		property, seen string
		gateway        []string
	}{
		{"P1", "captured on the Internet side: IPv4 TCP 10.152.152.11:", []string{"filter forward counter reject => filter forward counter accept", "filter localonly iifname", "redirect to :9040"}},
		{"P2", "taken in by the Gateway", []string{"filter input counter drop => filter input counter accept"}},
		{"P3", "captured on the Internet side: IPv4 TCP 10.0.2.15:", []string{"filter output counter reject => filter output counter accept"}},
		{"P9", "captured on the Internet side: IPv4 TCP ", []string{"fib saddr . iif oif missing", "ct direction reply counter drop"}},
		{"P10", "taken in by the Gateway", []string{"filter input counter drop => filter input counter accept"}},
	} {
		t.Run(c.property, func(t *testing.T) {
			opts := testOptions()
			opts.Gateway = weakened(t, "gateway-full", c.gateway...)
			l := start(t, opts)
			seen, ok := proved()[0].try(testContext(t), l)
			claimed := slices.ContainsFunc(strings.Split(seen, "; "), func(one string) bool {
				return strings.HasPrefix(one, c.property+": ") && strings.Contains(one, c.seen)
			})
			if ok || !claimed {
				t.Errorf("passed %v, saw %q, want %s with %q", ok, seen, c.property, c.seen)
			}
		})
	}
}

// start builds a network with both firewalls loaded.
func start(t *testing.T, opts Options) *Lab {
	t.Helper()
	l, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if err := l.begin(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestConfigurationReachesTheMachines: an administrator's drop-in counts, for
// one machine if it is in that machine's directory.
func TestConfigurationReachesTheMachines(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "gateway"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gateway", "50_user.conf"), []byte("EXTERNAL_OPEN_PORTS='no such port'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	opts := testOptions()
	opts.Config = dir
	l, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.loadWorkstation(testContext(t), modeFull); err != nil {
		t.Errorf("workstation: %v", err)
	}
	if err := l.loadGateway(testContext(t), modeFull); err == nil || !strings.Contains(err.Error(), "50_user.conf:1: EXTERNAL_OPEN_PORTS") {
		t.Errorf("gateway: error %v", err)
	}
}

// TestReport: one failure or one leak, and the whole has not passed.
func TestReport(t *testing.T) {
	pass, fail := Result{Group: "g", Tried: "a", Verdict: Pass}, Result{Group: "g", Tried: "b", Expected: "e", Seen: "s", Verdict: Fail}
	leak := Leak{During: "b", Packet: "IPv4 UDP a -> b", Count: 2}
	for _, c := range []struct {
		report Report
		passed bool
	}{
		{Report{}, false},
		{Report{Results: []Result{pass}}, true},
		{Report{Results: []Result{pass, fail}}, false},
		{Report{Results: []Result{pass}, Leaks: []Leak{leak}}, false},
	} {
		if c.report.judge(); c.report.Passed != c.passed {
			t.Errorf("%+v: passed %v", c.report, c.report.Passed)
		}
	}
	r := Report{Results: []Result{pass, fail}, Leaks: []Leak{leak}}
	var table, doc bytes.Buffer
	p := &printer{w: &table}
	for _, res := range r.Results {
		p.result(res)
	}
	p.summary(&r)
	for _, want := range []string{"\ng\n  PASS  a", "  FAIL  b", "expected: e", "LEAK  IPv4 UDP a -> b\n", "seen on the Internet side 2 times, during: b", "2 tried, 1 as expected, 1 not"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
	if err := r.writeJSON(&doc); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(doc.Bytes(), &back); err != nil || len(back.Results) != 2 || back.Leaks[0] != leak {
		t.Errorf("%v: %s", err, doc.String())
	}
}

// TestGenerator: the same seed, the same frames; and no port by which the
// capture would take a frame for a permitted one.
func TestGenerator(t *testing.T) {
	a, b := newGenerator(7), newGenerator(7)
	for range 5000 {
		kindA, packetA := a.frame()
		kindB, packetB := b.frame()
		if kindA != kindB || !bytes.Equal(packetA, packetB) {
			t.Fatal("the same seed gave other frames")
		}
		if p := a.port(); p >= torPortFirst || p == 0 {
			t.Fatalf("port %d", p)
		}
		b.port()
	}
}
