// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

var update = flag.Bool("update", false, "rewrite the golden rulesets")

// testAccounts are the accounts of a machine with all packages installed.
func testAccounts() map[string]uint32 {
	return map[string]uint32{
		"root": 0, "debian-tor": 102, "user": 1000, "clearnet": 901, "tunnel": 902, "notunnel": 903,
		"systemcheck": 904, "sdwdate": 905, "updatesproxycheck": 906, "vm-updates": 907,
	}
}

// testFacts describes such a machine without any marker file.
func testFacts(role whonix.Role) *Facts {
	accounts := testAccounts()
	return &Facts{
		Role:      role,
		Machine:   whonix.Machine{Role: role},
		IPv6:      true,
		Account:   func(name string) (uint32, bool) { uid, ok := accounts[name]; return uid, ok },
		Service:   func(name string) (uint16, bool) { return 22, name == "ssh" },
		QubesDB:   func(string) (string, bool) { return "", false },
		Addresses: func(nft.Interface) []netip.Addr { return nil },
	}
}

// set makes variables from NAME=VALUE, as if each stood on a line of its own.
func set(assignments ...string) Variables {
	vars := Variables{}
	for _, a := range assignments {
		name, value, _ := strings.Cut(a, "=")
		vars[name] = Variable{Text: value, Parts: []Part{{Text: value, Origin: "/etc/whonix_firewall.d/50_user.conf:1"}}}
	}
	return vars
}

// rulesetOf computes the script for a configuration that must be valid.
func rulesetOf(t *testing.T, facts *Facts, vars Variables) string {
	t.Helper()
	c, err := Configure(vars, facts)
	if err != nil {
		t.Fatalf("Configure: %v", err)
	}
	script, _ := Ruleset(&c.Settings)
	return script.String()
}

// tunnelExceptions are all exceptions of the Workstation's tunnel mode.
func tunnelExceptions() []string {
	return []string{
		"TUNNEL_FIREWALL_ENABLE=true",
		"TUNNEL_FIREWALL_ALLOW_SDWDATE_USER=true", "TUNNEL_FIREWALL_ALLOW_NOTUNNEL_USER=true",
		"TUNNEL_FIREWALL_ALLOW_LOCAL_NET=true", "TUNNEL_FIREWALL_ALLOW_CONTROL_PORT_FILTER_PROXY=true",
		"TUNNEL_FIREWALL_ALLOW_TB_UPDATER=true", "TUNNEL_FIREWALL_ALLOW_SYSTEMCHECK=true",
	}
}

// goldenCase is one configuration whose ruleset is kept in testdata/golden.
type goldenCase struct {
	name  string
	role  whonix.Role
	vars  []string
	facts func(*Facts)
}

func goldenCases() []goldenCase {
	const timesync = "firewall_mode=" + ModeTimesync
	inQubes := func(f *Facts) { f.Machine.Qubes, f.Machine.NetVM = true, true }
	dns := func(n int) func(*Facts) {
		keys := []string{"/qubes-gateway", "/qubes-gateway6", "/qubes-primary-dns", "/qubes-secondary-dns"}[:2+n]
		answers := map[string]string{"/qubes-gateway": "10.137.0.7", "/qubes-gateway6": "fd09:24ef:4179::a89:7", "/qubes-primary-dns": "10.139.1.1", "/qubes-secondary-dns": "10.139.1.2"}
		return func(f *Facts) {
			f.Machine.Qubes = true
			f.QubesDB = func(key string) (string, bool) {
				for _, k := range keys {
					if k == key {
						return answers[key], true
					}
				}
				return "", false
			}
		}
	}
	template := func(f *Facts) { f.Machine.Qubes, f.Machine.Template = true, true }
	return []goldenCase{
		{name: "gateway-full", role: whonix.Gateway},
		{name: "gateway-timesync", role: whonix.Gateway, vars: []string{timesync}},
		{name: "gateway-vpn", role: whonix.Gateway, vars: []string{"VPN_FIREWALL=1"}},
		{name: "gateway-qubes", role: whonix.Gateway, facts: inQubes},
		{name: "gateway-qubes-timesync", role: whonix.Gateway, facts: inQubes, vars: []string{timesync}},
		{name: "gateway-no-ipv6", role: whonix.Gateway, facts: func(f *Facts) { f.IPv6 = false }},
		{name: "gateway-bare", role: whonix.Gateway, facts: func(f *Facts) {
			f.Account = func(name string) (uint32, bool) { return 0, name == "root" }
		}},
		{name: "gateway-everything-open", role: whonix.Gateway, vars: []string{
			"GATEWAY_ALLOW_INCOMING_SSH=1", "GATEWAY_ALLOW_INCOMING_FLASHPROXY=1", "GATEWAY_ALLOW_INCOMING_DIR_PORT=1",
			"GATEWAY_ALLOW_INCOMING_OR_PORT=1", "GATEWAY_ALLOW_INCOMING_ICMP=1", "GATEWAY_ALLOW_INCOMING_RELATED_STATE=1",
			"GATEWAY_ALLOW_INCOMING_ICMP_FRAG_NEEDED=0", "EXTERNAL_OPEN_PORTS=80 ssh 1000:2000", "EXTERNAL_UDP_OPEN_PORTS=5353",
			"EXTERNAL_OPEN_ALL=true", "EXT_IF=eth0 wlan0", "NO_REJECT_INVALID_OUTGOING_PACKAGES=1",
			"GATEWAY_TRANSPARENT_TCP=1", "GATEWAY_TRANSPARENT_DNS=1", "ALLOW_GATEWAY_ROOT_USER=1", "ALLOW_GATEWAY_USER_USER=1",
			"GATEWAY_REJECT_LAN_DNS=true", "INTERNAL_OPEN_PORTS=80 9100-9110", "NO_NAT_USERS=13",
		}},
		{name: "gateway-everything-shut", role: whonix.Gateway, vars: []string{
			"WORKSTATION_TRANSPARENT_TCP=0", "WORKSTATION_TRANSPARENT_DNS=0", "WORKSTATION_ALLOW_SOCKSIFIED=0",
			"CONTROL_PORT_FILTER_PROXY_ENABLE=0", "NON_TOR_GATEWAY= ", "NON_TOR_GATEWAY_IP6= ",
		}},
		{name: "gateway-two-interfaces", role: whonix.Gateway, vars: []string{"INT_IF=eth1 eth2", "INT_TIF=tun1 eth1"}},
		{name: "gateway-known-address", role: whonix.Gateway, facts: func(f *Facts) {
			f.Addresses = func(nft.Interface) []netip.Addr {
				return []netip.Addr{netip.MustParseAddr("10.152.152.10"), netip.MustParseAddr("192.168.99.1"), netip.MustParseAddr("fe80::1")}
			}
		}},
		{name: "workstation-full", role: whonix.Workstation},
		{name: "workstation-timesync", role: whonix.Workstation, vars: []string{timesync}},
		{name: "workstation-tunnel", role: whonix.Workstation, vars: tunnelExceptions()},
		{name: "workstation-tunnel-timesync", role: whonix.Workstation, vars: append(tunnelExceptions(), timesync)},
		{name: "workstation-tunnel-strict", role: whonix.Workstation, vars: []string{"TUNNEL_FIREWALL_ENABLE=1"}},
		{name: "workstation-open", role: whonix.Workstation, vars: []string{
			"EXTERNAL_OPEN_PORTS=22", "EXTERNAL_UDP_OPEN_PORTS=5353", "EXTERNAL_OPEN_ALL=true", "firewall_allow_udp=true", "IPV6_RA_IF=eth0",
		}},
		{name: "workstation-allow-list", role: whonix.Workstation, vars: []string{"outgoing_allow_ip_list=198.51.100.1 2001:db8::1"}},
		{name: "workstation-qubes", role: whonix.Workstation, facts: dns(2)},
		{name: "workstation-qubes-one-dns", role: whonix.Workstation, facts: dns(1)},
		{name: "workstation-qubes-no-qubesdb", role: whonix.Workstation, facts: func(f *Facts) { f.Machine.Qubes = true }},
		{name: "template", role: whonix.Workstation, facts: template},
		{name: "template-secure-proxy", role: whonix.Workstation, facts: func(f *Facts) { template(f); f.SecureProxy = true }},
		{name: "template-timesync", role: whonix.Workstation, facts: template, vars: []string{timesync}},
		{name: "host-full", role: whonix.Host},
		{name: "host-vpn", role: whonix.Host, vars: []string{"VPN_FIREWALL=1", "VPN_SERVERS=198.51.100.7 2001:db8::7"}},
		{name: "host-open", role: whonix.Host, vars: []string{"HOST_FORWARD_IF=virbr1", "HOST_ALLOW_OUTGOING=true", "WORKSTATION_ALLOW_SOCKSIFIED=1", "CONTROL_PORT_FILTER_PROXY_ENABLE=1"}},
	}
}

func (c goldenCase) ruleset(t *testing.T) string {
	t.Helper()
	f := testFacts(c.role)
	if c.facts != nil {
		c.facts(f)
	}
	return rulesetOf(t, f, set(c.vars...))
}

// TestGolden holds the text of the rulesets: section 5 of the contract with
// the differences of section 12.
func TestGolden(t *testing.T) {
	for _, c := range goldenCases() {
		t.Run(c.name, func(t *testing.T) {
			got := c.ruleset(t)
			file := filepath.Join("testdata", "golden", c.name+".nft")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("ruleset differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAcceptance02_Grep holds statements that programs look for.
func TestAcceptance02_Grep(t *testing.T) {
	byName := map[string]string{}
	for _, c := range goldenCases() {
		byName[c.name] = c.ruleset(t)
	}
	everywhere := []string{
		"add table inet filter", "add table inet nat", "policy drop", "iifname lo counter accept",
		"oifname lo counter accept", "ct state established counter accept", "counter reject",
	}
	for name, want := range map[string][]string{
		"gateway-full": append(everywhere, "redirect to :9040", "redirect to :5300", "tcp dport 9050 counter accept",
			"tcp dport 9150 counter accept", "nd-neighbor-solicit"),
		"gateway-vpn":            {"oifname tun0 counter accept"},
		"workstation-tunnel":     {"oifname tun0 counter accept"},
		"gateway-timesync":       {"tcp dport 9050 counter reject"},
		"workstation-timesync":   {"tcp dport 9050 counter reject"},
		"workstation-full":       append(everywhere, "udp dport 53 counter accept", "ip protocol != tcp counter reject"),
		"workstation-allow-list": {"ip daddr 198.51.100.1 counter accept"},
	} {
		for _, text := range want {
			if !strings.Contains(byName[name], text) {
				t.Errorf("%s: no statement with %q", name, text)
			}
		}
	}
	for name, absent := range map[string][]string{
		"gateway-timesync":     {"tcp dport 9108 counter reject", "redirect to :9040"},
		"workstation-timesync": {"tcp dport 9108 counter reject", "udp dport 53 counter accept"},
	} {
		for _, text := range absent {
			if strings.Contains(byName[name], text) {
				t.Errorf("%s: a statement with %q", name, text)
			}
		}
	}
}

// TestNoBroadDNS is acceptance 22: whatever qubesdb answers, DNS never goes to
// just any address (D10).
func TestNoBroadDNS(t *testing.T) {
	for _, c := range goldenCases() {
		for line := range strings.Lines(c.ruleset(t)) {
			if strings.HasPrefix(line, "add rule inet filter output udp dport 53 counter accept") {
				t.Errorf("%s: DNS to any address: %s", c.name, line)
			}
		}
	}
}

// TestSocksPortRangeSparesSdwdate: a range of the user's around 9108 would
// otherwise keep time from ever being right.
func TestSocksPortRangeSparesSdwdate(t *testing.T) {
	got := rulesetOf(t, testFacts(whonix.Gateway), set("INTERNAL_OPEN_PORTS=9100-9120", "firewall_mode="+ModeTimesync))
	for _, want := range []string{"oifname lo tcp dport 9100-9107 counter reject", "oifname lo tcp dport 9109-9120 counter reject"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
}

func BenchmarkGenerate(b *testing.B) {
	facts := testFacts(whonix.Gateway)
	for b.Loop() {
		c, err := Configure(Variables{}, facts)
		if err != nil {
			b.Fatal(err)
		}
		script, _ := Ruleset(&c.Settings)
		script.Bytes()
	}
}
