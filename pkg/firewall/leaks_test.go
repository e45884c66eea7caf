// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"regexp"
	"strings"
	"testing"

	"whonix-networking/pkg/leakproof"
	"whonix-networking/pkg/whonix"
)

// leak is a defect of the original, put back into our ruleset: the difference
// that mends it (contract, section 12) is undone.
type leak struct {
	name     string
	role     whonix.Role
	vars     []string
	qubes    bool
	undo     func(script string) string
	property string
	witness  string // in its words
}

// without is a script without the lines that a pattern matches.
func withoutLines(pattern string) func(string) string {
	re := regexp.MustCompile(pattern)
	return func(script string) string {
		var b strings.Builder
		for line := range strings.Lines(script) {
			if !re.MatchString(line) {
				b.WriteString(line)
			}
		}
		return b.String()
	}
}

func replace(old, new string) func(string) string {
	return func(script string) string { return strings.ReplaceAll(script, old, new) }
}

func both(a, b func(string) string) func(string) string {
	return func(script string) string { return b(a(script)) }
}

const originalND = "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect }"

func leaks() []leak {
	const timesync = "firewall_mode=" + ModeTimesync
	nd := replace("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } counter accept", originalND+" counter accept")
	return []leak{
		{name: "D1", role: whonix.Workstation, undo: withoutLines("nfproto ipv6 meta l4proto != tcp"), property: "P7", witness: "udp [fd19"},
		{name: "D1 by symmetry", role: whonix.Workstation, undo: withoutLines("nfproto ipv6 meta l4proto != tcp"), property: "P4", witness: "[2001:db8"},
		{name: "D3 on the Gateway", role: whonix.Gateway, undo: nd, property: "P2", witness: "type 134"},
		{name: "D3 on a Workstation", role: whonix.Workstation, undo: nd, property: "P10", witness: "type 134"},
		{name: "D7", role: whonix.Gateway, vars: []string{timesync}, property: "P5", witness: "oif lo",
			undo: both(withoutLines("oifname lo (tcp dport (9152|904)|udp dport)"), replace("output oifname lo tcp dport", "output ip daddr 127.0.0.1 tcp dport"))},
		{name: "D10", role: whonix.Workstation, qubes: true, property: "P7", witness: "udp",
			undo: replace("add rule inet filter output ip protocol != tcp", "add rule inet filter output udp dport 53 counter accept\nadd rule inet filter output ip protocol != tcp")},
		{name: "D12", role: whonix.Gateway, vars: []string{"GATEWAY_REJECT_LAN_DNS=true"}, property: "P3", witness: ":53 ", undo: withoutLines("dport 53 counter reject")},
		{name: "D13 UDP", role: whonix.Gateway, vars: []string{"EXTERNAL_UDP_OPEN_PORTS=5353"}, property: "P2", witness: ":5353", undo: replace("iifname eth0 udp dport 5353", "udp dport 5353")},
		{name: "D13 all", role: whonix.Gateway, vars: []string{"EXTERNAL_OPEN_ALL=true"}, property: "P2", witness: "iif eth1", undo: replace("input iifname eth0 counter accept", "input counter accept")},
		{name: "D14", role: whonix.Workstation, vars: append(tunnelExceptions(), timesync), property: "P7", witness: "uid 903",
			undo: replace("add rule inet filter output counter reject", "add rule inet filter output skuid 903 ip daddr 10.152.152.10 counter accept\nadd rule inet filter output counter reject")},
		{name: "D38", role: whonix.Gateway, property: "P9", witness: "198.51.100.66", undo: both(withoutLines("fib saddr"), withoutLines("ct direction reply"))},
	}
}

// TestLeaksOfTheOriginalAreFound each by the proof itself, with a packet that
// shows it; and without the change there is none.
func TestLeaksOfTheOriginalAreFound(t *testing.T) {
	for _, l := range leaks() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			f := testFacts(l.role)
			f.Machine.Qubes = l.qubes
			p, texts := textsOf(t, f, set(l.vars...))
			if proof, err := leakproof.Prove(p, texts); err != nil || !proof.Holds() {
				t.Fatalf("before the change: %v %v", proof, err)
			}
			changed := l.undo(string(texts.Main))
			if changed == string(texts.Main) {
				t.Fatal("the change changes nothing")
			}
			if p.Timesync {
				texts.Timesync = []byte(changed)
			} else {
				texts.Full = []byte(changed)
			}
			texts.Main = []byte(changed)
			proof, err := leakproof.Prove(p, texts)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range proof.Results {
				if r.Property != l.property {
					continue
				}
				if r.Status != leakproof.Violated || r.Witness == nil || !strings.Contains(r.Witness.Words, l.witness) || len(r.Witness.Steps) == 0 && l.property != "P9" {
					t.Errorf("%s\nwant a packet with %q", about(r), l.witness)
				}
				return
			}
			t.Errorf("%s was not asked", l.property)
		})
	}
}
