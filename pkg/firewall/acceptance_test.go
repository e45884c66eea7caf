// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// The tests of this file send packets through the kernel's network namespaces.
// Acceptance 10, 23 and 26 to 28 are in pkg/lab, with the attacker.

const (
	quick  = 3 * time.Second
	silent = 300 * time.Millisecond

	uidNobody   = 65534
	uidClearnet = 901
	uidSdwdate  = 905
	uidTor      = 102
)

func buildNetwork(t *testing.T) *netlab.Topology {
	t.Helper()
	topo, err := netlab.NewTopology()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(topo.Close)
	return topo
}

// load loads the ruleset of a role and configuration in a namespace.
func load(t *testing.T, n *netlab.Namespace, role whonix.Role, vars ...string) {
	t.Helper()
	loadText(t, n, rulesetOf(t, testFacts(role), set(vars...)))
}

func loadText(t *testing.T, n *netlab.Namespace, script string) {
	t.Helper()
	err := n.Do(func() error { return nft.Load(context.Background(), nft.NewExec(fsx.Host), []byte(script)) })
	if err != nil {
		t.Fatal(err)
	}
}

// startTor lets the stand-in for Tor run on the Gateway.
func startTor(t *testing.T, topo *netlab.Topology) *netlab.StandIn {
	t.Helper()
	tor := &netlab.StandIn{
		Namespace: topo.Gateway.Namespace, UID: uidTor, Ports: netlab.NewPortRange(50000, 57999),
		Answer4: netip.MustParseAddr(netlab.ServerIP), Answer6: netip.MustParseAddr(netlab.ServerIP6),
	}
	err := tor.Start([]string{"0.0.0.0", "::"}, netlab.StandInPorts{
		Socks: []uint16{9050, 9108, 9152, 9190, whonix.ControlPort},
		Trans: []uint16{whonix.TransPortWorkstation, whonix.TransPortGateway}, DNS: []uint16{whonix.DNSPortWorkstation},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tor.Stop)
	return tor
}

func addr(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }

// expect fails unless the outcome is one of the verdicts.
func expect(t *testing.T, what string, o netlab.Outcome, verdicts ...string) {
	t.Helper()
	for _, v := range verdicts {
		if o.Verdict == v {
			return
		}
	}
	t.Errorf("%s: %v, want %s", what, o, strings.Join(verdicts, " or "))
}

// TestAcceptance01_Accepted the kernel takes every golden ruleset.
func TestAcceptance01_Accepted(t *testing.T) {
	n, err := netlab.New("accepted")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	files, err := filepath.Glob("testdata/golden/*.nft")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d rulesets, %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		// The account of Qubes' updates cache exists on no test machine.
		loadText(t, n, strings.ReplaceAll(string(text), "skuid vm-updates", "skuid 907"))
	}
}

// TestNeedsNoNames: the shipped configurations load where /etc/protocols and
// /etc/services (package netbase) are missing.
func TestNeedsNoNames(t *testing.T) {
	const script = "mount --make-rprivate / && for f in /etc/protocols /etc/services; do [ ! -e $f ] || mount --bind /dev/null $f; done && exec nft -f \"$0\""
	for _, name := range []string{"gateway-full", "gateway-timesync", "workstation-full", "workstation-timesync", "host-full", "template"} {
		must(t, "unshare", "--net", "--mount", "sh", "-c", script, "testdata/golden/"+name+".nft")
	}
}

// TestAcceptance05_Redirections where a Workstation's packets end at the
// Gateway.
func TestAcceptance05_Redirections(t *testing.T) {
	topo := buildNetwork(t)
	load(t, topo.Gateway.Namespace, whonix.Gateway)
	tor := startTor(t, topo)
	ws := topo.Workstation.Namespace
	for to, port := range map[string]uint16{
		addr(netlab.ServerIP, 80): 9040, addr(netlab.ServerIP6, 80): 9040, addr(whonix.GatewayIP, 9050): 9050,
		addr(whonix.GatewayIP6, 9050): 9050, addr(whonix.GatewayIP, 22): 9040, addr(whonix.GatewayIP, 8080): 9040,
	} {
		o := ws.TCP(uidNobody, to, silent)
		if in, ok := tor.Reached(o.Local); !ok || in.Port != port {
			t.Errorf("%s: ended at port %d, want %d (%v)", to, in.Port, port, o)
		}
	}
	for _, server := range []string{whonix.GatewayIP, netlab.ServerIP, "203.0.113.53", netlab.ServerIP6} {
		o := ws.UDP(uidNobody, addr(server, 53), netlab.Query("example.com"), quick)
		expect(t, "DNS at "+server, o, netlab.Answered)
	}
}

// TestAcceptance06_GatewayAccounts who on the Gateway gets out.
func TestAcceptance06_GatewayAccounts(t *testing.T) {
	topo := buildNetwork(t)
	load(t, topo.Gateway.Namespace, whonix.Gateway)
	for _, server := range []string{netlab.ServerIP, netlab.ServerIP6} {
		gw, to := topo.Gateway.Namespace, addr(server, 80)
		expect(t, "nobody to "+to, gw.TCP(uidNobody, to, quick), netlab.Refused)
		expect(t, "clearnet to "+to, gw.TCP(uidClearnet, to, quick), netlab.Answered)
		expect(t, "debian-tor to "+to, gw.TCP(uidTor, to, quick), netlab.Answered)
	}
}

// TestAcceptance07_NothingBesideTor what leaves a Workstation.
func TestAcceptance07_NothingBesideTor(t *testing.T) {
	topo := buildNetwork(t)
	load(t, topo.Gateway.Namespace, whonix.Gateway)
	load(t, topo.Workstation.Namespace, whonix.Workstation)
	startTor(t, topo)
	ws := topo.Workstation.Namespace
	wire, err := topo.Workstation.Capture(func(f netlab.Captured) bool { return f.Outgoing && !f.NeighbourDiscovery() })
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	expect(t, "UDP over IPv6", ws.UDP(uidNobody, addr(netlab.ServerIP6, 123), []byte("x"), silent), netlab.Forbidden)
	expect(t, "ping over IPv6", ws.Ping(netlab.ServerIP6, silent), netlab.Forbidden)
	expect(t, "UDP over IPv4", ws.UDP(uidNobody, addr(netlab.ServerIP, 123), []byte("x"), silent), netlab.Forbidden)
	if frames, _ := wire.Frames(); len(frames) > 0 {
		t.Errorf("on the wire: %v", frames[0])
	}
	for _, gateway := range []string{whonix.GatewayIP, whonix.GatewayIP6} {
		if err := topo.Workstation.ForgetNeighbours(); err != nil {
			t.Fatal(err)
		}
		expect(t, "TCP to "+gateway, ws.TCP(uidNobody, addr(gateway, 9050), silent), netlab.Connected)
		expect(t, "DNS at "+gateway, ws.UDP(uidNobody, addr(gateway, 53), netlab.Query("example.com"), quick), netlab.Answered)
	}
}

// TestAcceptance08_WorkstationTimesync who in a Workstation reaches what before
// the clock is right.
func TestAcceptance08_WorkstationTimesync(t *testing.T) {
	topo := buildNetwork(t)
	load(t, topo.Gateway.Namespace, whonix.Gateway)
	load(t, topo.Workstation.Namespace, whonix.Workstation, "firewall_mode="+ModeTimesync)
	startTor(t, topo)
	ws := topo.Workstation.Namespace
	for _, gateway := range []string{whonix.GatewayIP, whonix.GatewayIP6} {
		expect(t, "sdwdate to 9108 at "+gateway, ws.TCP(uidSdwdate, addr(gateway, 9108), silent), netlab.Connected)
		expect(t, "nobody to 9108 at "+gateway, ws.TCP(uidNobody, addr(gateway, 9108), quick), netlab.Refused)
		expect(t, "nobody to 9051 at "+gateway, ws.TCP(uidNobody, addr(gateway, 9051), silent), netlab.Connected)
	}
	expect(t, "DNS", ws.UDP(uidNobody, addr(whonix.GatewayIP, 53), netlab.Query("example.com"), silent), netlab.Forbidden, netlab.Refused)
}

// TestAcceptance09_GatewayTimesync what local users reach on the Gateway before
// the clock is right.
func TestAcceptance09_GatewayTimesync(t *testing.T) {
	topo := buildNetwork(t)
	load(t, topo.Gateway.Namespace, whonix.Gateway, "firewall_mode="+ModeTimesync)
	startTor(t, topo)
	for _, host := range []string{"127.0.0.1", "::1", whonix.GatewayIP} {
		for _, port := range []int{9050, 9152, 9190, 9041} {
			expect(t, addr(host, port), topo.Gateway.Namespace.TCP(uidNobody, addr(host, port), quick), netlab.Refused)
		}
		expect(t, addr(host, 9108), topo.Gateway.Namespace.TCP(uidNobody, addr(host, 9108), silent), netlab.Connected)
	}
}

// TestAcceptance11_RouterAdvertisements only a router on the external side is
// believed.
func TestAcceptance11_RouterAdvertisements(t *testing.T) {
	topo := buildNetwork(t)
	load(t, topo.Gateway.Namespace, whonix.Gateway)
	ctx, cancel := context.WithTimeout(context.Background(), quick)
	defer cancel()
	advertise := func(from, to netlab.Port, router string) []string {
		t.Helper()
		socket, err := from.OpenSocket()
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		arrivals, err := to.Capture(func(netlab.Captured) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		defer arrivals.Close()
		hw, err := from.HardwareAddr()
		if err != nil {
			t.Fatal(err)
		}
		src, all := netip.MustParseAddr(router), netip.MustParseAddr("ff02::1")
		kind, packet := netlab.Packet(src, all, netlab.ProtoICMPv6, netlab.ICMP(src, all, 134, 0, netlab.RouterAdvertisement(netip.MustParsePrefix("2001:db8:aa::/64"), hw)))
		if err := socket.Send(netlab.Ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, hw, kind, packet)); err != nil {
			t.Fatal(err)
		}
		if err := netlab.Fence(ctx, socket, arrivals, router); err != nil {
			t.Fatal(err)
		}
		routes, err := topo.Gateway.Namespace.DefaultRoutes(unix.AF_INET6)
		if err != nil {
			t.Fatal(err)
		}
		return routes
	}
	if routes := advertise(topo.Workstation, topo.Inside, "fe80::bad"); strings.Contains(fmt.Sprint(routes), "fe80::bad") {
		t.Errorf("a Workstation's advertisement was believed: %v", routes)
	}
	if routes := advertise(topo.Internet, topo.Gateway, "fe80::600d"); !strings.Contains(fmt.Sprint(routes), "fe80::600d") {
		t.Errorf("the router's advertisement was not believed: %v", routes)
	}
}

// TestAcceptance12_TunnelOpenPort in tunnel mode an opened port answers, and
// the Workstation itself does not reach the Gateway.
func TestAcceptance12_TunnelOpenPort(t *testing.T) {
	topo := buildNetwork(t)
	load(t, topo.Workstation.Namespace, whonix.Workstation, "TUNNEL_FIREWALL_ENABLE=true", "EXTERNAL_OPEN_PORTS=22")
	startTor(t, topo)
	l, err := topo.Workstation.Namespace.Listen(0, "0.0.0.0:22")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	expect(t, "Gateway to Workstation", topo.Gateway.Namespace.TCP(0, addr(netlab.WorkstationIP, 22), silent), netlab.Connected)
	expect(t, "Workstation to Gateway", topo.Workstation.Namespace.TCP(uidNobody, addr(whonix.GatewayIP, 9108), quick), netlab.Refused)
}

// TestAcceptance13_ExternalUDP an opened UDP port is open outside only (D13).
func TestAcceptance13_ExternalUDP(t *testing.T) {
	topo := buildNetwork(t)
	load(t, topo.Gateway.Namespace, whonix.Gateway, "EXTERNAL_UDP_OPEN_PORTS=5353")
	pc, err := topo.Gateway.Namespace.ListenPacket(0, "0.0.0.0:5353")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}()
	expect(t, "from outside", topo.Internet.Namespace.UDP(0, addr(netlab.ExternalIP, 5353), []byte("x"), quick), netlab.Answered)
	expect(t, "from the Workstation", topo.Workstation.Namespace.UDP(0, addr(whonix.GatewayIP, 5353), []byte("x"), silent), netlab.Silent)
}

// TestAcceptance16_ParallelRuns ten runs at once all succeed, and leave what
// one run leaves.
func TestAcceptance16_ParallelRuns(t *testing.T) {
	n, err := netlab.New("parallel")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	g := newRig(t, whonix.GatewayMarker)
	g.nft = nft.NewExec(fsx.Host)
	var wg sync.WaitGroup
	codes := make([]int, 10)
	for i := range codes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_ = n.Do(func() error { codes[i] = g.call(nil, "whonix_firewall").code; return nil })
		}()
	}
	wg.Wait()
	for i, code := range codes {
		if code != 0 {
			t.Errorf("run %d: exit code %d", i, code)
		}
	}
	golden, err := os.ReadFile("testdata/golden/gateway-full.nft")
	if err != nil {
		t.Fatal(err)
	}
	if g.script(t) != string(golden) {
		t.Error("the record is not a single run's")
	}
	after := listRuleset(t, n)
	loadText(t, n, string(golden))
	if single := listRuleset(t, n); single != after {
		t.Errorf("ruleset differs from a single run's:\n%s\n---\n%s", after, single)
	}
}

// listRuleset is the kernel's ruleset, without counters.
func listRuleset(t *testing.T, n *netlab.Namespace) (text string) {
	t.Helper()
	err := n.Do(func() error {
		out, err := exec.Command("/usr/sbin/nft", "--stateless", "list", "ruleset").CombinedOutput()
		text = string(out)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAcceptance19_Loads the forms of 2020 are taken by the kernel.
func TestAcceptance19_Loads(t *testing.T) {
	n, err := netlab.New("loads")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	load(t, n, whonix.Gateway, "INT_IF=vif+", "INT_TIF=vif+", "EXTERNAL_OPEN_PORTS=1000:2000", "VPN_FIREWALL=1",
		"WORKSTATION_DEST_SOCKSIFIED=10.137.0.0/16,10.152.152.10", "LOCAL_NET=127.0.0.0-127.0.0.24 192.168.0.0-192.168.0.24")
	rules := listRuleset(t, n)
	for _, want := range []string{`"vif*"`, "tcp dport 1000-2000", "ip daddr 10.137.0.0/16", "ip daddr 10.152.152.10", "ip daddr 127.0.0.0-127.0.0.24", "ip daddr 192.168.0.0-192.168.0.24"} {
		if !strings.Contains(rules, want) {
			t.Errorf("no %q in the kernel", want)
		}
	}
}

// TestAcceptance22_QubesDNS with one resolver or none known, DNS goes nowhere
// else.
func TestAcceptance22_QubesDNS(t *testing.T) {
	n, err := netlab.New("qubes")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, answers := range []map[string]string{{"/qubes-primary-dns": "", "/qubes-secondary-dns": ""}, {"/qubes-primary-dns": "10.139.1.1"}} {
		f := testFacts(whonix.Workstation)
		f.Machine.Qubes = true
		f.QubesDB = func(key string) (string, bool) { v, ok := answers[key]; return v, ok }
		loadText(t, n, rulesetOf(t, f, nil))
		for line := range strings.Lines(listRuleset(t, n)) {
			if strings.TrimSpace(line) == "udp dport 53 counter accept" {
				t.Errorf("%v: DNS to any address", answers)
			}
		}
	}
}

// BenchmarkLoad compares a whole run, from fragments to the loaded ruleset,
// with nft loading the same script: the ratio is the figure to keep. Each goes
// several times in a row, as a load also pays for destroying the ruleset
// before it.
func BenchmarkLoad(b *testing.B) {
	const inARow = 10
	n, err := netlab.New("benchmark")
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	g := newRig(b, whonix.GatewayMarker)
	g.nft = nft.NewExec(fsx.Host)
	script, err := os.ReadFile("testdata/golden/gateway-full.nft")
	if err != nil {
		b.Fatal(err)
	}
	timed := func(load func()) time.Duration {
		start := time.Now()
		for range inARow {
			load()
		}
		return time.Since(start)
	}
	var ours, floor time.Duration
	for b.Loop() {
		_ = n.Do(func() error {
			ours += timed(func() {
				if o := g.call(nil, "whonix_firewall"); o.code != 0 {
					b.Errorf("%+v", o)
				}
			})
			floor += timed(func() {
				if err := nft.Load(context.Background(), g.nft, script); err != nil {
					b.Error(err)
				}
			})
			return nil
		})
	}
	b.ReportMetric(float64(ours)/float64(floor), "ratio-to-nft")
}
