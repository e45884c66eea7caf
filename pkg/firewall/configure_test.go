// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// hostileValues would harm if they reached nft or a file unparsed.
func hostileValues() map[string]string {
	return map[string]string{
		"newline":           "22\nadd rule inet filter output accept",
		"semicolon":         "22; accept",
		"single quote":      "'22'",
		"double quote":      `"22"`,
		"substitution":      "$(id -u root)",
		"backtick":          "`id`",
		"comment":           "22#x",
		"brace":             "{ 22, 23 }",
		"5 MB":              strings.Repeat("x", 5<<20),
		"NUL":               "22\x0023",
		"negative port":     "-1",
		"port too large":    "65536",
		"all of IPv4 short": "0/0",
		"all of IPv4":       "0.0.0.0/0",
		"all of IPv6":       "::/0",
		"16-byte interface": "abcdefghijklmnop",
		"unknown account":   "no-such-account",
		"host name":         "example.com",
		"IPv6 zone":         "fe80::1%eth0",
		"escape":            "\x1b[2J",
		"carriage return":   "22\r",
	}
}

// harmless lists the values that are right for some kinds of variables: what
// is no port may well be an interface or an account.
func harmless(variable, value string) bool {
	isInterface := slices.Contains([]string{"INT_IF", "INT_TIF", "EXT_IF", "VPN_INTERFACE", "IPV6_RA_IF", "HOST_FORWARD_IF"}, variable)
	isUser := strings.HasSuffix(variable, "_USER") || variable == "NO_NAT_USERS"
	return isInterface && (value == "no-such-account" || value == "example.com") ||
		isUser && value == "65536"
}

// variablesOf are the variables that a role uses.
func variablesOf(role whonix.Role) []string {
	all := []string{
		"EXT_IF", "EXTERNAL_OPEN_PORTS", "EXTERNAL_UDP_OPEN_PORTS", "EXTERNAL_OPEN_ALL", "INTERNAL_OPEN_PORTS",
		"CONTROL_PORT_FILTER_PROXY_PORT", "NO_REJECT_INVALID_OUTGOING_PACKAGES", "CLEARNET_USER", "TUNNEL_USER",
		"SDWDATE_USER", "SYSTEMCHECK_USER", "NOTUNNEL_USER", "UPDATESPROXYCHECK_USER", "LOCAL_NET", "LOCAL_NET_IP6",
		"VPN_INTERFACE", "TUNNEL_FIREWALL_ENABLE", "VPN_FIREWALL", "IPV6_RA_IF", "firewall_mode",
	}
	inbound := []string{
		"GATEWAY_ALLOW_INCOMING_SSH", "GATEWAY_ALLOW_INCOMING_FLASHPROXY", "GATEWAY_ALLOW_INCOMING_DIR_PORT",
		"GATEWAY_ALLOW_INCOMING_OR_PORT", "GATEWAY_ALLOW_INCOMING_ICMP", "GATEWAY_ALLOW_INCOMING_RELATED_STATE",
		"GATEWAY_ALLOW_INCOMING_ICMP_FRAG_NEEDED", "FLASHPROXY_PORT", "DIR_PORT", "OR_PORT", "INT_IF", "INT_TIF",
		"WORKSTATION_TRANSPARENT_TCP", "WORKSTATION_TRANSPARENT_DNS", "WORKSTATION_ALLOW_SOCKSIFIED",
		"CONTROL_PORT_FILTER_PROXY_ENABLE", "TRANS_PORT_WORKSTATION", "DNS_PORT_WORKSTATION", "TRANS_PORT_GATEWAY",
		"DNS_PORT_GATEWAY", "WORKSTATION_DEST_SOCKSIFIED", "WORKSTATION_DEST_SOCKSIFIED_IPV6", "NON_TOR_GATEWAY", "NON_TOR_GATEWAY_IP6",
	}
	switch role {
	case whonix.Gateway:
		return append(append(all, inbound...), "GATEWAY_TRANSPARENT_TCP", "GATEWAY_TRANSPARENT_DNS", "GATEWAY_TRANSPARENT_UDP",
			"WORKSTATION_TRANSPARENT_UDP", "GATEWAY_REJECT_LAN_DNS", "ALLOW_GATEWAY_ROOT_USER", "ALLOW_GATEWAY_USER_USER",
			"NO_NAT_USERS", "TOR_USER")
	case whonix.Host:
		return append(append(all, inbound...), "HOST_FORWARD_IF", "HOST_ALLOW_OUTGOING", "VPN_SERVERS")
	default:
		return append(all, "GATEWAY_IP", "GATEWAY_IP6", "GATEWAY_IP_HARDCODED", "GATEWAY_IP6_HARDCODED", "firewall_allow_udp",
			"outgoing_allow_ip_list", "TUNNEL_FIREWALL_ALLOW_SDWDATE_USER", "TUNNEL_FIREWALL_ALLOW_NOTUNNEL_USER",
			"TUNNEL_FIREWALL_ALLOW_LOCAL_NET", "TUNNEL_FIREWALL_ALLOW_CONTROL_PORT_FILTER_PROXY",
			"TUNNEL_FIREWALL_ALLOW_TB_UPDATER", "TUNNEL_FIREWALL_ALLOW_SYSTEMCHECK")
	}
}

// TestHostileValues feeds every variable of every role each hostile value: one
// line that names variable, value and place, and no settings.
func TestHostileValues(t *testing.T) {
	const place = "/etc/whonix_firewall.d/50_user.conf:1"
	const lineMax = 512
	for _, role := range []whonix.Role{whonix.Gateway, whonix.Workstation, whonix.Host} {
		for _, name := range variablesOf(role) {
			for what, value := range hostileValues() {
				if harmless(name, value) {
					continue
				}
				_, err := Configure(set(name+"="+value), testFacts(role))
				if err == nil {
					t.Errorf("%v: %s=%.40q (%s) accepted", role, name, value, what)
					continue
				}
				line := err.Error()
				if !strings.HasPrefix(line, place+": "+name+": ") || strings.ContainsAny(line, "\n\x00\x1b\r") || len(line) > lineMax {
					t.Errorf("%v: %s=%s: not one clear line with place and name: %.600q", role, name, what, line)
				}
			}
		}
	}
}

// TestBadValues holds the wording where a user most likely needs it.
func TestBadValues(t *testing.T) {
	for _, c := range []struct {
		role       whonix.Role
		assignment string
		want       string
	}{
		{whonix.Gateway, "EXTERNAL_OPEN_PORTS=80 22#x", `EXTERNAL_OPEN_PORTS: "22#x" is not a port`},
		{whonix.Gateway, "EXTERNAL_OPEN_PORTS=2000-1000", `"2000-1000" is an empty range`},
		{whonix.Gateway, "NON_TOR_GATEWAY=example.com", `"example.com" is not a numeric address`},
		{whonix.Gateway, "NON_TOR_GATEWAY=fd00::/8", `"fd00::/8" is an IPv6 network, this list is for IPv4`},
		{whonix.Gateway, "NON_TOR_GATEWAY_IP6=10.0.0.0/8", `"10.0.0.0/8" is an IPv4 network, this list is for IPv6`},
		{whonix.Gateway, "NON_TOR_GATEWAY=0.0.0.0/0", `"0.0.0.0/0" is every address there is`},
		{whonix.Gateway, "NON_TOR_GATEWAY=0.0.0.0-255.255.255.255", `is every address there is`},
		{whonix.Gateway, "INT_IF=*", `INT_IF: "*" is no interface name`},
		{whonix.Gateway, "IPV6_RA_IF=eth1", `IPV6_RA_IF: "eth1" is an internal interface`},
		{whonix.Gateway, "VPN_INTERFACE=tun0 tun1", `must be one interface name`},
		{whonix.Gateway, "DIR_PORT=80-90", `is a range, one port is needed`},
		{whonix.Gateway, "TUNNEL_FIREWALL_ENABLE=maybe", `is neither on (1, true, yes, on) nor off`},
		{whonix.Workstation, "GATEWAY_IP=10.0.0.0/8", `is a network, one address is needed`},
		{whonix.Workstation, "TUNNEL_USER=1 2", `must be one account`},
		{whonix.Host, "VPN_FIREWALL=1", `VPN_SERVERS: "" is empty`},
	} {
		_, err := Configure(set(c.assignment), testFacts(c.role))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %s: error %v, want %q in it", c.role, c.assignment, err, c.want)
		}
	}
}

// TestListTooLong: a list of thousands is refused before rules are made of it.
func TestListTooLong(t *testing.T) {
	_, err := Configure(set("EXTERNAL_OPEN_PORTS="+strings.Repeat("1 ", itemsMax+1)), testFacts(whonix.Gateway))
	if err == nil || !strings.Contains(err.Error(), "has 4097 items, more than 4096") {
		t.Errorf("error %v", err)
	}
}

// TestSwitches is D15: what a user may have meant as on is told, and stays
// off; for the two that enforce a tunnel it counts as on.
func TestSwitches(t *testing.T) {
	for _, value := range []string{"true", "yes", "on", "2", "enabled"} {
		c, err := Configure(set("GATEWAY_ALLOW_INCOMING_SSH="+value), testFacts(whonix.Gateway))
		if err != nil {
			t.Fatal(err)
		}
		if c.Settings.Inbound.SSH || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "GATEWAY_ALLOW_INCOMING_SSH=1") {
			t.Errorf("%s: on %v, warnings %q", value, c.Settings.Inbound.SSH, c.Warnings)
		}
	}
	for _, value := range []string{"", "0", "false", "no", "off"} {
		c, err := Configure(set("GATEWAY_ALLOW_INCOMING_SSH="+value), testFacts(whonix.Gateway))
		if err != nil || c.Settings.Inbound.SSH || len(c.Warnings) > 0 {
			t.Errorf("%q: error %v, warnings %q", value, err, c.Warnings)
		}
	}
	for _, name := range []string{"TUNNEL_FIREWALL_ENABLE", "VPN_FIREWALL"} {
		for _, value := range []string{"1", "true", "yes", "on"} {
			c, err := Configure(set(name+"="+value), testFacts(whonix.Workstation))
			if err != nil || !c.Settings.Tunnel || c.Text["TUNNEL_FIREWALL_ENABLE"] != "true" || c.Text["VPN_FIREWALL"] != "1" {
				t.Errorf("%s=%s: error %v, tunnel not on", name, value, err)
			}
		}
	}
}

// TestMode is D9 and acceptance 17: who decides the mode.
func TestMode(t *testing.T) {
	for _, c := range []struct {
		file, env, cli, synced string
		timesync               bool
	}{
		{},
		{file: ModeFull},
		{file: ModeTimesync, timesync: true},
		{file: ModeFull, env: ModeTimesync, timesync: true},
		{file: ModeTimesync, env: ModeFull, timesync: true},
		{file: ModeFull, env: ModeTimesync, synced: "/run/sdwdate/success"},
		{file: ModeFull, env: ModeTimesync, cli: ModeFull},
		{file: ModeFull, cli: ModeTimesync, timesync: true},
		{file: ModeTimesync, synced: "/run/sdwdate/first_success"},
	} {
		f := testFacts(whonix.Gateway)
		f.ModeEnv, f.ModeCLI, f.TimeSynced = c.env, c.cli, c.synced
		vars := Variables{}
		if c.file != "" {
			vars = set("firewall_mode=" + c.file)
		}
		got, err := Configure(vars, f)
		if err != nil || got.Settings.Timesync != c.timesync {
			t.Errorf("%+v: timesync %v, error %v", c, !c.timesync, err)
		}
		if c.synced != "" && !slices.Contains(got.Notes, "OK: ("+c.synced+" exists.)") {
			t.Errorf("%+v: notes %q", c, got.Notes)
		}
	}
	f := testFacts(whonix.Gateway)
	f.ModeEnv = "timesync"
	var mode *ModeError
	if _, err := Configure(set("firewall_mode=full"), f); !errors.As(err, &mode) || mode.Origin != environment {
		t.Errorf("environment with a mode that is none: error %v", err)
	}
}

// Test2020 is acceptance 19 and section 4.5: what users' files still have.
func Test2020(t *testing.T) {
	vars := set("INT_IF=vif+", "INT_TIF=vif+", "EXTERNAL_OPEN_PORTS=1000:2000", "WORKSTATION_DEST_SOCKSIFIED=10.137.0.0/16,10.152.152.10",
		"LOCAL_NET=127.0.0.0-127.0.0.24 192.168.0.0-192.168.0.24", "VPN_FIREWALL=1", "SOCKS_PORT_CUSTOM=9230", "SOCKS_PORT_TB=9100", "WHONIXCHECK_USER=904")
	f := testFacts(whonix.Gateway)
	accounts := testAccounts()
	delete(accounts, "systemcheck")
	f.Account = func(name string) (uint32, bool) { uid, ok := accounts[name]; return uid, ok }
	c, err := Configure(vars, f)
	if err != nil {
		t.Fatal(err)
	}
	script, _ := Ruleset(&c.Settings)
	for _, want := range []string{
		"iifname vif* ip daddr 10.137.0.0/16 tcp dport 9050 counter redirect to :9050",
		"iifname vif* ip daddr 10.152.152.10 tcp dport 9050 counter redirect to :9050",
		"iifname eth0 tcp dport 1000-2000 counter accept",
		"output ip daddr 127.0.0.0-127.0.0.24 counter accept",
		"output ip daddr 192.168.0.0-192.168.0.24 counter accept",
		"iifname vif* tcp dport 9230 counter accept",
	} {
		if !strings.Contains(script.String(), want) {
			t.Errorf("no statement with %q", want)
		}
	}
	for _, name := range []string{"SOCKS_PORT_CUSTOM", "SOCKS_PORT_TB", "WHONIXCHECK_USER"} {
		if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, ": "+name+": ") }) {
			t.Errorf("no warning about %s in %q", name, c.Warnings)
		}
	}
	if n := strings.Count(script.String(), "input iifname vif* tcp dport 9100 counter accept"); n != 1 {
		t.Errorf("port 9100 opened %d times", n)
	}
}

// TestUsersWordsFirst is acceptance 20: rules for the user's own items come in
// front of the built-in ones.
func TestUsersWordsFirst(t *testing.T) {
	got := rulesetOf(t, testFacts(whonix.Gateway), set("NO_NAT_USERS= 13 ", "INTERNAL_OPEN_PORTS= 80\n81 "))
	for _, order := range [][]string{
		{"nat output skuid 13 ", "nat output skuid 901 ", "nat output skuid 902 ", "nat output skuid 102 "},
		{"eth1 tcp dport 80 counter accept", "eth1 tcp dport 81 counter accept", "eth1 tcp dport 9050 counter accept"},
	} {
		last := -1
		for _, text := range order {
			at := strings.Index(got, text)
			if at <= last {
				t.Errorf("%q is at %d, not behind %d", text, at, last)
			}
			last = at
		}
	}
}

// TestBlankEmptiesAList: an empty value means the default, a blank one nothing.
func TestBlankEmptiesAList(t *testing.T) {
	const lan = "output ip daddr 192.168.0.0/24 counter accept"
	if got := rulesetOf(t, testFacts(whonix.Gateway), set("NON_TOR_GATEWAY=")); !strings.Contains(got, lan) {
		t.Error("empty NON_TOR_GATEWAY is not the default")
	}
	if got := rulesetOf(t, testFacts(whonix.Gateway), set("NON_TOR_GATEWAY= ")); strings.Contains(got, lan) {
		t.Error("blank NON_TOR_GATEWAY is not empty")
	}
}

// TestMalformedQubesDB is D27: what is no address counts as no answer.
func TestMalformedQubesDB(t *testing.T) {
	for _, answer := range []string{"", "nonsense", "10.0.0.0/8", "10.137.0.7\n10.137.0.8", "fd00::1"} {
		f := testFacts(whonix.Workstation)
		f.Machine.Qubes = true
		f.QubesDB = func(key string) (string, bool) { return answer, key == "/qubes-gateway" }
		if got := rulesetOf(t, f, nil); !strings.Contains(got, "ip daddr 127.0.0.1 udp dport 53") {
			t.Errorf("answer %q: the fallback is not used", answer)
		}
	}
}

// TestOverlap: an interface both inside and outside is told, and keeps being
// answered, as the machine would not work otherwise.
func TestOverlap(t *testing.T) {
	c, err := Configure(set("INT_IF=eth0", "INT_TIF=eth0"), testFacts(whonix.Gateway))
	if err != nil {
		t.Fatal(err)
	}
	script, _ := Ruleset(&c.Settings)
	if len(c.Warnings) == 0 || strings.Contains(script.String(), "oifname eth0 ct direction reply") || strings.Contains(script.String(), "nd-router-advert") {
		t.Errorf("warnings %q", c.Warnings)
	}
}

// TestMissingAccounts: the lookups happen in the known order, and only root
// must exist.
func TestMissingAccounts(t *testing.T) {
	f := testFacts(whonix.Gateway)
	f.Account = func(name string) (uint32, bool) { return 0, name == "root" }
	c, err := Configure(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	if want := "clearnet notunnel sdwdate systemcheck debian-tor tunnel updatesproxycheck user"; strings.Join(c.Missing, " ") != want {
		t.Errorf("missing %q, want %q", c.Missing, want)
	}
	f.Account = func(string) (uint32, bool) { return 0, false }
	if _, err := Configure(nil, f); err == nil || !strings.Contains(err.Error(), "ROOT_USER") {
		t.Errorf("no root: error %v", err)
	}
}

// TestPrintedVariables: every variable that --info prints has a value or is
// known to be empty.
func TestPrintedVariables(t *testing.T) {
	for role, count := range map[whonix.Role]int{whonix.Gateway: 56, whonix.Workstation: 34, whonix.Host: 24} {
		names := printedVariables(role)
		if len(names) != count || len(slices.Compact(slices.Sorted(slices.Values(names)))) != count {
			t.Errorf("%v: %d variables, want %d different ones", role, len(names), count)
		}
	}
}

func TestSqueeze(t *testing.T) {
	for in, want := range map[string]string{"": "", " a ": "a", "a\n\nb  c\n": "a b c", "  a": "a"} {
		if got := squeeze(in); got != want {
			t.Errorf("squeeze(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestArpAddresses is D39: own addresses count before the configured ones.
func TestArpAddresses(t *testing.T) {
	eth1, vif := nft.Interface{Name: "eth1"}, nft.Interface{Name: "vif", Wildcard: true}
	own := netip.MustParseAddr("10.152.152.10")
	g := &Gateway{Destinations: []nft.Net{nft.NetOf(netip.MustParseAddr("10.9.9.9"))}}
	for _, c := range []struct {
		i     nft.Interface
		addrs []netip.Addr
		nets  string
		own   bool
	}{
		{eth1, []netip.Addr{own, netip.MustParseAddr("fe80::1")}, "10.152.152.10", true},
		{eth1, nil, "10.9.9.9", true},
		{vif, []netip.Addr{own}, "10.152.152.10", false},
	} {
		g.OwnAddresses = map[nft.Interface][]netip.Addr{c.i: c.addrs}
		nets, addr := g.arpAddresses(c.i)
		if len(nets) != 1 || nets[0].Text != c.nets || addr.IsValid() != c.own {
			t.Errorf("%v with %v: %v, %v", c.i, c.addrs, nets, addr)
		}
	}
}

func ExampleModeError() {
	fmt.Println(&ModeError{Mode: "ful", Origin: "/etc/whonix_firewall.d/50_user.conf:3"})
	// Output: /etc/whonix_firewall.d/50_user.conf:3: firewall_mode: "ful" is not a mode: write full or timesync-fail-closed
}
