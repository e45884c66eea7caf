// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// machine is a root with a generator that notes what it asks of systemd.
type machine struct {
	t              *testing.T
	root           fsx.Root
	calls          []string
	stdout, stderr bytes.Buffer
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: fsx.Root(t.TempDir())}
	m.write(whonix.WorkstationMarker, "")
	return m
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.root.Path(path)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.root.Path(path), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(path string) string {
	m.t.Helper()
	data, err := os.ReadFile(m.root.Path(path))
	if err != nil {
		m.t.Error(err)
	}
	return string(data)
}

// generate runs the generator as on a running system.
func (m *machine) generate(environ ...string) error {
	m.calls = nil
	m.stdout.Reset()
	m.stderr.Reset()
	return m.generator(environ...).run(context.Background())
}

func (m *machine) count(prefix string) int {
	n := 0
	for _, c := range m.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

// errFailing is what starting a unit of that name gives.
var errFailing = errors.New("job failed")

const userDropIn = "/etc/anon-ws-disable-stacked-tor.d/50_user.conf"

// effective are a unit's lines without comments and empty ones.
func effective(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out
}

// wantUnits are the contract's lines (E.5) for one redirection.
func wantUnits(listen, destination, port, stem string, ipv6 bool) (socket, service []string) {
	head := []string{"[Unit]", "Description=redirect " + listen + " to Whonix-Gateway port " + port,
		"Documentation=https://www.whonix.org/wiki/Dev/anon-ws-disable-stacked-tor", "ConditionPathExists=!/run/qubes/this-is-templatevm",
		"After=detect-ipv6-enabled-in-kernel.service"}
	if ipv6 {
		head = append(head, "ConditionPathExists=/run/helper-scripts/ipv6-is-enabled")
	}
	name := "anon-ws-disable-stacked-tor_autogen_" + stem + ".socket"
	socket = append(slices.Clone(head), "[Socket]", "ListenStream="+listen, "SocketUser=debian-tor", "SocketMode=666", "DirectoryMode=2755", "[Install]", "WantedBy=sockets.target")
	service = append(slices.Clone(head), "After="+name, "Requires="+name, "[Service]", "ExecStart="+relayPath+" "+destination, "PrivateTmp=yes")
	return socket, service
}

// defaults are the contract's built-in redirections (E.4).
func defaults() [][5]string {
	var out [][5]string
	for _, f := range []struct{ kind, listen, sock, to string }{{"port", "127.0.0.1:", "127.0.0.1", "10.152.152.10:"}, {"port6", "[::1]:", "::1", "fd19:c33d:88bc::10:"}} {
		for _, p := range [][2]string{{"9050", "9050"}, {"9150", "9150"}, {"9051", "9051"}, {"9151", "9051"}, {"9102", "9102"}} {
			out = append(out, [5]string{f.listen + p[0], f.to + p[1], p[1], f.kind + "_" + p[0], f.kind})
			if p[0] != "9102" {
				out = append(out, [5]string{"/run/anon-ws-disable-stacked-tor/" + f.sock + "_" + p[0] + ".sock", f.to + p[1], p[1],
					"_run_anon-ws-disable-stacked-tor_" + f.sock + "_" + p[0] + ".sock", f.kind})
			}
		}
	}
	return append(out, [5]string{"/run/tor/socks", "10.152.152.10:9050", "9050", "_run_tor_socks", "port"},
		[5]string{"/run/tor/control", "10.152.152.10:9051", "9051", "_run_tor_control", "port"})
}

func TestAcceptance11_DefaultUnits(t *testing.T) {
	m := newMachine(t)
	if err := m.generate(); err != nil {
		t.Fatalf("%v: %s", err, m.stderr.String())
	}
	entries, _ := os.ReadDir(m.root.Path(systemUnits))
	if len(entries) != 40 {
		t.Errorf("%d files, want 40", len(entries))
	}
	for _, d := range defaults() {
		socket, service := wantUnits(d[0], d[1], d[2], d[3], d[4] == "port6")
		name := systemUnits + "/anon-ws-disable-stacked-tor_autogen_" + d[3]
		if got := effective(m.read(name + ".socket")); !slices.Equal(got, socket) {
			t.Errorf("%s.socket: %q, want %q", d[3], got, socket)
		}
		if got := effective(m.read(name + ".service")); !slices.Equal(got, service) {
			t.Errorf("%s.service: %q, want %q", d[3], got, service)
		}
	}
	if m.count("daemon-reload") != 1 || m.count("enable ") != 20 || m.count("restart ") != 20 {
		t.Errorf("%q", m.calls)
	}
	if err := m.generate(); err != nil || m.count("restart") != 0 || m.count("stop") != 0 || m.count("daemon-reload") != 0 {
		t.Errorf("%v: %q", err, m.calls)
	}
}

func TestAcceptance12_OneAddress(t *testing.T) {
	m := newMachine(t)
	m.write(userDropIn, "GATEWAY_IP=\"192.168.7.7\"\n")
	if err := m.generate(); err != nil {
		t.Fatal(err)
	}
	for stem, want := range map[string]string{"port_9050": "192.168.7.7:9050", "port6_9050": "fd19:c33d:88bc::10:9050"} {
		if text := m.read(systemUnits + "/anon-ws-disable-stacked-tor_autogen_" + stem + ".service"); !strings.Contains(text, " "+want+"\n") {
			t.Errorf("%s: %s", stem, text)
		}
	}
	// Brackets, as the published examples have them, are no part of the address.
	m.write(userDropIn, "GATEWAY_IP6='[fd00::7]'\nrelay_command=/lib/systemd/systemd-socket-proxyd\n")
	if err := m.generate(); err != nil {
		t.Fatal(err)
	}
	if text := m.read(systemUnits + "/anon-ws-disable-stacked-tor_autogen_port6_9050.service"); !strings.Contains(text, "ExecStart=/lib/systemd/systemd-socket-proxyd fd00::7:9050\n") {
		t.Errorf("%s", text)
	}
	m.write(userDropIn, "GATEWAY_IP='10.0.0.1; reboot'\n")
	if err := m.generate(); err == nil || len(m.calls) > 0 {
		t.Errorf("%v %q", err, m.calls)
	}
}

func TestAcceptance13_Tuples(t *testing.T) {
	m := newMachine(t)
	m.write(userDropIn, `file_port_tuples+=" port#7777:8888 port#4444 file6#/run/x/::1_z.sock:4242 /run/legacy/a.sock#9050 /run/old#1:2 file#@name:7 port#9050:9999 "`+"\n")
	if err := m.generate(); err != nil || m.stderr.Len() > 0 {
		t.Fatalf("%v: %s", err, m.stderr.String())
	}
	for stem, want := range map[string]string{
		"port_7777": "10.152.152.10:8888", "port_4444": "10.152.152.10:4444", "_run_x_::1_z.sock": "fd19:c33d:88bc::10:4242", "_run_legacy_a.sock": "10.152.152.10:9050",
		"_run_old": "10.152.152.10:2", `\x40name`: "10.152.152.10:7", "port_9050": "10.152.152.10:9999",
	} {
		if text := m.read(systemUnits + "/anon-ws-disable-stacked-tor_autogen_" + stem + ".service"); !strings.Contains(text, " "+want+"\n") {
			t.Errorf("%s: %s", stem, text)
		}
	}
	m.write(userDropIn, "file_port_tuples+=' bogus#1:2 * '\n")
	if err := m.generate(); err != nil || m.stderr.String() != "ERROR: Unrecognized type 'bogus'! "+userDropIn+":1: bogus#1:2: left out\nERROR: Unrecognized type '*'! "+userDropIn+":1: *: left out\n" {
		t.Errorf("%v: %q", err, m.stderr.String())
	}
	for _, bad := range []string{"port#abc:1", "file#rel:1", "port#0", "port#65536:1", "port#1:x", "port#080:1", "file#/a/b", "file#/a/../b:1", "file#/run/tor_socks:1 file#/run/tor/socks:1", "port#", "file#/" + strings.Repeat("x", 120) + ":1", "file#/" + strings.Repeat("=", 60) + ":1"} {
		m.write(userDropIn, "file_port_tuples+=' "+bad+" port#4444 '\n")
		err := m.generate()
		if err == nil || !strings.HasPrefix(m.stderr.String(), "ERROR: "+userDropIn+":1: ") || strings.Count(m.stderr.String(), "\n") != 1 || !slices.Contains(m.calls, "enable anon-ws-disable-stacked-tor_autogen_port_4444.socket") {
			t.Errorf("%s: %v: %q %q", bad, err, m.stderr.String(), m.calls)
		}
	}
}

// TestPaths: what a unit's lines and names need to be written otherwise.
func TestPaths(t *testing.T) {
	m := newMachine(t)
	m.write(userDropIn, `file_port_tuples+=' file#/run/50%/a\b:7 file#/run/c:d:8 '`+"\n")
	if err := m.generate(); err != nil {
		t.Fatalf("%v: %s", err, m.stderr.String())
	}
	for stem, want := range map[string]string{`_run_50\x25_a\x5cb`: `ListenStream=/run/50%%/a\b`, "_run_c:d": "ListenStream=/run/c:d"} {
		if text := m.read(systemUnits + "/" + unitPrefix + stem + ".socket"); !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%s: %s", stem, text)
		}
	}
}

// TestWhere: a complaint names the file and line of the word, whichever of
// several assignments it stands in.
func TestWhere(t *testing.T) {
	m := newMachine(t)
	other := "/usr/local/etc/anon-ws-disable-stacked-tor.d/60_more.conf"
	m.write(userDropIn, "file_port_tuples+=' port#7777:1 '\nfile_port_tuples+=' port#x '\n")
	m.write(other, "for p in 7777 70000; do file_port_tuples+=\" port#$p:2 file#/run/a/b:1 \"; done\nfile_port_tuples+=' file#/run/a_b:1 odd#3 '\n")
	want := "ERROR: " + userDropIn + ":2: port#x: \"x\" is no port: left out\n" +
		"WARNING: " + other + ":1: port#7777:2 takes the place of port#7777:1 of " + userDropIn + ":1\n" +
		"ERROR: " + other + ":1: port#70000:2: \"70000\" is no port: left out\n" +
		"ERROR: " + other + ":2: file#/run/a_b:1: its units would have the names of those for /run/a/b of " + other + ":1: left out\n" +
		"ERROR: Unrecognized type 'odd'! " + other + ":2: odd#3: left out\n"
	line := regexp.MustCompile(`\.conf:[0-9]+`)
	for _, addition := range []string{"", "x=$((1 + 1))\n"} {
		m.write("/usr/local/etc/anon-ws-disable-stacked-tor.d/70_last.conf", addition)
		err := m.generate()
		got := m.stderr.String()
		if addition != "" { // bash tells of each file what it has assigned last
			want, got = line.ReplaceAllString(want, ".conf"), line.ReplaceAllString(got, ".conf")
		}
		if err == nil || got != want {
			t.Errorf("%v:\n%swant\n%s", err, got, want)
		}
		if text := m.read(systemUnits + "/" + unitPrefix + "port_7777.service"); !strings.Contains(text, "10.152.152.10:2\n") {
			t.Errorf("%s", text)
		}
	}
	m.write(userDropIn, "\nGATEWAY_IP6='x y'\n")
	if err := m.generate(); err == nil || !strings.HasPrefix(err.Error(), userDropIn+":2: GATEWAY_IP6=") {
		t.Errorf("%v", err)
	}
	m.write(userDropIn, "relay_command='/bin/x\nUser=root'\n")
	if err := m.generate(); err == nil || !strings.HasPrefix(err.Error(), userDropIn+":1: relay_command ") {
		t.Errorf("%v", err)
	}
}

// TestEmptied: a drop-in that empties an address gets the default (defect 28).
func TestEmptied(t *testing.T) {
	m := newMachine(t)
	m.write(userDropIn, "GATEWAY_IP=\n")
	if err := m.generate(); err != nil || !strings.Contains(m.read(systemUnits+"/"+unitPrefix+"port_9050.service"), " 10.152.152.10:9050\n") {
		t.Errorf("%v", err)
	}
}

// TestAnotherAddress: sockets stay, and with them who is waiting.
func TestAnotherAddress(t *testing.T) {
	m := newMachine(t)
	if err := m.generate(); err != nil {
		t.Fatal(err)
	}
	m.write(userDropIn, "GATEWAY_IP=10.0.0.1\n")
	if err := m.generate(); err != nil || m.count("restart") != 0 || m.count("stop ") != 11 || m.count("start ") != 11 || m.count("daemon-reload") != 1 {
		t.Errorf("%v %q", err, m.calls)
	}
}

// TestMasked: what an administrator has masked stays masked, and is asked
// nothing of.
func TestMasked(t *testing.T) {
	m := newMachine(t)
	name := unitPrefix + "port_9102"
	if err := m.root.MkdirAll(systemUnits, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.DevNull, m.root.Path(systemUnits+"/"+name+".socket")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.generate(); err != nil || strings.Contains(strings.Join(m.calls, "\n"), name) {
			t.Errorf("%v %q", err, m.calls)
		}
	}
	if to, _ := os.Readlink(m.root.Path(systemUnits + "/" + name + ".socket")); to != os.DevNull || m.root.Exists(systemUnits+"/"+name+".service") {
		t.Errorf("it leads to %q", to)
	}
}

// TestShippedUnits: a package's units have the contract's lines, whatever the
// builder's environment and account, and only the package's drop-ins count.
func TestAcceptance11_ShippedUnits(t *testing.T) {
	m := newMachine(t)
	m.write("/usr/local/etc/anon-ws-disable-stacked-tor.d/50_builder.conf", "file_port_tuples=port#1\n")
	m.write(userDropIn, "#\n")
	if err := os.Chown(m.root.Path(userDropIn), 1000, 1000); err != nil {
		t.Fatal(err)
	}
	m.write(shippedUnits+"/"+unitPrefix+"port_1.socket", "of an older release")
	g := m.generator()
	g.when, g.units, g.control = forPackage, shippedUnits, nil
	if err := g.run(context.Background()); err != nil || m.stderr.Len() > 0 {
		t.Fatalf("%v: %s", err, m.stderr.String())
	}
	if got := m.list(shippedUnits); len(got) != 40 {
		t.Errorf("%d files, want 40: %q", len(got), got)
	}
	for _, d := range defaults() {
		socket, service := wantUnits(d[0], d[1], d[2], d[3], d[4] == "port6")
		name := shippedUnits + "/" + unitPrefix + d[3]
		if got := effective(m.read(name + ".socket")); !slices.Equal(got, socket) {
			t.Errorf("%s.socket: %q, want %q", d[3], got, socket)
		}
		if got := effective(m.read(name + ".service")); !slices.Equal(got, service) {
			t.Errorf("%s.service: %q, want %q", d[3], got, service)
		}
	}
	if m.root.Exists(systemUnits) || !strings.Contains(m.read(shippedUnits+"/"+unitPrefix+"port_9050.socket"), "at package build time.") {
		t.Error("not a package's units")
	}
}

func TestAcceptance14_NothingIsStarted(t *testing.T) {
	m := newMachine(t)
	m.write(userDropIn, "socat TCP-LISTEN:9998,fork TCP:$GATEWAY_IP:9998 &\ntouch "+m.root.Path("/started")+" &\n")
	if err := m.generate(); err != nil {
		t.Fatal(err)
	}
	if m.root.Exists("/started") {
		t.Error("the drop-in's command ran")
	}
}

func TestAcceptance15_Loops(t *testing.T) {
	m := newMachine(t)
	if err := m.generate("GATEWAY_IP6=::1"); err == nil || !strings.Contains(m.stderr.String(), "ERROR: [::1]:9050 leads to itself") {
		t.Errorf("%v: %s", err, m.stderr.String())
	}
	if m.root.Exists(systemUnits+"/anon-ws-disable-stacked-tor_autogen_port6_9050.socket") || !m.root.Exists(systemUnits+"/anon-ws-disable-stacked-tor_autogen_port6_9151.socket") {
		t.Error("the wrong units are left out")
	}
	// Also by way of another, in whatever spelling.
	for _, ip := range []string{"127.0.0.1", "localhost", "0.0.0.0", "127.8.8.8"} {
		m.write(userDropIn, "GATEWAY_IP="+ip+"\nfile_port_tuples='port#1:2 port#2:3 port#3:1 port#4:1 file#/run/a:1'\n")
		if err := m.generate(); err == nil || strings.Count(m.stderr.String(), " leads to itself") != 3 {
			t.Errorf("%s: %v: %s", ip, err, m.stderr.String())
		}
	}
}

// TestRemoval: what is not wanted any more stops, and does not come back with
// the package's files.
func TestRemoval(t *testing.T) {
	m := newMachine(t)
	const prefix = "/anon-ws-disable-stacked-tor_autogen_"
	m.write(userDropIn, "file_port_tuples+=' port#7777 '\n")
	if err := m.generate(); err != nil {
		t.Fatal(err)
	}
	m.write(shippedUnits+prefix+"port_9102.socket", "shipped")
	m.write(systemUnits+wants+prefix+"__var_run_tor_socks.socket", "")
	m.write(userDropIn, "file_port_tuples=port#9050\n")
	if err := m.generate(); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(m.calls, "stop anon-ws-disable-stacked-tor_autogen_port_7777.socket") || m.count("restart") != 0 || m.count("daemon-reload") != 1 {
		t.Errorf("%q", m.calls)
	}
	if to, _ := os.Readlink(m.root.Path(systemUnits + prefix + "port_9102.socket")); to != ownMask {
		t.Errorf("the shipped unit is not masked: %q", to)
	}
	if m.root.Exists(systemUnits+wants+prefix+"__var_run_tor_socks.socket") || m.root.Exists(systemUnits+prefix+"port_7777.socket") {
		t.Error("leftovers")
	}
	if err := m.generate(); err != nil || len(m.calls) != 1 {
		t.Errorf("again: %v %q", err, m.calls)
	}
	// Wanted again, the mask goes.
	m.write(userDropIn, "")
	if err := m.generate(); err != nil || !strings.Contains(m.read(systemUnits+prefix+"port_9102.socket"), "ListenStream=127.0.0.1:9102") {
		t.Errorf("%v", err)
	}
}

// TestOneFails: a unit that does not start keeps no other from it.
func TestOneFails(t *testing.T) {
	m := newMachine(t)
	m.write(userDropIn, "file_port_tuples='file#/run/failing:1 port#9050'\n")
	if err := m.generate(); err == nil || m.count("restart") != 2 {
		t.Errorf("%v %q", err, m.calls)
	}
}

// TestBadDropIns leave everything as it was.
func TestBadDropIns(t *testing.T) {
	m := newMachine(t)
	for text, want := range map[string]string{
		"if true\n": "Invalid config file: " + userDropIn + "\nbash_n_exit_code: ", "exit 3\n": "", "exit 0\n": "", "false\n": "", "x=$(false)\n": "",
	} {
		m.write(userDropIn, text)
		if err := m.generate(); err == nil || !strings.HasPrefix(m.stderr.String(), want) || len(m.calls) > 0 {
			t.Errorf("%q: %v %q", text, err, m.stderr.String())
		}
		if text == "exit 3\n" && cli.Code(m.generate()) != 3 {
			t.Error("the exit status is lost")
		}
		if text == "exit 0\n" && cli.Code(m.generate()) != cli.CodeFailed {
			t.Error("nothing was generated, and that is no failure")
		}
	}
	if err := os.Remove(m.root.Path(userDropIn)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", m.root.Path(userDropIn)); err != nil {
		t.Fatal(err)
	}
	if err := m.generate(); err == nil || !strings.Contains(m.stderr.String(), "bash_n_exit_code: 127\n") {
		t.Errorf("%v %q", err, m.stderr.String())
	}
}

func TestAcceptance25_Rows(t *testing.T) {
	for _, c := range []struct {
		name    string
		role    whonix.Role
		qubes   map[string]string // nil: no Qubes
		environ map[string]string
		want    string
		warned  int
	}{
		{"nothing", whonix.RoleNone, nil, nil, "127.0.0.1 ::1 9051", 0},
		{"gateway", whonix.Gateway, nil, nil, "127.0.0.1 ::1 9051", 0},
		{"workstation", whonix.Workstation, nil, nil, "10.152.152.10 fd19:c33d:88bc::10 9051", 0},
		{"Qubes", whonix.Workstation, map[string]string{"/qubes-gateway": "10.137.0.7", "/qubes-gateway6": "fd09::7"}, nil, "10.137.0.7 fd09::7 9051", 0},
		{"Qubes, empty", whonix.Workstation, map[string]string{"/qubes-gateway": "", "/qubes-gateway6": ""}, nil, "10.152.152.10 fd19:c33d:88bc::10 9051", 0},
		{"Qubes, failing", whonix.Workstation, map[string]string{}, nil, "127.0.0.1 ::1 9051", 2},
		{"Qubes template", whonix.RoleNone, map[string]string{}, nil, "127.0.0.1 ::1 9051", 2},
		{"environment", whonix.Workstation, nil, map[string]string{varGateway: "gateway.example", varControlPort: "1"}, "gateway.example fd19:c33d:88bc::10 1", 0},
		{"hostile", whonix.Workstation, nil, map[string]string{varGateway: "a\"; reboot", varGateway6: "::1\nx=1", varControlPort: "0"}, "10.152.152.10 fd19:c33d:88bc::10 9051", 3},
	} {
		warned := 0
		ch := chain{lookup: func(n string) string { return c.environ[n] }, workstation: c.role == whonix.Workstation, warn: func(string) { warned++ }}
		if c.qubes != nil {
			ch.qubesdb = func(key string) (string, bool) { v, ok := c.qubes[key]; return v, ok }
		}
		g := ch.gateway()
		if got := fmt.Sprint(g.IP, " ", g.IP6, " ", g.ControlPort); got != c.want || warned != c.warned {
			t.Errorf("%s: %s (%d warnings), want %s (%d)", c.name, got, warned, c.want, c.warned)
		}
	}
}

func TestDetectIPv6(t *testing.T) {
	m := newMachine(t)
	env := cli.Env{Stdout: &m.stdout, Stderr: &m.stderr}
	for value, want := range map[string]bool{"0\n": true, "1\n": false} {
		m.write(ipv6Sysctl, value)
		if err := detectIPv6(m.root, env); err != nil || m.root.Exists(ipv6Flag) != want {
			t.Errorf("%q: %v, flag %v", value, err, m.root.Exists(ipv6Flag))
		}
	}
	m.write(ipv6Sysctl, "0\n")
	_ = detectIPv6(m.root, env)
	if err := os.Remove(m.root.Path(ipv6Sysctl)); err != nil {
		t.Fatal(err)
	}
	if err := detectIPv6(m.root, env); err != nil || m.root.Exists(ipv6Flag) || !strings.Contains(m.stdout.String(), "does not exist, assuming IPv6 is disabled, ok.") {
		t.Errorf("%v %s", err, m.stdout.String())
	}
}

func TestAcceptance24_StateFiles(t *testing.T) {
	m := newMachine(t)
	m.write("/etc/passwd", "root:x:0:0::/:/bin/sh\ndebian-tor:x:4711:4712::/var/lib/tor:/bin/false\n")
	m.write("/secret", "secret")
	m.write("/run/tor/old/file", "x")
	for name, target := range map[string]string{"control.authcookie": "/secret", "other": "/secret"} {
		if err := os.Symlink(m.root.Path(target), m.root.Path("/run/tor/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(m.root.Path("/run/tor"), 0o777); err != nil {
		t.Fatal(err)
	}
	uid, gid, err := account(m.root, torAccount)
	if err != nil || uid != 4711 || gid != 4712 {
		t.Fatalf("%d %d %v", uid, gid, err)
	}
	for range 2 {
		for _, d := range stateDirs() {
			if err := d.prepare(m.root, uid, gid, []byte("32 bytes of a cookie that is not.")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if m.read("/secret") != "secret" {
		t.Error("a link was followed")
	}
	for path, want := range map[string]string{
		"/run/tor": "dgrwxr-xr-x 4711 4712", "/var/lib/tor": "dgrwx------ 4711 4712", "/run/tor/control.authcookie": "-rw-r----- 4711 4712", "/run/tor/control_auth_cookie": "-rw-r----- 4711 4712",
		"/var/lib/tor/control_auth_cookie": "-rw-r----- 4711 4712", "/run/tor/old/file": "-rw-r--r-- 4711 4712", "/secret": "-rw-r--r-- 0 0", "/run/tor/other": "Lrwxrwxrwx 4711 4712",
	} {
		if got := ownership(t, m.root.Path(path)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	entries, _ := os.ReadDir(m.root.Path("/run/tor"))
	if len(entries) != 4 {
		t.Errorf("%d entries, want 4", len(entries))
	}
	if err := os.Link(m.root.Path("/secret"), m.root.Path("/run/tor/old/second")); err != nil {
		t.Fatal(err)
	}
	if err := stateDirs()[0].prepare(m.root, uid, gid, nil); err == nil || !strings.HasPrefix(err.Error(), "old: second: has another name elsewhere") || ownership(t, m.root.Path("/secret")) != "-rw-r--r-- 0 0" {
		t.Errorf("%v; the secret is %s", err, ownership(t, m.root.Path("/secret")))
	}
	if err := os.Remove(m.root.Path("/run/tor/old/second")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.root.Path("/var/lib/tor")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/secret", m.root.Path("/var/lib/tor")); err != nil {
		t.Fatal(err)
	}
	if err := stateDirs()[1].prepare(m.root, uid, gid, nil); err == nil {
		t.Error("a link in the place of the directory is taken")
	}
}
