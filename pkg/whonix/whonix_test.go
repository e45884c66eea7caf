// SPDX-License-Identifier: GPL-3.0-or-later

package whonix

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whonix-networking/pkg/fsx"
)

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		markers []string
		want    Machine
	}{
		{nil, Machine{}},
		{[]string{GatewayMarker}, Machine{Role: Gateway}},
		{[]string{WorkstationMarker}, Machine{Role: Workstation}},
		{[]string{HostMarker}, Machine{Role: Host}},
		{[]string{HostMarker2020}, Machine{Role: Host}},
		{[]string{HostMarker, WorkstationMarker, GatewayMarker}, Machine{Role: Gateway}},
		{[]string{HostMarker, WorkstationMarker}, Machine{Role: Workstation}},
		{[]string{QubesMarker, TemplateMarker, GatewayMarker}, Machine{Role: Gateway, Qubes: true, Template: true}},
		{[]string{NetVMMarker}, Machine{NetVM: true}},
		{[]string{ProxyVMMarker}, Machine{NetVM: true}},
	} {
		root := fsx.Root(t.TempDir())
		for _, m := range c.markers {
			if err := os.MkdirAll(filepath.Dir(root.Path(m)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(root.Path(m), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := Detect(root); got != c.want {
			t.Errorf("%v: %+v", c.markers, got)
		}
	}
	root := fsx.Root(t.TempDir())
	if err := os.MkdirAll(root.Path(GatewayMarker), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Detect(root); got.Role != RoleNone {
		t.Errorf("a directory is a marker: %v", got.Role)
	}
}

// TestSocksPorts are the 22 ports of the contract, ascending.
func TestSocksPorts(t *testing.T) {
	var ports []string
	for _, p := range SocksPorts() {
		ports = append(ports, fmt.Sprint(p.First))
		if p.First != p.Last || p.Name == "" {
			t.Errorf("%+v", p)
		}
	}
	const want = "9050 9100 9101 9102 9103 9104 9105 9106 9107 9108 9109 9110 9111 9114 9115 9117 9118 9122 9123 9124 9125 9150"
	if got := strings.Join(ports, " "); got != want {
		t.Errorf("%s", got)
	}
}

// TestPorts: every number has one row, the custom ports are one range without
// gaps, and the constants are of the table.
func TestPorts(t *testing.T) {
	rows := map[uint16]Port{}
	for _, p := range Ports() {
		if p.First > p.Last || p.First == 0 || p.Purpose == "" {
			t.Errorf("%+v", p)
		}
		for n := int(p.First); n <= int(p.Last); n++ {
			if _, twice := rows[uint16(n)]; twice {
				t.Errorf("%d is there twice", n)
			}
			rows[uint16(n)] = p
		}
	}
	for n := uint16(CustomPortFirst); n <= CustomPortLast; n++ {
		p, ok := rows[n]
		if want := map[bool]Kind{false: Socks, true: HTTPTunnel}[n >= HTTPTunnelPortFirst]; !ok || p.Kind != want || p.Side&Internal == 0 || p.Name != "" {
			t.Errorf("custom port %d: %+v", n, p)
		}
	}
	for text, n := range map[string]int{
		DefaultPortText: DefaultPort, ControlPortText: ControlPort, TorControlPortText: TorControlPort, MailPortText: MailPort,
		CurlPortText: CurlPort, BrowserPortText: BrowserPort, BrowserControlPortText: BrowserControlPort,
	} {
		if text != fmt.Sprint(n) {
			t.Errorf("%s is %d", text, n)
		}
		if _, ok := rows[uint16(n)]; !ok {
			t.Errorf("%d is not in the table", n)
		}
	}
}

// TestTorListeners: the counts of the contract, and no line twice.
func TestTorListeners(t *testing.T) {
	count, seen, ipv4 := map[string]int{}, map[string]bool{}, 0
	for _, l := range TorListeners(GatewayIP, GatewayIP6) {
		option, rest, _ := strings.Cut(l, " ")
		address, flags, _ := strings.Cut(rest, " ")
		count[option]++
		if seen[option+address] {
			t.Errorf("%s is there twice", l)
		}
		seen[option+address] = true
		if !strings.HasPrefix(address, "[") {
			ipv4++
		}
		if option == "SocksPort" && !strings.Contains(flags, "IPv6Traffic") {
			t.Errorf("%s: no IPv6Traffic", l)
		}
		if strings.Contains(flags, "ExtendedErrors") != (strings.HasSuffix(address, ":9150") && !strings.HasPrefix(address, "127.") && !strings.HasPrefix(address, "[::1]")) {
			t.Errorf("%s", l)
		}
	}
	for option, want := range map[string]int{"SocksPort": 165, "HTTPTunnelPort": 160, "TransPort": 4, "DnsPort": 4} {
		if count[option] != want {
			t.Errorf("%s: %d, want %d", option, count[option], want)
		}
	}
	if ipv4 != 167 || len(count) != 4 {
		t.Errorf("%d lines without IPv6, %v", ipv4, count)
	}
	if all := strings.Join(TorListeners("10.137.0.9", "fd00::9"), "\n"); strings.Contains(all, GatewayIP) || !strings.Contains(all, "TransPort [fd00::9]:9040") {
		t.Error("another address is not used")
	}
}

// TestOwnAddress: exactly one address, of the family, that a machine can have.
func TestOwnAddress(t *testing.T) {
	four, six := netip.MustParseAddr(GatewayIP), netip.MustParseAddr(GatewayIP6)
	for _, c := range []struct {
		text string
		like netip.Addr
		good bool
	}{
		{"10.137.0.9", four, true}, {"fd00::9", six, true}, {"FD00:0::9", six, true},
		{"fd00::9", four, false}, {"10.137.0.9", six, false}, {"", four, false}, {"10.0.0.1\n", four, false}, {" 10.0.0.1", four, false}, {"10.0.0.1/32", four, false},
		{"010.0.0.1", four, false}, {"0.0.0.0", four, false}, {"255.255.255.255", four, false}, {"127.0.0.1", four, false}, {"224.0.0.1", four, false},
		{"::", six, false}, {"::1", six, false}, {"fe80::1%eth0", six, false}, {"ff02::1", six, false}, {"::ffff:10.0.0.1", six, false}, {"::ffff:10.0.0.1", four, false}, {"[fd00::9]", six, false},
	} {
		a, err := OwnAddress(c.text, c.like)
		if (err == nil) != c.good || a.IsValid() != c.good {
			t.Errorf("%q: %v, %v", c.text, a, err)
		}
	}
	if a, err := SavedAddress([]byte("10.137.0.9\n"), four); err != nil || a.String() != "10.137.0.9" {
		t.Errorf("a line: %v, %v", a, err)
	}
}
