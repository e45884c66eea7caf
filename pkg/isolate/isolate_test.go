// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/netlab"
)

// TestMain lets the test binary be uwt, the package's other processes, and the
// program that is isolated.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); {
	case name == "uwt", name == nameNamespace, name == nameSupervisor, strings.HasPrefix(os.Args[0], descriptors):
		os.Exit(cli.Main(Command))
	case name == "probe":
		os.Exit(probe(os.Args[1:]))
	}
	var err error
	code := 1
	if program, err = published(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(filepath.Dir(program))
	os.Exit(code)
}

// program is the test binary, where every account can execute it.
var program string

func published() (string, error) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "isolate-test-")
	if err != nil {
		return "", err
	}
	path := dir + "/program"
	return path, errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, self, 0o755), os.Chmod(path, 0o755))
}

// world is a network with a SocksPort, and a way out that must not be used.
type world struct {
	t       testing.TB
	n       *netlab.Namespace
	asked   chan netlab.SOCKSRequest
	capture *netlab.Capture
	socket  *netlab.Socket // on the way out, to mark the end
	conf    string
	bulk    int64 // how much the SocksPort sends besides
}

const patience = time.Minute

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, asked: make(chan netlab.SOCKSRequest, 100)}
	outside, err := netlab.New("outside")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(outside.Close)
	if w.n, err = netlab.New("inside"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.n.Close)
	way, end := netlab.Port{Namespace: w.n, Interface: "eth0"}, netlab.Port{Namespace: outside, Interface: "eth0"}
	if err := errors.Join(netlab.Connect(way, end), way.Address("203.0.113.5/24"), end.Address("203.0.113.1/24"), way.DefaultVia("203.0.113.1")); err != nil {
		t.Fatal(err)
	}
	if w.capture, err = end.Capture(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.capture.Close)
	if w.socket, err = way.OpenSocket(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.socket.Close() })
	l, err := w.n.ServeSOCKS("127.0.0.1:9050", w.serve)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w.conf = filepath.Join(filepath.Dir(program), t.Name()+".conf")
	w.configure("AllowOutboundLocalhost 1\n")
	return w
}

// configure has uwt of other accounts than root find a configuration; root's
// is the machine's own, which has the defaults of torsocks or ours.
func (w *world) configure(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.conf, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// serve answers a request with what it was for.
func (w *world) serve(r netlab.SOCKSRequest, c *net.TCPConn) {
	w.asked <- r
	switch {
	case r.Command == netlab.SOCKSResolvePTR:
		_, _ = c.Write(append([]byte{5, 0, 0, 3, 12}, append([]byte("name.example"), 0, 0)...))
	case r.Host == "refused.example":
		const refused = 5
		_, _ = c.Write(netlab.SOCKSReply(refused))
	default:
		_, _ = c.Write(append(netlab.SOCKSReply(0), "hello "+r.Host...))
		w.pour(c)
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
}

// request is what the SocksPort was asked for next.
func (w *world) request() netlab.SOCKSRequest {
	w.t.Helper()
	select {
	case r := <-w.asked:
		if r.User != "<torS0X>0" {
			w.t.Errorf("asked by %q", r.User)
		}
		return r
	case <-time.After(patience):
		w.t.Fatal("nothing was asked of the SocksPort")
	}
	return netlab.SOCKSRequest{}
}

// command is an isolated program, of another account unless uid is 0.
func (w *world) command(uid int, arg ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	w.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program)
	cmd.Args = append([]string{"uwt", "--isolate"}, arg...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "TORSOCKS_CONF_FILE=" + w.conf}
	cmd.Dir = "/" // where every account may be
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	return cmd
}

// probing runs the probe isolated and returns what it printed.
func (w *world) probing(uid int, steps ...string) string {
	w.t.Helper()
	out, err := w.run(w.command(uid, append([]string{"--argv0=probe", "--", program}, steps...)...))
	if err != nil {
		w.t.Errorf("%v: %v: %s", steps, err, out)
	}
	return out
}

func (w *world) run(cmd *exec.Cmd) (string, error) {
	w.t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := w.n.Do(cmd.Run)
	return out.String(), err
}

// accounts are root and somebody.
func accounts() []int { return []int{0, 65534} }

// quiet checks that nothing was sent on the way out until now.
func (w *world) quiet() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := netlab.Fence(ctx, w.socket, w.capture, w.t.Name()); err != nil {
		w.t.Fatal(err)
	}
	frames, err := w.capture.Frames()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range frames {
		if text := fmt.Sprint(f); !strings.Contains(text, "ff02::") && !strings.Contains(text, w.t.Name()) {
			w.t.Errorf("left: %s", text)
		}
	}
}

// TestDestinations: whatever is connected to is asked of Tor, names by name.
func TestDestinations(t *testing.T) {
	w := newWorld(t)
	for _, uid := range accounts() {
		for to, want := range map[string]string{
			"WWW.Example.Org:443": "www.example.org:443", "192.0.2.7:81": "192.0.2.7:81", "[2001:db8::7]:82": "2001:db8::7:82",
		} {
			out := w.probing(uid, "dial "+to)
			destination := w.request().Destination()
			if host := want[:strings.LastIndexByte(want, ':')]; destination != want || out != "hello "+host+"\n" {
				t.Errorf("%s: asked for %s, got %q", to, destination, out)
			}
		}
	}
	// Resolvers of programs refuse names of onion services, ours does not.
	out := w.probing(65534, "resolve 192.0.2.53:53 A example.onion", "dial 198.18.0.1:80")
	if destination := w.request().Destination(); destination != "example.onion:80" || out != "NOERROR 1 198.18.0.1\nhello example.onion\n" {
		t.Errorf("asked for %s, got %q", destination, out)
	}
	out = w.probing(65534, "dial refused.example:80")
	w.request()
	if !strings.Contains(out, "reset") {
		t.Errorf("a refused destination: %q", out)
	}
	w.quiet()
}

// TestCredentials: one password for a process, another for every other, and
// the same for runs that share a name.
func TestCredentials(t *testing.T) {
	w := newWorld(t)
	w.probing(65534, "dial 192.0.2.7:81", "dial 192.0.2.7:81", "child dial 192.0.2.7:81")
	first, second, child := w.request().Password, w.request().Password, w.request().Password
	w.probing(65534, "dial 192.0.2.7:81")
	other := w.request().Password
	if first != second || first == child || first == other || child == other || len(first) != 43 {
		t.Errorf("%s %s %s %s", first, second, child, other)
	}
	shared := func(name string) string {
		out, err := w.run(w.command(0, "-i", name, "--argv0=probe", "--", program, "dial 192.0.2.7:81"))
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return w.request().Password
	}
	if a, b, c := shared("one"), shared("one"), shared("two"); a != b || a == c {
		t.Errorf("%s %s %s", a, b, c)
	}
}

// TestEverythingElse is refused at once: other protocols, raw packets, more
// privileges; and nothing of it leaves.
func TestEverythingElse(t *testing.T) {
	w := newWorld(t)
	for _, uid := range accounts() {
		for step, want := range map[string]string{
			"udp 192.0.2.7:123": "operation not permitted", "udp 203.0.113.1:9": "operation not permitted", "raw": "operation not permitted",
			"udp [2001:db8::1]:9": "operation not permitted", "listen": "ok", "packet": "operation not permitted",
			// Sockets to the host of a virtual machine belong to no network namespace.
			"family 40": "address family not supported", "uring": "function not implemented",
		} {
			begin := time.Now()
			if out := w.probing(uid, step); !strings.Contains(out, want) || time.Since(begin) > patience/2 {
				t.Errorf("uid %d: %s: %q after %v", uid, step, out, time.Since(begin))
			}
		}
	}
	for uid, kept := range map[int]uint64{65534: 0, 0: rootKeeps} {
		if out := w.probing(uid, "status CapEff"); out != fmt.Sprintf("%016x\n", kept) {
			t.Errorf("uid %d: capabilities %s", uid, out)
		}
	}
	// A file's capabilities would count in the namespace.
	if out := w.probing(65534, "status NoNewPrivs"); out != "1\n" {
		t.Errorf("no_new_privs %s", out)
	}
	out, err := w.run(w.command(0, "/usr/sbin/nft", "flush", "ruleset"))
	if err == nil {
		t.Errorf("the program flushed the ruleset: %s", out)
	}
	w.quiet()
}

// TestByItself: without options too, what a program starts is held with it.
func TestByItself(t *testing.T) {
	w := newWorld(t)
	cmd := w.command(65534, "bash", "-c", `echo "preload $LD_PRELOAD"; exec -a probe "$0" "dial 192.0.2.7:81"`, program)
	cmd.Args = append(cmd.Args[:1], cmd.Args[2:]...) // without --isolate
	if out, err := w.run(cmd); err != nil || out != "preload \nhello 192.0.2.7\n" {
		t.Errorf("%v %q", err, out)
	}
	if to := w.request().Destination(); to != "192.0.2.7:81" {
		t.Errorf("asked for %s", to)
	}
	w.quiet()
}

// TestFallback: where no namespace can be had, torsocks has what it holds, with
// a warning, and nothing else runs.
func TestFallback(t *testing.T) {
	for args, want := range map[string]struct {
		code int
		said []string
	}{
		"sh -c 'echo ran $LD_PRELOAD'":        {0, []string{"uwt: warning: ", "user.max_user_namespaces = 0", "torsocks", "ran ", "libtorsocks.so"}},
		"--isolate sh -c 'echo ran'":          {codeRefused, []string{"uwt: error: ", "user.max_user_namespaces = 0"}},
		"-i name sh -c 'echo ran'":            {codeRefused, []string{"uwt: error: "}},
		"$0 --version":                        {codeRefused, []string{"uwt: error: ", "user.max_user_namespaces = 0"}},
		"--torsocks sh -c 'echo $LD_PRELOAD'": {0, []string{"libtorsocks.so"}},
		"/bin/busybox sh -c 'echo ran'":       {codeRefused, []string{"uwt: error: "}},
	} {
		cmd := exec.Command("unshare", "--user", "--map-root-user", "/bin/bash", "-c", "echo 0 > /proc/sys/user/max_user_namespaces; exec -a uwt \"$0\" "+args, program)
		out, _ := cmd.CombinedOutput()
		for _, text := range want.said {
			if !strings.Contains(string(out), text) {
				t.Errorf("%s: %q lacks %q", args, out, text)
			}
		}
		if cmd.ProcessState.ExitCode() != want.code || want.code != 0 && strings.Contains(string(out), "ran") {
			t.Errorf("%s: %v %q", args, cmd.ProcessState, out)
		}
	}
}

// TestListen: the listeners never get in each other's way, however few ports
// the kernel has to choose from.
func TestListen(t *testing.T) {
	n, err := netlab.New("inside")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Sysctl("ipv4/ip_local_port_range", "40000 40007"); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		err := n.Do(func() error {
			m := &made{}
			defer m.close()
			_, err := m.listen(true)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestNames: questions are answered by the responder, whichever server is asked.
func TestNames(t *testing.T) {
	w := newWorld(t)
	for step, want := range map[string]string{
		"resolve 192.0.2.53:53 A www.example": "198.18.0.1", "resolve [2001:db8::53]:53 A www.example": "198.18.0.1", "resolve 192.0.2.53:53 AAAA www.example": "NOERROR 0",
		"resolve 192.0.2.53:53 TXT www.example": "NOTIMP 0", "resolve 192.0.2.53:53 A localhost": "127.0.0.1", "resolve 192.0.2.53:53 A single": "NXDOMAIN 0",
		"resolvetcp 192.0.2.53:53 A www.example": "198.18.0.1",
	} {
		if out := w.probing(65534, step); !strings.Contains(out, want) {
			t.Errorf("%s: %q, want %q", step, out, want)
		}
	}
	if out := w.probing(65534, "resolve 192.0.2.53:53 PTR 7.2.0.192.in-addr.arpa"); !strings.Contains(out, "name.example") {
		t.Errorf("%q", out)
	}
	if r := w.request(); r.Command != netlab.SOCKSResolvePTR || r.Destination() != "192.0.2.7:0" {
		t.Errorf("%+v", r)
	}
	w.quiet()
}

// TestLoopback: this machine's own loopback interface is there if torsocks.conf
// says so.
func TestLoopback(t *testing.T) {
	w := newWorld(t)
	l, err := w.n.Listen(0, "127.0.0.1:7777")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("here"))
			c.Close()
		}
	}()
	if out := w.probing(65534, "dial 127.0.0.1:7777"); out != "here\n" {
		t.Errorf("%q", out)
	}
	w.configure("AllowOutboundLocalhost 0\n")
	if out := w.probing(65534, "dial 127.0.0.1:7777"); strings.Contains(out, "here") {
		t.Errorf("%q", out)
	}
	w.configure("TorPort none\n")
	out, err := w.run(w.command(65534, "true"))
	if err == nil || !strings.Contains(out, ":1: TorPort: ") {
		t.Errorf("%v %q", err, out)
	}
}

// TestProcess: to its parent the program is the process that was started.
func TestProcess(t *testing.T) {
	w := newWorld(t)
	for _, uid := range accounts() {
		var out bytes.Buffer
		cmd := w.command(uid, "--argv0=probe", "--", program, "self", "exit 37")
		cmd.Stdout = &out
		cmd.Dir = "/usr"
		err := w.n.Do(cmd.Run)
		want := fmt.Sprintf("probe %d %d /usr 0\n", cmd.Process.Pid, os.Getpid())
		if cmd.ProcessState.ExitCode() != 37 || out.String() != want {
			t.Errorf("%v: %q, want %q", err, out.String(), want)
		}
	}
	cmd := w.command(65534, "--argv0=probe", "--", program, "die")
	_, _ = w.run(cmd)
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != unix.SIGTERM {
		t.Errorf("%v", cmd.ProcessState)
	}
	for name, status := range map[string]int{"/nonexistent": 127, "/etc/passwd": 126, "no-such-command": 127} {
		cmd := w.command(65534, name)
		if out, _ := w.run(cmd); cmd.ProcessState.ExitCode() != status || !strings.HasPrefix(out, "uwt: error: ") {
			t.Errorf("%s: %v %q", name, cmd.ProcessState, out)
		}
	}
}

// supervisors are the processes of that name in a network namespace of ours.
func supervisors(t *testing.T, w *world) []int {
	t.Helper()
	var own syscall.Stat_t
	if err := w.n.Do(func() error { return syscall.Stat("/proc/thread-self/ns/net", &own) }); err != nil {
		t.Fatal(err)
	}
	var out []int
	for pid := range numbered("/proc") {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		var st syscall.Stat_t
		if strings.TrimSpace(string(comm)) == "uwt-supervisor" && syscall.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) == nil && st.Ino == own.Ino {
			out = append(out, pid)
		}
	}
	return out
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// TestSupervisor ends with the last process, and its death shuts the program
// in.
func TestSupervisor(t *testing.T) {
	w := newWorld(t)
	cmd := w.command(65534, "--argv0=probe", "--", program, "leave", "exit 0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := w.run(cmd); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if n := len(supervisors(t, w)); n != 1 {
		t.Errorf("%d supervisors while something of the program runs", n)
	}
	in.Close()
	waitFor(t, "the end of the supervisor", func() bool { return len(supervisors(t, w)) == 0 })

	cmd = w.command(65534, "--argv0=probe", "--", program, "dial 192.0.2.7:81", "wait", "dial 192.0.2.7:81")
	if in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.n.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	if line, err := out.ReadString('\n'); err != nil || line != "hello 192.0.2.7\n" {
		t.Errorf("%v %q", err, line)
	}
	for _, pid := range supervisors(t, w) {
		_ = unix.Kill(pid, unix.SIGTERM) // ignored
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the supervisor's death", func() bool { return len(supervisors(t, w)) == 0 })
	in.Close()
	if line, err := out.ReadString('\n'); err != nil || !strings.Contains(line, "refused") && !strings.Contains(line, "reset") {
		t.Errorf("%v %q", err, line)
	}
	_ = cmd.Wait()
	w.quiet()
}

// TestMasks: daemons that resolve names are out of sight.
func TestMasks(t *testing.T) {
	script := `set -e
mount -t tmpfs run /run
mkdir -p /run/nscd /run/systemd/resolve /run/avahi-daemon /run/other
touch /run/nscd/socket /run/systemd/resolve/io.systemd.Resolve /run/avahi-daemon/socket /run/other/file
exec -a uwt "$0" --isolate sh -c 'ls /run/nscd /run/systemd/resolve /run/avahi-daemon /run/other; cat /etc/resolv.conf /run/systemd/resolve/stub-resolv.conf; touch /run/nscd/x'`
	out, _ := exec.Command("unshare", "--mount", "--net", "--propagation", "private", "/bin/bash", "-c", script, program).CombinedOutput()
	for _, want := range []string{"/run/other:\nfile\n", "/run/systemd/resolve:\nresolv.conf\nstub-resolv.conf\n", "nameserver 127.0.0.1\n", "Read-only file system"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q lacks %q", out, want)
		}
	}
	if strings.Contains(string(out), "socket") || strings.Contains(string(out), "io.systemd") {
		t.Errorf("a resolver is in sight: %q", out)
	}
}

// TestCheck says why isolation cannot be had.
func TestCheck(t *testing.T) {
	for prefix, want := range map[string]string{"": "", "echo 0 > /proc/sys/user/max_user_namespaces; ": "user.max_user_namespaces = 0", "echo 0 > /proc/sys/user/max_net_namespaces; ": "user.max_net_namespaces = 0"} {
		cmd := exec.Command("unshare", "--user", "--map-root-user", "--net", "/bin/bash", "-c", prefix+`exec -a uwt "$0" --check`, program)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || (err == nil) != (want == "") {
			t.Errorf("%q: %v %q", prefix, err, out)
		}
	}
}
