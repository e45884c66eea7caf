// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/tornet"
)

// Who is who on the Internet.
const (
	routerIP  = "10.0.2.2"    // of the Gateway's provider
	relayIP   = "203.0.113.9" // of the Tor network
	serverIP  = "198.51.100.1"
	pageText  = "a page behind an exit"
	onionText = "a page of an onion service"
)

// whonix is both machines and the Internet.
type whonix struct {
	*testing.T
	gateway, workstation *machine
	internet             netlab.Port
	tor                  *tornet.Network
	onion                string // host name of the onion service
	outside              *netlab.Capture
}

// newWhonix boots everything, the Gateway first.
func newWhonix(t *testing.T) *whonix {
	t.Helper()
	w := &whonix{T: t, gateway: newMachine(t, "gateway"), workstation: newMachine(t, "workstation")}
	w.wire()
	w.startInternet()
	w.gateway.install(gatewayPackages()...)
	w.gateway.write("/usr/share/anon-gw-base-files/gateway", "")
	w.gateway.write("/usr/local/etc/torrc.d/50_user.conf", w.tor.ClientLines()+"DisableNetwork 0\n")
	w.workstation.install(workstationPackages()...)
	w.workstation.write("/usr/share/anon-ws-base-files/workstation", "")
	w.workstation.write("/etc/apt/sources.list", "deb [trusted=yes] http://packages.example/ ./\n")
	for _, m := range []*machine{w.gateway, w.workstation} {
		m.write("/etc/whonix_firewall.d/50_user.conf", "firewall_mode=timesync-fail-closed\n")
		if state := m.boot(); state != "running" {
			t.Fatalf("%s is %s: %s\n%s", m.name, state, m.failed(), m.console())
		}
	}
	return w
}

// wire joins the machines' networks: the Workstation to the Gateway, and that to
// the Internet.
func (w *whonix) wire() {
	namespace := func(name string) *netlab.Namespace {
		n, err := netlab.New(name)
		must(w.T, err)
		w.Cleanup(n.Close)
		return n
	}
	w.gateway.ns, w.workstation.ns = namespace("gateway"), namespace("workstation")
	w.internet = netlab.Port{Namespace: namespace("internet"), Interface: "eth0"}
	must(w.T, netlab.Connect(netlab.Port{Namespace: w.gateway.ns, Interface: "eth0"}, w.internet))
	must(w.T, netlab.Connect(netlab.Port{Namespace: w.gateway.ns, Interface: "eth1"}, netlab.Port{Namespace: w.workstation.ns, Interface: "eth0"}))
	must(w.T, w.internet.Address(routerIP+"/24", relayIP+"/32", serverIP+"/32"))
	var err error
	w.outside, err = w.internet.Capture(func(c netlab.Captured) bool { return !c.Outgoing })
	must(w.T, err)
	w.Cleanup(w.outside.Close)
}

// startInternet starts the Tor network, a server behind its exits, and an onion
// service.
func (w *whonix) startInternet() {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	var err error
	w.tor, err = tornet.StartRelays(ctx, tornet.Options{Dir: w.TempDir(), Namespace: w.internet.Namespace, Address: relayIP,
		Names: map[string]string{"server.example": serverIP, "packages.example": serverIP}})
	must(w.T, err)
	w.Cleanup(w.tor.Stop)
	site := http.NewServeMux()
	site.HandleFunc("/{$}", func(out http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(out, "%s for %s\n", pageText, r.RemoteAddr)
	})
	site.HandleFunc("/Release", func(out http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(out, "Origin: e2e\nDate: %s\nMD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 0 Packages\nSHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 Packages\n", time.Now().UTC().Format(time.RFC1123))
	})
	site.HandleFunc("/Packages", func(http.ResponseWriter, *http.Request) {})
	w.serve(serverIP+":80", site)
	w.serve("127.0.0.1:8080", http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { fmt.Fprintln(out, onionText) }))

	// The onion service is a client of the network's, somewhere else.
	dir := w.TempDir()
	torrc := filepath.Join(dir, "torrc")
	must(w.T, os.WriteFile(torrc, []byte(w.tor.ClientLines()+fmt.Sprintf("DataDirectory %[1]s/data\nSocksPort 0\nHiddenServiceDir %[1]s/service\nHiddenServicePort 80 127.0.0.1:8080\n__OwningControllerProcess %[2]d\nUseEntryGuards 0\nLog notice file %[1]s/log\n", dir, os.Getpid())), 0o600))
	service := exec.Command("tor", "-f", torrc, "--quiet")
	must(w.T, w.internet.Namespace.Do(service.Start))
	w.Cleanup(func() { _ = service.Process.Kill(); _ = service.Wait() })
	name := filepath.Join(dir, "service", "hostname")
	for end := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		text, err := os.ReadFile(name)
		if w.onion = strings.TrimSpace(string(text)); w.onion != "" {
			return
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			w.Fatalf("the onion service has no name: %v\n%s", err, log)
		}
	}
}

func (w *whonix) serve(address string, h http.Handler) {
	w.Helper()
	l, err := w.internet.Namespace.Listen(0, address)
	must(w.T, err)
	s := &http.Server{Handler: h, ReadHeaderTimeout: within}
	go func() { _ = s.Serve(l) }()
	w.Cleanup(func() { _ = s.Close() })
}

// timeIsRight does what sdwdate does when it has been successful for the first
// time, upon which the firewall's watcher opens what else the configuration
// allows.
func (m *machine) timeIsRight() {
	m.t.Helper()
	m.does("touch", "/run/sdwdate/first_success", "/run/sdwdate/success")
}

// eventually runs a command on a machine until it prints a text: Tor needs a
// moment for a new circuit.
func (m *machine) eventually(want string, args ...string) {
	m.t.Helper()
	m.until(strings.Join(args, " "), func() error {
		out, err := m.try(args...)
		if err == nil && !strings.Contains(out, want) {
			err = fmt.Errorf("%q", out)
		}
		return err
	})
}

// TestWhonix is a day with both machines.
func TestWhonix(t *testing.T) {
	w := newWhonix(t)
	defer func() {
		if t.Failed() {
			out, _ := w.gateway.try("journalctl", "--no-pager", "--lines=200", "--output=short-monotonic")
			t.Logf("gateway's journal:\n%s", out)
			out, _ = w.workstation.try("journalctl", "--no-pager", "--lines=100", "--output=short-monotonic")
			t.Logf("workstation's journal:\n%s", out)
		}
	}()
	w.nothingHasFailed()
	w.beforeTheTimeIsRight()
	w.gateway.timeIsRight()
	w.workstation.timeIsRight()
	w.asAPersonWould()
	w.controlPort()
	w.daemonsComeBack()
	w.reboots()
	w.brokenFirewall()
	w.onlyTorWasOutside()
}

func (w *whonix) nothingHasFailed() {
	w.Helper()
	for _, m := range []*machine{w.gateway, w.workstation} {
		if failed := m.failed(); failed != "" {
			w.Errorf("%s: failed units: %s", m.name, failed)
		}
	}
}

// beforeTheTimeIsRight: Workstations get nothing but what sdwdate needs.
func (w *whonix) beforeTheTimeIsRight() {
	w.Helper()
	w.workstation.fails("curl", "--silent", "--max-time", "10", "http://server.example/")
}

// asAPersonWould: pages, an onion service's too, packages, and the ports that Tor
// Browser expects.
func (w *whonix) asAPersonWould() {
	w.Helper()
	ws := w.workstation
	ws.eventually(pageText, "curl", "--silent", "--show-error", "--max-time", "60", "http://server.example/")
	ws.eventually(onionText, "curl", "--silent", "--show-error", "--max-time", "60", "http://"+w.onion+"/")
	ws.eventually("Reading package lists", "apt-get", "update", "--error-on=any")
	for _, proxy := range []string{"127.0.0.1:9150", "127.0.0.1:9050", "[::1]:9150"} {
		ws.eventually(pageText, "curl.anondist-orig", "--silent", "--show-error", "--max-time", "60", "--proxy", "socks5h://"+proxy, "http://server.example/")
	}
	if out := ws.does("tor", "--version"); !strings.HasPrefix(out, "Tor version") {
		w.Errorf("tor --version: %s", out)
	}
	// Round Tor there is no way.
	ws.fails("curl.anondist-orig", "--silent", "--max-time", "5", "--interface", "eth0", "http://"+relayIP+":5000/")
}

// controlPort: a new identity yes, the user's address no.
func (w *whonix) controlPort() {
	w.Helper()
	ask := func(lines string) string {
		return w.workstation.feeds(lines+"QUIT\r\n", "curl.anondist-orig", "--silent", "--max-time", "30", "telnet://127.0.0.1:9151")
	}
	if got := ask("PROTOCOLINFO 1\r\nAUTHENTICATE\r\nSIGNAL NEWNYM\r\n"); strings.Count(got, "250 OK") < 2 {
		w.Errorf("SIGNAL NEWNYM: %q", got)
	}
	if got := ask("AUTHENTICATE\r\nGETINFO address\r\n"); !strings.Contains(got, "510 Command filtered") || strings.Contains(got, "address=") {
		w.Errorf("GETINFO address: %q", got)
	}
}

// daemonsComeBack after they were killed.
func (w *whonix) daemonsComeBack() {
	w.Helper()
	for m, units := range map[*machine][]string{
		w.gateway:     {"tor@default.service", "onion-grater.service", "whonix-firewall-restarter.service", "leak-monitor.service"},
		w.workstation: {"whonix-firewall-restarter.service"},
	} {
		for _, unit := range units {
			before := m.property(unit, "MainPID")
			if before == "0" {
				w.Errorf("%s: %s does not run: %s", m.name, unit, m.property(unit, "ActiveState"))
				continue
			}
			m.does("kill", "-KILL", before)
			m.until(unit+" comes back", func() error {
				if now := m.property(unit, "MainPID"); now == "0" || now == before || m.property(unit, "ActiveState") != "active" {
					return fmt.Errorf("process %s, state %s", now, m.property(unit, "ActiveState"))
				}
				return nil
			})
		}
	}
	// A redirection is there again when somebody asks.
	relay := "anon-ws-disable-stacked-tor_autogen_port_9050.service"
	w.workstation.does("kill", "-KILL", w.workstation.property(relay, "MainPID"))
	w.workstation.eventually(pageText, "curl.anondist-orig", "--silent", "--show-error", "--max-time", "60", "--proxy", "socks5h://127.0.0.1:9050", "http://server.example/")
	w.workstation.eventually(pageText, "curl", "--silent", "--show-error", "--max-time", "60", "http://server.example/")
}

// reboots: the same again, shut until the time is right.
func (w *whonix) reboots() {
	w.Helper()
	for _, m := range []*machine{w.gateway, w.workstation} {
		m.write("/etc/whonix_firewall.d/50_user.conf", "firewall_mode=timesync-fail-closed\n")
		if state := m.reboot(); state != "running" {
			w.Fatalf("%s after a reboot is %s: %s\n%s", m.name, state, m.failed(), m.console())
		}
	}
	w.beforeTheTimeIsRight()
	w.gateway.timeIsRight()
	w.workstation.timeIsRight()
	w.workstation.eventually(pageText, "curl", "--silent", "--show-error", "--max-time", "60", "http://server.example/")
}

// brokenFirewall: a mistake in the configuration shuts the network, and says
// where it is.
func (w *whonix) brokenFirewall() {
	w.Helper()
	gw := w.gateway
	gw.does("sh", "-c", "echo 'firewall_mode=ful' >/etc/whonix_firewall.d/60_mistake.conf")
	gw.reboot()
	if failed := gw.failed(); !strings.Contains(failed, "whonix-firewall.service") {
		w.Errorf("the firewall has not failed: %q", failed)
	}
	if out := gw.does("journalctl", "--unit=whonix-firewall.service", "--no-pager"); !strings.Contains(out, "60_mistake.conf:1") {
		w.Errorf("the journal does not say where: %s", out)
	}
	w.outside.Forget()
	w.workstation.fails("curl", "--silent", "--max-time", "10", "http://server.example/")
	if o := gw.ns.TCP(0, relayIP+":5000", 2*time.Second); o.Verdict == netlab.Answered {
		w.Errorf("the Gateway reaches the Internet: %v", o)
	}
	if n := w.outside.Count(); n > 0 {
		frames, _ := w.outside.Frames()
		w.Errorf("%d frames came out of the Gateway, the first %v", n, frames[0])
	}
	gw.does("rm", "/etc/whonix_firewall.d/60_mistake.conf")
	if state := gw.reboot(); state != "running" {
		w.Errorf("the Gateway is %s: %s", state, gw.failed())
	}
}

// onlyTorWasOutside: whatever came from the Gateway was for a relay, or looked
// for the next hop.
func (w *whonix) onlyTorWasOutside() {
	w.Helper()
	frames, err := w.outside.Frames()
	must(w.T, err)
	for _, f := range frames {
		if f.NeighbourDiscovery() || f.Dst.String() == relayIP && f.Proto == netlab.ProtoTCP {
			continue
		}
		w.Errorf("outside: %v", f)
	}
}
