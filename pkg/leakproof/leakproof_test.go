// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// testPolicy is a Gateway of few words.
func testPolicy() *Policy {
	return &Policy{
		Role: Gateway, Inside: []string{"eth1"}, Outside: []string{"eth0"}, TorPorts: []string{"tcp dport 9050"},
		Permits: []Permit{
			{Property: "P2", Option: "SOCKS", Packets: []string{"tcp dport 9050"}},
			{Property: "P3", Option: "TOR", Packets: []string{"skuid 102"}},
			{Property: "P3", Option: "LAN", Why: "the LAN", Weakens: true, Packets: []string{"ip daddr 10.0.2.0/24"}},
		},
	}
}

// rules is a ruleset that drops whatever the given lines do not accept; a line
// begins with its chain: in, out, fwd or pre.
func rules(lines ...string) []byte {
	var b strings.Builder
	b.WriteString("add table inet t\n")
	for name, hook := range map[string]string{"in": "input hook", "out": "output", "fwd": "forward"} {
		hook = strings.TrimSuffix(hook, " hook")
		fmt.Fprintf(&b, "add chain inet t %s { type filter hook %s priority 0; policy drop; }\n", name, hook)
	}
	b.WriteString("add chain inet t pre { type nat hook prerouting priority -100; }\n")
	for _, l := range lines {
		if strings.HasPrefix(l, "add ") || strings.HasPrefix(l, "table ") {
			b.WriteString(l + "\n")
		} else {
			b.WriteString("add rule inet t " + l + "\n")
		}
	}
	return []byte(b.String())
}

// statusOf proves a ruleset and returns what is known of a property.
func statusOf(t *testing.T, id string, lines ...string) Result {
	t.Helper()
	proof, err := Prove(testPolicy(), &Rulesets{Main: rules(lines...)})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(proof.Results, func(r Result) bool { return r.Property == id })
	if i < 0 {
		t.Fatalf("%s was not asked", id)
	}
	return proof.Results[i]
}

// TestStatuses: what holds, what does not, and what is not known.
func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		property string
		want     Status
		lines    []string
	}{
		{"P1", Proved, nil},
		{"P1", Violated, []string{"fwd iifname eth1 accept"}},
		{"P1", Proved, []string{"fwd jump missing"}[:0]},
		{"P2", Proved, []string{"in iifname eth1 tcp dport 9050 accept"}},
		{"P2", Violated, []string{"in tcp dport { 22, 9050 } accept"}},
		{"P2", Violated, []string{"in iifname eth1 udp dport 9050 accept"}},
		{"P2", Proved, []string{"pre iifname eth1 tcp dport != 9050 redirect to :9050", "in iifname eth1 tcp dport 9050 accept"}},
		{"P2", Violated, []string{"pre iifname eth1 redirect to :22", "in iifname eth1 tcp dport 22 accept"}},
		{"P3", Proved, []string{"out skuid 102 accept", "out oifname lo accept", "out oifname eth1 accept"}},
		{"P3", Violated, []string{"out skuid { 102, 1000 } accept"}},
		{"P3", Violated, []string{"out skuid != 0 accept"}},
		{"P3", Proved, []string{"out ip daddr 10.0.2.0/24 accept"}},
		{"P4", Proved, []string{"out skuid 102 accept"}},
		{"P4", Violated, []string{"out skuid 102 meta nfproto ipv6 accept"}},
		{"P9", Proved, []string{"out ct state established accept"}},
		{"P9", Violated, []string{"in tcp dport 9050 accept", "out ct state established accept"}},
		{"P9", Violated, []string{"in tcp dport 9050 reject", "out ct state established,related accept"}},
		{"P9", Proved, []string{
			"add chain inet t raw { type filter hook prerouting priority -300; }", "raw iifname eth1 fib saddr . iif oif missing drop",
			"in tcp dport 9050 accept", "out ct state established accept"}},
		{"P10", Proved, []string{"in iifname eth1 accept", "in icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"}},
		{"P10", Violated, []string{"in icmpv6 type nd-router-advert accept"}},

		// What is not modelled is never proved, unless it cannot matter.
		{"P1", NotProved, []string{"fwd limit rate 1/second accept"}},
		{"P1", NotProved, []string{"fwd meta mark 0x3 accept"}},
		{"P1", NotProved, []string{"fwd ip saddr . tcp dport @both accept"}},
		{"P1", NotProved, []string{"fwd queue num 3"}},
		{"P1", Proved, []string{"fwd limit rate 1/second drop"}},
		{"P1", Proved, []string{"fwd drop", "fwd meta mark 0x3 accept"}},
		{"P1", Proved, []string{"out meta mark 0x3 accept"}},
		{"P1", Violated, []string{"fwd meta mark 0x3 accept", "fwd tcp dport 443 accept"}},
		{"P1", NotProved, []string{"fwd meta mark 0x3 drop", "fwd ip saddr != 0.0.0.0/0 accept", "fwd meta mark != 0x3 accept"}},
		{"P2", NotProved, []string{"pre iifname eth1 dnat to tcp dport map { 80 : 10.0.0.1 }", "in iifname eth1 ip daddr 10.0.0.1 tcp dport 9050 accept", "in iifname eth1 tcp dport 22 tcp dport 23 accept", "in meta mark 7 tcp dport 22 accept"}},
		{"P3", NotProved, []string{"add chain netdev x e { type filter hook egress priority 0; }"}},
		{"P1", NotProved, []string{"add flowtable inet t f { hook ingress priority 0; devices = { eth0 }; }"}},
		{"P1", NotProved, []string{"add chain inet t fwd2 { type filter hook forward priority somewhere; policy accept; }"}},
	} {
		r := statusOf(t, c.property, c.lines...)
		if r.Status != c.want {
			t.Errorf("%s of %q: %s, want %s: %+v %v", c.property, c.lines, r.Status, c.want, r.Witness, r.Doubts)
		}
		if r.Status == Violated && (r.Witness == nil || !r.Witness.Certain) {
			t.Errorf("%s of %q: no certain witness", c.property, c.lines)
		}
		if r.Status == NotProved && len(r.Doubts) == 0 {
			t.Errorf("%s of %q: not said why", c.property, c.lines)
		}
	}
}

// TestDoubtsNameLines: what is not modelled is named with line and reason.
func TestDoubtsNameLines(t *testing.T) {
	r := statusOf(t, "P1", "fwd meta mark 0x3 accept")
	if len(r.Doubts) != 1 || r.Doubts[0].Line != 6 || r.Doubts[0].Text != "meta mark 0x3 accept" || r.Doubts[0].Reason != "what mark is, is not modelled" {
		t.Errorf("%+v", r.Doubts)
	}
}

// TestWeakenings are named only where they let something through.
func TestWeakenings(t *testing.T) {
	if r := statusOf(t, "P3", "out skuid 102 accept"); len(r.Weakened) != 0 {
		t.Errorf("%v", r.Weakened)
	}
	r := statusOf(t, "P3", "out skuid 102 accept", "out ip daddr 10.0.0.0/8 udp dport 53 ip daddr 10.0.2.2 accept")
	if len(r.Weakened) != 1 || r.Weakened[0] != (Weakening{"LAN", "the LAN"}) || r.Status != Proved {
		t.Errorf("%+v", r)
	}
}

// TestModes: P5 holds two rulesets against each other, P6 a third.
func TestModes(t *testing.T) {
	prove := func(full, timesync, lockdown []byte, id string) Result {
		t.Helper()
		proof, err := Prove(testPolicy(), &Rulesets{Main: full, Full: full, Timesync: timesync, Lockdown: lockdown})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range proof.Results {
			if r.Property == id {
				return r
			}
		}
		t.Fatal("not asked")
		return Result{}
	}
	open, shut := rules("out skuid 102 accept", "out oifname lo accept"), rules("out skuid 102 oifname eth0 accept")
	for _, c := range []struct {
		id                       string
		full, timesync, lockdown []byte
		want                     Status
	}{
		{"P5", open, shut, nil, Proved},
		{"P5", shut, rules("out skuid 103 accept"), nil, Violated},
		{"P5", open, rules("out oifname lo accept"), nil, Violated}, // a SocksPort on loopback
		{"P5", open, rules("out oifname lo tcp dport 9050 reject", "out oifname lo tcp dport 1-1000 accept"), nil, Proved},
		{"P5", open, nil, nil, NotAsked},
		{"P6", open, nil, rules(), Proved},
		{"P6", open, nil, open, Violated},
		{"P6", open, nil, rules("out meta mark 1 accept"), NotProved},
		{"P6", open, nil, nil, NotAsked},
	} {
		if r := prove(c.full, c.timesync, c.lockdown, c.id); r.Status != c.want {
			t.Errorf("%s: %s, want %s: %+v", c.id, r.Status, c.want, r.Witness)
		}
	}
}

// TestTooComplicated: a ruleset that needs too much is not proved, and the
// program lives.
func TestTooComplicated(t *testing.T) {
	var lines []string
	for i := range 3000 {
		lines = append(lines, fmt.Sprintf("out ip saddr 10.%d.%d.7 ip daddr 10.%d.%d.9 udp sport %d udp dport %d accept", i%251, i/251, i*7%253, i*3%241, i*11%65000, i*13%65000))
		lines = append(lines, fmt.Sprintf("out ip daddr 10.%d.%d.7 udp dport %d drop", i*5%249, i*9%247, i*17%65000))
	}
	proof, err := Prove(testPolicy(), &Rulesets{Main: rules(lines...)})
	if err != nil {
		t.Fatal(err)
	}
	if proof.Holds() {
		t.Error("proved")
	}
	for _, r := range proof.Results {
		if r.Property == "P3" && r.Status != NotProved && r.Status != Violated {
			t.Errorf("%+v", r)
		}
	}
}

// TestCompare: the same meaning in other words, and what differs.
func TestCompare(t *testing.T) {
	same := func(a, b []byte) *Comparison {
		t.Helper()
		c, err := Compare(testPolicy(), a, b)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	expanded := rules("in iifname eth1 tcp dport 80 accept", "in iifname eth1 tcp dport 81 accept", "in iifname eth2 tcp dport 80 accept", "in iifname eth2 tcp dport 81 accept", "in drop")
	compact := rules("add set inet t ports { type inet_service; elements = { 80, 81 }; }", "in iifname { eth1, eth2 } tcp dport @ports counter accept")
	if c := same(expanded, compact); !c.Same {
		t.Errorf("%+v", c)
	}
	c := same(expanded, rules("in iifname { eth1, eth2 } tcp dport 80 accept"))
	if c.Same || len(c.Differences) == 0 || c.Differences[0].Only != "first" || !strings.Contains(c.Differences[0].Like, "dport 81") {
		t.Errorf("%+v", c)
	}
	if c := same(rules("pre tcp dport 80 redirect to :1", "in accept"), rules("pre tcp dport 80 redirect to :2", "in accept")); c.Same {
		t.Error("redirections to different ports are the same")
	}
	if c := same(rules("in meta mark 3 accept"), rules("in meta mark 4 accept")); c.Same || len(c.Doubts) == 0 {
		t.Errorf("marks that are not known are the same: %+v", c)
	}
}

// TestBadPolicies say what is wrong.
func TestBadPolicies(t *testing.T) {
	for _, spoil := range []func(*Policy){
		func(p *Policy) { p.Inside = []string{"3"} },
		func(p *Policy) { p.Permits[0].Packets = []string{"tcp dport nowhere"} },
		func(p *Policy) { p.Permits[0].Packets = []string{"drop"} },
	} {
		p := testPolicy()
		spoil(p)
		if _, err := Prove(p, &Rulesets{Main: rules()}); err == nil {
			t.Error("no error")
		}
	}
	for _, text := range []string{"", "tcp", "tcp a -> b", "tcp 1.2.3.4:1 -> [::1]:2", "tcp 1.2.3.4:1 -> 1.2.3.5:2 sideways", "icmp 1.2.3.4 -> 1.2.3.5 flags syn", "nothing 1.2.3.4 -> 1.2.3.5", "udp 1.2.3.4:1 -> 1.2.3.5:2 uid nobodyatall"} {
		if _, err := Explain(testPolicy(), rules(), text); err == nil {
			t.Errorf("%q is a packet", text)
		}
	}
}

// FuzzExplain: whatever is written, the reader of packets ends.
func FuzzExplain(f *testing.F) {
	f.Add("tcp 10.152.152.11:1234 -> 198.51.100.1:80 flags syn|ack established reply iif eth1 spoofed to multicast")
	f.Add("fragment of icmpv6 fe80::1 -> ff02::1 type 134 code 0 untracked with extension headers oif eth0 uid 3")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePacket(text)
		if err != nil {
			return
		}
		again, err := ParsePacket(words(p))
		if err != nil || words(again) != words(p) {
			t.Fatalf("%q became %q, then %q (%v)", text, words(p), words(again), err)
		}
	})
}
