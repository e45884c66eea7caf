// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// machine is a root directory with what a Gateway has.
type machine struct {
	*testing.T
	root           fsx.Root
	stdout, stderr bytes.Buffer
}

func newMachine(t *testing.T, markers ...string) *machine {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &machine{T: t, root: fsx.Root(dir)}
	for _, p := range markers {
		m.write(p, "")
	}
	m.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\ndebian-tor:x:102:105::/var/lib/tor:/bin/false\n")
	m.write("/etc/group", "root:x:0:\ndebian-tor:x:105:\n")
	return m
}

func (m *machine) env(name string, environ ...string) cli.Env {
	return cli.Env{Args: []string{"/usr/libexec/" + name}, Environ: environ, Stdout: &m.stdout, Stderr: &m.stderr, Now: time.Now}
}

func (m *machine) write(path, text string) {
	m.Helper()
	host := m.root.Path(path)
	if err := os.MkdirAll(filepath.Dir(host), 0o755); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(host, []byte(text), 0o644); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) read(path string) string {
	m.Helper()
	data, err := os.ReadFile(m.root.Path(path))
	if err != nil {
		m.Fatal(err)
	}
	return string(data)
}

// state is every file below the root with mode, owner, time and content.
func (m *machine) state() string {
	m.Helper()
	var b strings.Builder
	err := filepath.WalkDir(string(m.root), func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		var data []byte
		if fi.Mode().IsRegular() {
			data, err = os.ReadFile(p)
		}
		fmt.Fprintf(&b, "%s %s %d %q\n", p, ownership(m.T, p), fi.ModTime().UnixNano(), data)
		return err
	})
	if err != nil {
		m.Fatal(err)
	}
	return b.String()
}

func (m *machine) list(bindable func(netip.Addr) bool) *listenerList {
	return &listenerList{m.root, m.env("generate-tor-service-defaults-torrc-anondist"), bindable}
}

func (m *machine) repair(environ ...string) []error {
	return newRepairer(m.root, m.env("repair-torrc", environ...)).run()
}

func always(netip.Addr) bool { return true }
func never(netip.Addr) bool  { return false }

// active are the lines that are no comments.
func active(text string) (out []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// TestRender: IPv6 that cannot be bound, other addresses, and nothing else.
func TestRender(t *testing.T) {
	base := ListenersBase()
	if text, n := render(base, nil, always); text != base || n != 0 {
		t.Error("a list that fits was changed")
	}
	qubes := map[netip.Addr]netip.Addr{
		netip.MustParseAddr(whonix.GatewayIP):  netip.MustParseAddr("10.137.0.9"),
		netip.MustParseAddr(whonix.GatewayIP6): netip.MustParseAddr("fd09:24ef:4179::a89:9"),
	}
	text, n := render(base, qubes, never)
	if strings.Contains(text, whonix.GatewayIP+":") || strings.Contains(text, whonix.GatewayIP6) || n != 166 {
		t.Errorf("%d commented out", n)
	}
	for _, want := range []string{"\nTransPort 10.137.0.9:9040\n", "\n#SocksPort [fd09:24ef:4179::a89:9]:9050 IPv6Traffic\n", "\nSocksPort 127.0.0.1:9050 IPv6Traffic\n", "\nSocksPort unix:/run/tor/socks IPv6Traffic WorldWritable\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q", want)
		}
	}
	rewritten := strings.NewReplacer(whonix.GatewayIP+":", "10.137.0.7:", "["+whonix.GatewayIP6+"]", "[fd00::7]").Replace(base) // by an older version
	if again, m := render(rewritten, qubes, never); again != text || m != n {
		t.Errorf("a list that was rewritten: %d commented out", m)
	}
	if again, _ := render(rewritten, nil, always); again != rewritten {
		t.Error("a list was changed without an address")
	}
	const odd = "# SocksPort [::1]:1\n\nSocksPort [::1]\nSocksPort auto\nFoo\n  SocksPort  [::1]:2   X # [::1]:2\nSocksPort 10.152.152.10:1"
	const want = "# SocksPort [::1]:1\n\nSocksPort [::1]\nSocksPort auto\nFoo\n#  SocksPort  [::1]:2   X # [::1]:2\nSocksPort 10.137.0.9:1"
	if text, _ := render(odd, qubes, never); text != want {
		t.Errorf("%s", text)
	}
}

// TestQubesAddresses: only one address of the right family counts, and none in
// a template.
func TestQubesAddresses(t *testing.T) {
	for _, c := range []struct{ content, want string }{
		{"10.137.0.9", "10.137.0.9"}, {"10.137.0.9\n", "10.137.0.9"}, {"", ""}, {"abc", ""}, {"10.0.0.1/32", ""}, {"10.0.0.1\n10.0.0.2\n", ""}, {"::1", ""},
		{"0.0.0.0", ""}, {"127.0.0.1", ""}, {"224.0.0.1", ""}, {"255.255.255.255", ""}, {strings.Repeat("1", 300), ""}, {"::ffff:10.0.0.1", ""},
	} {
		m := newMachine(t, whonix.GatewayMarker, whonix.QubesMarker)
		m.write(qubesGatewayIP, c.content)
		m.write(qubesGatewayIP6, "fd00::9")
		got := m.list(always).addresses()
		if a, ok := got[netip.MustParseAddr(whonix.GatewayIP)]; ok != (c.want != "") || ok && a.String() != c.want {
			t.Errorf("%q: %v", c.content, a)
		}
		if len(got) == 0 || got[netip.MustParseAddr(whonix.GatewayIP6)] != netip.MustParseAddr("fd00::9") {
			t.Errorf("%q: IPv6: %v", c.content, got)
		}
		m.write(whonix.TemplateMarker, "")
		if got := m.list(always).addresses(); got != nil {
			t.Errorf("template: %v", got)
		}
	}
}

// TestListenersOutput: what scripts and people know of it.
func TestListenersOutput(t *testing.T) {
	m := newMachine(t)
	m.write(listenersBase, ListenersBase())
	if err := m.list(always).run(); err != nil {
		t.Fatal(err)
	}
	const name = "/usr/libexec/generate-tor-service-defaults-torrc-anondist: "
	if got := m.stdout.String(); got != name+"BEGIN\n"+name+"END\n" {
		t.Errorf("%s", got)
	}
	before := m.state()
	if err := m.list(always).run(); err != nil || m.state() != before {
		t.Errorf("written without need: %v", err)
	}
	m.stdout.Reset()
	if err := m.list(never).run(); err != nil {
		t.Fatal(err)
	}
	want := name + "BEGIN\n" + name + "INFO: No IPv6 routes available, assuming IPv6 disabled.\n" + name + "INFO: Commenting out IPv6 configuration in '" + listenersPath + "'.\n" +
		name + "INFO: Commented out IPv6 configuration in '" + listenersPath + "'.\n" + name + "END\n"
	if m.stdout.String() != want || ownership(t, m.root.Path(listenersPath)) != "-rw-r--r-- 0 0" {
		t.Errorf("%s%s", m.stdout.String(), ownership(t, m.root.Path(listenersPath)))
	}
}

// TestBadBase: a list that is none leaves the old one.
func TestBadBase(t *testing.T) {
	for name, text := range map[string]string{"NUL": "SocksPort 1\x00\n", "huge": strings.Repeat("#", configMax+1), "quotes": "Log \"\n"} {
		m := newMachine(t)
		m.write(listenersBase, text)
		m.write(listenersPath, "old\n")
		before := m.state()
		if err := m.list(always).run(); err == nil || m.state() != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := newMachine(t)
	m.write(listenersBase, "#"+strings.Repeat("x", 1<<20)+"\n"+ListenersBase())
	if err := m.list(always).run(); err != nil {
		t.Errorf("a line of 1 MiB: %v", err)
	}
}

// TestAcceptance05_Killed: whatever is there while the list is made again and
// again, it is a whole one.
func TestAcceptance05_Killed(t *testing.T) {
	m := newMachine(t)
	m.write(listenersBase, ListenersBase())
	without, _ := render(ListenersBase(), nil, never)
	m.write(listenersPath, without)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		for n := 0; ctx.Err() == nil; n++ {
			text := ListenersBase()
			if n%2 == 0 {
				text = without
			}
			if err := replace(m.root, listenersPath, []byte(text)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	const reads = 2000
	for range reads {
		if got := m.read(listenersPath); got != without && got != ListenersBase() {
			t.Errorf("a part of a list: %d bytes", len(got))
			break
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAcceptance06_MissingBase: the old list stays, and all other steps are
// tried.
func TestAcceptance06_MissingBase(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.write(listenersPath, "old\n")
	err := m.list(always).run()
	if cli.Code(err) != 1 || !strings.Contains(m.stdout.String(), "ERROR: Failed to copy '"+listenersBase+"' to '"+listenersPath+"'!") || m.read(listenersPath) != "old\n" {
		t.Errorf("%v %s", err, m.stdout.String())
	}
	for _, name := range []string{whonix.QubesMarker} {
		m.write(name, "")
	}
	m.write(replaceIPs, "#!/bin/sh\necho replaced\n")
	if err := os.Chmod(m.root.Path(replaceIPs), 0o755); err != nil {
		t.Fatal(err)
	}
	waits := 0
	s := &sane{m.root, m.env("tor-config-sane"), func(context.Context) { waits++ }, m.list(always)}
	for range 2 {
		if err := s.run(context.Background()); cli.Code(err) != 1 {
			t.Errorf("%v", err)
		}
	}
	if waits != 1 || !m.root.Exists(userTorrcDir+"/50_user.conf") || !m.root.Exists(waited) || strings.Count(m.stdout.String(), "replaced\n") != 2 {
		t.Errorf("%d waits\n%s%s", waits, m.stdout.String(), m.stderr.String())
	}
	if n := strings.Count(m.stderr.String(), "tor-config-sane: ERROR: generate-"); n != 2 {
		t.Errorf("%s", m.stderr.String())
	}
}

// TestSaneOrder: at the first boot, and when Qubes has given another address, the
// list is made with the address of now: lines of an IPv6 address that was, or was
// shipped, would all have become comments.
func TestSaneOrder(t *testing.T) {
	const ip, ip6 = "10.137.0.9", "fd09:24ef:4179::a89:9"
	m := newMachine(t, whonix.GatewayMarker, whonix.QubesMarker)
	m.write(listenersBase, ListenersBase())
	can := func(a netip.Addr) bool { return a.IsLoopback() || a == netip.MustParseAddr(ip6) }
	for _, before := range []string{"", "fd09:24ef:4179::a89:7"} {
		if before != "" {
			m.write(qubesGatewayIP6, before)
		}
		m.write(replaceIPs, fmt.Sprintf("#!/bin/sh\nmkdir -p %[1]q\nprintf %[2]s >%[1]q/whonix-ip-gateway\nprintf %[3]s >%[1]q/whonix-ip6-gateway\n",
			filepath.Dir(m.root.Path(qubesGatewayIP)), ip, ip6))
		if err := os.Chmod(m.root.Path(replaceIPs), 0o755); err != nil {
			t.Fatal(err)
		}
		s := &sane{m.root, m.env("tor-config-sane"), func(context.Context) {}, m.list(can)}
		if err := s.run(context.Background()); err != nil {
			t.Fatal(err, m.stderr.String())
		}
		list := m.read(listenersPath)
		want := strings.Join(whonix.TorListeners(ip, ip6), "\n")
		if got := strings.Join(active(list), "\n"); got != want {
			t.Errorf("before: %q: %d active lines of %d", before, len(active(list)), len(whonix.TorListeners(ip, ip6)))
		}
	}
}

// TestSane: every step that fails makes it fail, and a template waits for
// nothing.
func TestSane(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.write(listenersBase, ListenersBase())
	s := &sane{m.root, m.env("tor-config-sane"), func(context.Context) {}, m.list(always)}
	if err := s.run(context.Background()); err != nil {
		t.Errorf("%v %s", err, m.stderr.String())
	}
	m.write(whonix.QubesMarker, "") // and no replace-ips
	if err := s.run(context.Background()); cli.Code(err) != 1 || !strings.Contains(m.stderr.String(), "ERROR: "+replaceIPs) {
		t.Errorf("%v %s", err, m.stderr.String())
	}
	m.write(whonix.TemplateMarker, "")
	if err := m.root.Remove(waited); err != nil {
		t.Fatal(err)
	}
	s.wait = func(context.Context) { t.Error("a template waits") }
	if err := s.run(context.Background()); err != nil || m.root.Exists(waited) {
		t.Errorf("template: %v", err)
	}
	m.write("/etc/passwd", "")
	if err := s.run(context.Background()); cli.Code(err) != 1 || !strings.Contains(m.stderr.String(), "ERROR: repair-torrc: ") {
		t.Errorf("%v %s", err, m.stderr.String())
	}
}
