// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const script = `#!/usr/sbin/nft -f
add table inet filter
delete table inet filter
add table inet filter
add chain inet filter input { type filter hook input priority -300; policy drop; }
add set inet filter lan { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.0.1-192.168.0.9 }; }
add rule inet filter input iifname eth0 tcp dport { 22, 80-90 } counter accept # a comment
add rule inet filter input ip saddr @lan counter \
	drop
insert rule inet filter input ct state established,related accept
add rule inet filter input tcp flags & (fin|syn) == fin|syn counter reject with tcp reset
`

func TestReadScript(t *testing.T) {
	rs := Read([]byte(script))
	filter := Table{"inet", "filter"}
	want := []*ReadChain{{
		Chain: Chain{filter, "input"}, Base: &Base{Type: "filter", Hook: "input", Priority: -300, Policy: "drop"}, Line: 5,
		Rules: []*ReadRule{
			{Line: 10, Text: "ct state established,related accept", Parts: []Part{Cond{Key: "ct state", Values: []string{"established", "related"}}, Action{Kind: "accept"}}},
			{Line: 7, Text: "iifname eth0 tcp dport { 22, 80-90 } counter accept", Parts: []Part{
				Cond{Key: "iifname", Values: []string{"eth0"}}, Cond{Key: "tcp dport", Values: []string{"22", "80-90"}, Braces: true}, Action{Kind: "accept"}}},
			{Line: 8, Text: `ip saddr @lan counter \ drop`, Parts: []Part{
				Cond{Key: "ip saddr", Values: []string{"10.0.0.0/8", "192.168.0.1-192.168.0.9"}, Braces: true}, Action{Kind: "drop"}}},
			{Line: 11, Text: "tcp flags & (fin|syn) == fin|syn counter reject with tcp reset", Parts: []Part{
				Cond{Key: "tcp flags", Exact: true, Mask: []string{"fin", "syn"}, Values: []string{"fin", "syn"}}, Action{Kind: "reject", With: "tcp"}}},
		},
	}}
	if diff := cmp.Diff(want, rs.Chains); diff != "" || len(rs.Problems) > 0 {
		t.Errorf("-want +got:\n%s%v", diff, rs.Problems)
	}
}

// TestReadForms: each form of a rule, as scripts and as listings have it.
func TestReadForms(t *testing.T) {
	for text, want := range map[string][]Part{
		`meta iifname != "vif*" drop`:                           {Cond{Key: "iifname", Not: true, Values: []string{"vif*"}}, Action{Kind: "drop"}},
		`tcp flags syn / fin,syn,rst,ack redirect to :9040`:     {Cond{Key: "tcp flags", Values: []string{"syn"}, Mask: []string{"fin", "syn", "rst", "ack"}}, Action{Kind: "redirect", To: ":9040"}},
		`tcp flags ! fin,syn drop`:                              {Cond{Key: "tcp flags", Mask: []string{"fin", "syn"}, Values: []string{"0x0"}}, Action{Kind: "drop"}},
		`fib saddr . iif oif missing counter packets 0 bytes 0`: {Cond{Key: "fib saddr . iif oif", Values: []string{"missing"}}},
		`fib daddr type != { local, multicast } drop`:           {Cond{Key: "fib daddr type", Not: true, Values: []string{"local", "multicast"}, Braces: true}, Action{Kind: "drop"}},
		`log prefix "gone: accept" level info group 3 drop`:     {Action{Kind: "drop"}},
		`ip frag-off & 8191 != 0 reject with icmp type 3`:       {Cond{Key: "ip frag-off", Not: true, Mask: []string{"8191"}, Values: []string{"0"}}, Action{Kind: "reject", With: "icmp"}},
		`dnat ip6 to [::1]:5400`:                                {Action{Kind: "dnat", To: "[::1]:5400"}},
		`masquerade random,persistent`:                          {Action{Kind: "masquerade"}},
		`meta mark set 0x1 accept`:                              {Action{Kind: "accept"}},
		`goto elsewhere`:                                        {Action{Kind: "goto", To: "elsewhere"}},
		`limit rate 10/second burst 5 packets accept`:           {Cond{Key: "limit", Unknown: "depends on how much came before"}, Action{Kind: "accept"}},
		`ip ttl 1 drop`:                                         {Cond{Key: "ip ttl", Values: []string{"1"}}, Action{Kind: "drop"}},
		`meta skuid >= 1000 accept`:                             {Cond{Key: "skuid", Values: []string{"1000"}, Unknown: "a comparison of size"}, Action{Kind: "accept"}},
		`ip saddr . tcp dport @both accept`:                     {Opaque{"ip saddr . tcp dport @both accept"}},
		`tcp dport vmap { 22 : accept, 80 : drop }`:             {Opaque{"tcp dport vmap { 22 : accept, 80 : drop }"}},
		`iifname eth0 ip daddr set 10.0.0.1`:                    {Cond{Key: "iifname", Values: []string{"eth0"}}, Opaque{"ip daddr set 10.0.0.1"}},
		`queue num 3`:                                           {Opaque{"queue num 3"}},
		`dnat to tcp dport map { 80 : 10.0.0.1 }`:               {Opaque{"dnat to tcp dport map { 80 : 10.0.0.1 }"}},
		`ip daddr @nowhere accept`:                              {Cond{Key: "ip daddr", Values: []string{"@nowhere"}, Unknown: "no such set"}, Action{Kind: "accept"}},
		`update @seen { ip saddr } accept`:                      {Opaque{"update @seen { ip saddr } accept"}},
	} {
		rs := Read([]byte("table inet t {\n\tchain c {\n\t\t" + text + "\n\t}\n}\n"))
		if len(rs.Problems) > 0 || len(rs.Chains) != 1 || len(rs.Chains[0].Rules) != 1 {
			t.Errorf("%s: %+v", text, rs)
			continue
		}
		if diff := cmp.Diff(want, rs.Chains[0].Rules[0].Parts); diff != "" {
			t.Errorf("%s: -want +got:\n%s", text, diff)
		}
	}
}

// TestReadProblems: what is not understood outside of rules is named with its
// line, and the rest is read.
func TestReadProblems(t *testing.T) {
	for text, reason := range map[string]string{
		"include \"/etc/more.nft\"": "no command",
		"define x = 3":              "no command",
		"add flowtable inet t f { hook ingress priority 0; }":                "no command",
		"add rule inet t missing accept":                                     "no such chain",
		"add rule inet t c position 3 accept":                                "position",
		"delete rule inet t c handle 4":                                      "no command",
		"table inet x { flags dormant; }":                                    "not always there",
		"table inet x { ct helper ftp { type \"ftp\"; } }":                   "nothing in a table",
		"add chain inet t d { type filter hook input priority dstnat + x; }": "no priority",
		"table inet x { chain d { policy drop; } }":                          "without a hook",
	} {
		rs := Read([]byte("add table inet t\nadd chain inet t c\n" + text + "\nadd rule inet t c accept\n"))
		if len(rs.Problems) == 0 || rs.Problems[0].Line != 3 || !strings.Contains(rs.Problems[0].Reason, reason) {
			t.Errorf("%s: problems %v, want one on line 3 about %q", text, rs.Problems, reason)
		}
		if c := rs.Chains[0]; len(c.Rules) != 1 {
			t.Errorf("%s: the rule behind it was not read: %+v", text, rs)
		}
	}
}

// FuzzRead: whatever the text, the reader ends, and it reads what it prints of
// rules alike.
func FuzzRead(f *testing.F) {
	f.Add(script)
	f.Add("table ip t {\n set s { type ipv4_addr; flags dynamic,timeout; elements = { 1.2.3.4 timeout 5s } }\n chain c { type nat hook output priority dstnat; policy accept; ip daddr @s dnat to 1.2.3.4:5 } }")
	f.Add("add rule ip t c \"unclosed\nflush ruleset")
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range Read([]byte(text)).Chains {
			for _, r := range c.Rules {
				if strings.ContainsAny(r.Text, "#\\\"{};@") || r.Text == "" {
					continue // the line has a comment or goes on
				}
				again := Read([]byte("table ip t {\nchain c {\n" + r.Text + "\n}\n}"))
				if len(again.Chains) != 1 || len(again.Chains[0].Rules) != 1 {
					if k := strings.Fields(r.Text)[0]; k == "type" || k == "policy" || k == "comment" {
						continue // says something else in a block
					}
					t.Fatalf("%q is not one rule any more", r.Text)
				}
				if diff := cmp.Diff(r.Parts, again.Chains[0].Rules[0].Parts); diff != "" {
					t.Fatalf("%q: %s", r.Text, diff)
				}
			}
		}
	})
}
