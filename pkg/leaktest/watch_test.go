// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/netlab"
)

const torUID, userUID = 102, 1000

// TestMain is also the program itself, for tests that kill it.
func TestMain(m *testing.M) {
	if root, ok := os.LookupEnv("LEAKTEST_GATEWAY_ROOT"); ok {
		os.Args[0] = "anon-gw-leaktest"
		os.Exit(cli.Main(func(ctx context.Context, env cli.Env) error {
			return gatewayRun(ctx, env, machine{root: fsx.Root(root)})
		}))
	}
	os.Exit(m.Run())
}

// newRoot is a Gateway's file system, as far as it matters; its path is short
// enough for sockets.
func newRoot(t *testing.T) fsx.Root {
	t.Helper()
	dir, err := os.MkdirTemp("", "leak")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	root := fsx.Root(dir)
	for _, d := range []string{"/run/tor", "/run/leak-monitor", "/etc", "/usr/bin"} {
		if err := root.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	passwd := fmt.Sprintf("root:x:0:0:\ndebian-tor:x:%d:1:\nuser:x:%d:1000:\n", torUID, userUID)
	if err := os.WriteFile(root.Path("/etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc", root.Path("/proc")); err != nil {
		t.Fatal(err)
	}
	return root
}

// startTor runs Tor itself, with no way to anybody, on a control socket.
func startTor(t *testing.T, root fsx.Root, lines ...string) (stop func()) {
	t.Helper()
	data := t.TempDir()
	n, err := netlab.New("tor")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	torrc := data + "/torrc"
	text := strings.Join(append(lines, "DataDirectory "+data+"/data", "SocksPort 0", "CookieAuthentication 1", "CookieAuthFile "+root.Path(controlCookie), "ControlSocket "+root.Path(controlSocket), "Log notice stdout", ""), "\n")
	if err := os.WriteFile(torrc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tor", "-f", torrc)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	r := bufio.NewScanner(out)
	for r.Scan() {
		if said.WriteString(r.Text() + "\n"); strings.Contains(r.Text(), "Bootstrapped 0%") {
			break
		}
	}
	if !strings.Contains(said.String(), "Bootstrapped 0%") {
		t.Fatalf("tor: %s", said.String())
	}
	var once sync.Once
	stop = func() { once.Do(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) }
	t.Cleanup(stop)
	return stop
}

// settings asks Tor what the restriction is about.
func settings(t *testing.T, root fsx.Root) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := dial(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out []string
	for _, o := range restricted() {
		v, err := c.GetConf(ctx, o.option)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o.option+"="+strings.Join(v, "+"))
	}
	return strings.Join(out, " ")
}

const (
	heldBack = "ReachableORAddresses=*:443 FascistFirewall=1"
	free     = "ReachableORAddresses= FascistFirewall=0"
)

// watched is a watcher at work in a namespace.
type watched struct {
	t      *testing.T
	p      *pair
	out    *lines
	cancel context.CancelFunc
	done   chan error
}

// lines collects output, and can be waited for.
type lines struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
}

func newLines() *lines { return &lines{changed: make(chan struct{})} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// wait waits until text has been printed.
func (l *lines) wait(t *testing.T, text string) {
	t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		l.mu.Lock()
		found, changed := strings.Contains(l.buf.String(), text), l.changed
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%q was not printed in\n%s", text, l)
		}
	}
}

// watch starts anon-gw-leaktest on the machine of a pair.
func watch(t *testing.T, root fsx.Root, args ...string) *watched {
	t.Helper()
	w := &watched{t: t, p: newPair(t), out: newLines(), done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	t.Cleanup(cancel)
	env := cli.Env{Args: append([]string{"anon-gw-leaktest"}, args...), Stdout: w.out, Stderr: w.out, Now: time.Now}
	go func() {
		w.done <- w.p.own.Namespace.Do(func() error { return gatewayRun(ctx, env, machine{root: root}) })
	}()
	w.out.wait(t, "Watching eth0")
	return w
}

// end ends it, after all that was sent has been seen.
func (w *watched) end() (string, error) {
	w.t.Helper()
	w.p.udp(w.t, 0, "203.0.113.99:9", "the last")
	w.out.wait(w.t, "203.0.113.99:9")
	w.cancel()
	err := <-w.done
	return w.out.String(), err
}

// udp sends a datagram as an account.
func (p *pair) udp(t *testing.T, uid int, to, text string) {
	t.Helper()
	err := p.own.Namespace.As(uid, func() error {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close() })
		_, err = c.Write([]byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tcp connects as an account, and sends something; the connection stays.
func (p *pair) tcp(t *testing.T, uid int, to string) (c net.Conn) {
	t.Helper()
	err := p.own.Namespace.As(uid, func() (err error) {
		if c, err = net.DialTimeout("tcp", to, time.Minute); err == nil {
			_, err = c.Write([]byte("hello"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestAcceptance25_NothingIsLeftBehind: killed, the test has changed no file,
// and a restarted Tor knows nothing of it; a datagram to port 443 of another
// account than Tor's is reported.
func TestAcceptance25_NothingIsLeftBehind(t *testing.T) {
	root := newRoot(t)
	stop := startTor(t, root)
	before := tree(t, root)
	p := newPair(t)
	out := newLines()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{"LEAKTEST_GATEWAY_ROOT=" + string(root)}
	cmd.Stdout, cmd.Stderr = out, out
	if err := p.own.Namespace.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	out.wait(t, "Watching eth0")
	if got := settings(t, root); got != heldBack {
		t.Errorf("during the test: %s", got)
	}
	p.udp(t, userUID, "203.0.113.1:443", "x")
	out.wait(t, "LEAK: UDP 10.0.2.15:")
	if got := out.String(); !regexp.MustCompile(`LEAK: UDP 10\.0\.2\.15:[0-9]+ -> 203\.0\.113\.1:443 by user\n`).MatchString(got) {
		t.Error(got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if after := tree(t, root); !slices.Equal(before, after) {
		t.Errorf("before %v\nafter %v", before, after)
	}
	// The next test takes away what is left, also without a restart.
	w := watch(t, root)
	if _, err := w.end(); err != nil {
		t.Error(err)
	}
	if got := settings(t, root); got != free {
		t.Errorf("after the next test: %s", got)
	}
	stop()
	startTor(t, root)
	if got := settings(t, root); got != free {
		t.Errorf("after a restart: %s", got)
	}
}

// tree lists files with their contents.
func tree(t *testing.T, root fsx.Root) (out []string) {
	t.Helper()
	err := filepath.WalkDir(string(root), func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var data []byte
			data, err = os.ReadFile(p)
			out = append(out, p+": "+string(data))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDefect21_TorGetsItsOwnSettingsBack: those of its configuration, whatever
// they are.
func TestDefect21_TorGetsItsOwnSettingsBack(t *testing.T) {
	root := newRoot(t)
	startTor(t, root, "ReachableORAddresses 192.0.2.0/24:9001,accept *:9002", "FascistFirewall 0")
	before := settings(t, root)
	w := watch(t, root)
	if got := settings(t, root); got != heldBack {
		t.Errorf("during the test: %s", got)
	}
	if _, err := w.end(); err != nil {
		t.Error(err)
	}
	if got := settings(t, root); got != before || got == free {
		t.Errorf("%s, was %s", got, before)
	}
}

// TestDefect21_NoTestWithoutTor: an unrestricted Tor is not tested in silence.
func TestDefect21_NoTestWithoutTor(t *testing.T) {
	root, p := newRoot(t), newPair(t)
	var out bytes.Buffer
	err := p.own.Namespace.Do(func() error {
		return gatewayRun(context.Background(), cli.Env{Args: []string{"anon-gw-leaktest"}, Stdout: &out, Stderr: &out, Now: time.Now}, machine{root: root})
	})
	if cli.Code(err) != cli.CodeFailed || !strings.Contains(fmt.Sprint(err), "/run/tor/control") || out.Len() != 0 {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestDefect21_TorRestarts: that the restriction has gone is said, and what
// comes after Tor's return is not spoilt by the end of the test.
func TestDefect21_TorRestarts(t *testing.T) {
	root := newRoot(t)
	stop := startTor(t, root)
	w := watch(t, root)
	stop()
	w.out.wait(t, "it is not restricted any more")
	stop = startTor(t, root)
	if _, err := w.end(); err != nil {
		t.Error(err)
	}
	if got := settings(t, root); got != free {
		t.Error(got)
	}
	w = watch(t, root)
	stop()
	w.out.wait(t, "it is not restricted any more")
	if _, err := w.end(); cli.Code(err) != cli.CodeFailed || !strings.Contains(fmt.Sprint(err), "could not be given its own settings back") {
		t.Error(err)
	}
}

// TestDefect22_WhoseFrames: Tor's are not reported in either family, by TCP or
// UDP, to any port; others' are, also to ports of Tor's, and what is no
// socket's, and questions to the router.
func TestDefect22_WhoseFrames(t *testing.T) {
	root := newRoot(t)
	startTor(t, root)
	w := watch(t, root, "--fail-on-leak", "--json")
	const server4, server6 = "198.51.100.7", "2001:db8:7::7"
	if err := w.p.router.Address(server4+"/32", server6+"/128"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{router4, router6, server4, server6} {
		l, err := w.p.router.Namespace.Listen(0, net.JoinHostPort(to, "443"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	for _, at := range []string{"203.0.113.1", "2001:db8:ffff::1"} {
		w.p.udp(t, torUID, net.JoinHostPort(at, "443"), "Tor's")
		for _, port := range []string{"80", "443", "9001", "22"} {
			w.p.udp(t, userUID, net.JoinHostPort(at, port), "not Tor's")
		}
		w.p.udp(t, 4242, net.JoinHostPort(at, "1"), "nobody's name")
	}
	for _, at := range []string{router4, router6} {
		w.p.tcp(t, userUID, net.JoinHostPort(at, "443")) // the router's own
		w.p.udp(t, userUID, net.JoinHostPort(at, "53"), "passed on")
	}
	for _, at := range []string{server4, server6} {
		to := net.JoinHostPort(at, "443")
		w.p.tcp(t, torUID, to)
		c := w.p.tcp(t, userUID, to)
		w.out.wait(t, "-> "+to)
		c.Close() // what comes after that is known to be user's
	}
	if o := call(t, w.p.own.Namespace, "simple_ping", "--target=203.0.113.2", "--wait=0"); o.code != 0 {
		t.Errorf("%+v", o)
	}
	said, err := w.end()
	if cli.Code(err) != CodeLeak {
		t.Errorf("%v", err)
	}
	var s State
	all := strings.Split(strings.TrimSpace(said), "\n")
	for _, line := range all {
		if strings.HasPrefix(line, `{"interface"`) {
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	for _, l := range s.Leaks {
		got = append(got, regexp.MustCompile(`\S+ -> `).ReplaceAllString(l.Frame, "")+" by "+l.Owner)
	}
	want := []string{"ICMP type 8 code 0 203.0.113.2 by none", "UDP 203.0.113.99:9 by root", "UDP 203.0.113.1:1 by uid 4242", "UDP [2001:db8:ffff::1]:1 by uid 4242",
		"UDP 10.0.2.2:53 by user", "UDP [2001:db8:1::2]:53 by user",
		"TCP 198.51.100.7:443 by user", "TCP [2001:db8:7::7]:443 by user"}
	for _, port := range []int{80, 443, 9001, 22} {
		want = append(want, fmt.Sprintf("UDP 203.0.113.1:%d by user", port), fmt.Sprintf("UDP [2001:db8:ffff::1]:%d by user", port))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if s.Verdict != WatchLeak || s.Leaking <= len(want) || s.Lost != 0 || s.Owners[torAccount] < 2+2*3 || s.Owners[ownerLink] == 0 || s.Owners[ownerRouter] == 0 {
		t.Errorf("%+v", s)
	}
}

// TestForwarded: what others send through the machine is nobody's of it, though
// a local program has the same port.
func TestForwarded(t *testing.T) {
	root := newRoot(t)
	startTor(t, root)
	w := watch(t, root)
	// A program of Tor's on every address.
	c, err := w.p.own.Namespace.ListenPacket(torUID, "0.0.0.0:7777")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = w.p.own.Namespace.Do(func() error {
		s, err := openSender(netip.MustParseAddr("203.0.113.1"), 0)
		if err != nil {
			return err
		}
		defer s.close()
		s.src = netip.MustParseAddr("10.152.152.11")
		return s.send(context.Background(), netlab.ProtoUDP, datagram(netip.AddrPortFrom(s.src, 7777), netip.AddrPortFrom(s.dst, 443), []byte("x")))
	})
	if err != nil {
		t.Fatal(err)
	}
	if said, err := w.end(); err != nil || !strings.Contains(said, "LEAK: UDP 10.152.152.11:7777 -> 203.0.113.1:443 by none\n") {
		t.Errorf("%v: %s", err, said)
	}
}

// TestTshark: the original's pipeline for all addresses, as the account user,
// with its rights given for this time only; Tor is restricted meanwhile.
func TestTshark(t *testing.T) {
	root, p := newRoot(t), newPair(t)
	startTor(t, root)
	const script = "#!/bin/sh\nid -u\ngrep CapAmb /proc/self/status\necho \"$@\"\necho ready\nexec sleep 1000\n"
	if err := os.WriteFile(root.Path(tsharkPath), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"/", "/usr", "/usr/bin"} {
		if err := os.Chmod(root.Path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out, done := newLines(), make(chan error, 1)
	env := cli.Env{Args: []string{"anon-gw-leaktest", "--tshark"}, Stdout: out, Stderr: out, Now: time.Now}
	go func() {
		done <- p.own.Namespace.Do(func() error { return gatewayRun(ctx, env, machine{root: root}) })
	}()
	out.wait(t, "ready\n")
	if got := settings(t, root); got != heldBack {
		t.Errorf("during the test: %s", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := settings(t, root); got != free {
		t.Errorf("after the test: %s", got)
	}
	for _, want := range []string{"\n1000\nCapAmb:\t0000000000003000\n-i eth0 -f (src host 10.0.2.15 or src host ", "src host 2001:db8:1::15", ") and not (port 80 or port 443 or port 9001 or port 9030 or port 22)\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
}

// TestMonitor: the verdict is there from the beginning, changes with the first
// leak, and is there after the end.
func TestMonitor(t *testing.T) {
	root, p := newRoot(t), newPair(t)
	out := newLines()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := root.Path("/run/notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	done := make(chan error, 1)
	env := cli.Env{Args: []string{"leak-monitor"}, Environ: []string{"NOTIFY_SOCKET=" + n}, Stdout: out, Stderr: out, Now: time.Now}
	go func() { done <- p.own.Namespace.Do(func() error { return monitorRun(ctx, env, root) }) }()
	buf := make([]byte, 100)
	_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
	if k, err := socket.Read(buf); err != nil || string(buf[:k]) != "READY=1" {
		t.Fatalf("%v: %s%s", err, buf[:k], out)
	}
	if got := verdict(t, root); got.Verdict != WatchClean || got.Interface != "eth0" {
		t.Errorf("%+v", got)
	}
	p.udp(t, torUID, "203.0.113.1:443", "x")
	p.udp(t, userUID, "203.0.113.1:443", "x")
	p.udp(t, userUID, "203.0.113.1:443", "x")
	p.udp(t, 0, "203.0.113.99:9", "the last")
	out.wait(t, "203.0.113.99:9 by root")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	got := verdict(t, root)
	if got.Verdict != WatchLeak || got.Leaking != 3 || len(got.Leaks) != 2 || got.Leaks[0].Count != 2 || got.Owners[torAccount] != 1 || got.Owners["user"] != 2 {
		t.Errorf("%+v", got)
	}
	if strings.Count(out.String(), "LEAK: ") != 2 {
		t.Errorf("%s", out)
	}
}

func verdict(t *testing.T, root fsx.Root) (s State) {
	t.Helper()
	data, err := os.ReadFile(root.Path(verdictFile))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestWatcherMistakes: each is an error that says what to do.
func TestWatcherMistakes(t *testing.T) {
	root, p := newRoot(t), newPair(t)
	gateway := func(ctx context.Context, env cli.Env) error { return gatewayRun(ctx, env, machine{root: root}) }
	service := func(ctx context.Context, env cli.Env) error { return monitorRun(ctx, env, root) }
	try := func(run func(context.Context, cli.Env) error, code int, want string, args ...string) {
		t.Helper()
		var out bytes.Buffer
		got := 0
		if err := p.own.Namespace.Do(func() error {
			got = cli.Run(context.Background(), cli.Env{Args: append([]string{"it"}, args...), Stdout: &out, Stderr: &out, Now: time.Now}, run)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got != code || !strings.Contains(out.String(), want) {
			t.Errorf("%v: %d: %s", args, got, out.String())
		}
	}
	for _, run := range []func(context.Context, cli.Env) error{gateway, service} {
		try(run, cli.CodeUsage, "unknown flag", "--unknown")
		try(run, cli.CodeUsage, "unexpected argument", "eth0")
		try(run, cli.CodeFailed, "name another by --interface", "--interface=eth7")
	}
	try(gateway, cli.CodeUsage, "gives no verdict", "--tshark", "--json")
	try(func(ctx context.Context, env cli.Env) error {
		return gatewayRun(ctx, env, machine{root: root, euid: userUID})
	}, cli.CodeFailed, "must be run as root")
	if err := os.WriteFile(root.Path("/etc/passwd"), []byte("root:x:0:0:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	try(service, cli.CodeFailed, "there is no account debian-tor")
}

// TestRouters: what the kernel's tables say, also odd ones.
func TestRouters(t *testing.T) {
	p := newPair(t)
	var got []netip.Addr
	if err := p.own.Namespace.Do(func() error { got = routers(fsx.Host, "eth0"); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []netip.Addr{netip.MustParseAddr(router4), netip.MustParseAddr(router6)}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for _, text := range []string{"", "eth0", "eth0 00000000 xyz", "eth0 00000000 0102", "eth0 00000000 00000000 0003"} {
		if got := routers4(text, "eth0"); got != nil {
			t.Errorf("%q: %v", text, got)
		}
		if got := routers6(text, "eth0"); got != nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestNeighbourly: what neighbours say to each other, and what only looks like
// it.
func TestNeighbourly(t *testing.T) {
	const solicitation, report = 135, 143
	for _, c := range []struct {
		etherType uint16
		src, dst  string
		proto     uint8
		payload   []byte
		want      bool
	}{
		{netlab.EtherIPv6, own6, "ff02::1:ff00:2", netlab.ProtoICMPv6, []byte{solicitation, 0}, true},
		{netlab.EtherIPv6, own6, "ff02::16", netlab.ProtoICMPv6, []byte{report, 0}, true},
		{netlab.EtherIPv4, own4, "224.0.0.22", 2, []byte{0x22, 0}, true},
		{netlab.EtherIPv6, own6, target6, netlab.ProtoICMPv6, []byte{report, 0}, false},
		{netlab.EtherIPv6, own6, target6, netlab.ProtoICMPv6, []byte{echoRequest6, 0}, false},
		{netlab.EtherIPv4, own4, target4, netlab.ProtoICMPv6, []byte{solicitation, 0}, false},
		{netlab.EtherIPv4, own4, target4, 2, []byte{0x22, 0}, false},
		{netlab.EtherIPv4, own4, target4, netlab.ProtoUDP, make([]byte, 8), false},
	} {
		f := decode(c.etherType, packet(netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst), c.proto, c.payload))
		if got := neighbourly(f); got != c.want {
			t.Errorf("%v: %v", f, got)
		}
	}
}

// TestMonitorUnit: systemd reads it, and an attacker in it has little.
func TestMonitorUnit(t *testing.T) {
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	for _, d := range []string{units, filepath.Join(root, "usr/libexec/anon-gw-anonymizer-config")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const shipped = "../../systemd/system/leak-monitor.service"
	text, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"usr/lib/systemd/system/leak-monitor.service": string(text), "usr/libexec/anon-gw-anonymizer-config/leak-monitor": "#!/bin/sh\n"}
	for _, target := range []string{"basic", "sysinit", "shutdown", "network", "multi-user"} {
		files["usr/lib/systemd/system/"+target+".target"] = "[Unit]\n"
	}
	for path, text := range files {
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--root="+root, "leak-monitor.service").CombinedOutput()
	if err != nil || strings.Contains(string(out), "leak-monitor.service:") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = exec.Command("systemd-analyze", "security", "--offline=true", shipped).CombinedOutput()
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("%v: %s", err, out)
	}
	const most = 2.0
	if figure, err := strconv.ParseFloat(string(m[1]), 64); err != nil || figure > most {
		t.Errorf("exposure %s, at most %v\n%s", m[1], most, out)
	}
	t.Logf("exposure %s", m[1])
}
