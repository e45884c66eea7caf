// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
)

// TestMain lets the test binary be the program.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case withoutSplice:
		if err := refuse(unix.SYS_SPLICE); err != nil {
			panic(err)
		}
		fallthrough
	case "whonix-socket-proxyd":
		os.Exit(cli.Main(Proxyd))
	}
	if filepath.Base(os.Args[0]) == "tor" {
		os.Exit(cli.Bare(DummyTor))
	}
	os.Exit(m.Run())
}

// withoutSplice is the program's name where splice(2) is not to be had.
const withoutSplice = "without-splice"

// refuse has the kernel answer ENOSYS to a system call, in all threads.
func refuse(call uint32) error {
	const setFilter, allThreads = 1, 1 // SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x50000 | uint32(unix.ENOSYS)}, // SECCOMP_RET_ERRNO
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},                    // SECCOMP_RET_ALLOW
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, setFilter, allThreads, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

const patience = 20 * time.Second

// started is the program with listeners, as the service manager starts it.
type started struct {
	t      testing.TB
	cmd    *exec.Cmd
	stderr bytes.Buffer
	tcp    string
	path   string

	soft    int      // limit of descriptors at the start; 0 is the test's own
	environ []string // besides systemd's
	name    string   // by which the test binary is called
	program string   // if it is not the test binary
	root    string   // in which there is the program, and nothing else
}

func startProxyd(t *testing.T, to string, arg ...string) *started {
	t.Helper()
	p := &started{t: t}
	p.start(to, arg...)
	return p
}

// stop ends the program in order.
func (p *started) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%v %s", err, p.stderr.String())
	}
}

func (p *started) start(to string, arg ...string) {
	t := p.t
	t.Helper()
	p.path = filepath.Join(t.TempDir(), "s")
	a, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	b.SetUnlinkOnClose(false)
	p.tcp = a.Addr().String()
	fa, err := a.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	fb, err := b.File()
	if err != nil {
		t.Fatal(err)
	}
	p.command(append(arg, to), fa, fb)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []io.Closer{a, b, fa, fb} {
		c.Close()
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
}

// command passes files the way systemd does: LISTEN_PID is the program's own.
func (p *started) command(arg []string, files ...*os.File) {
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	self = cmp.Or(p.program, self)
	p.cmd = exec.Command("/bin/sh", append([]string{"-c", fmt.Sprintf(`export LISTEN_PID=$$; [ %[1]d = 0 ] || ulimit -Sn %[1]d; exec "$0" "$@"`, p.soft), "/bin/bash", "-c", `exec -a ` + cmp.Or(p.name, "whonix-socket-proxyd") + ` "$0" "$@"`, self}, arg...)...)
	if p.root != "" {
		p.cmd = exec.Command("/bin/sh", append([]string{"-c", `export LISTEN_PID=$$; exec chroot "$0" /whonix-socket-proxyd "$@"`, p.root}, arg...)...)
	}
	p.cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/bin", fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES=first:second"}, p.environ...)
	p.cmd.ExtraFiles = files
	p.cmd.Stderr = &p.stderr
}

func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func connect(t *testing.T, network, to string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func echoes(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("%q %v", got, err)
	}
}

func TestAcceptance16_Sockets(t *testing.T) {
	p := startProxyd(t, echoServer(t))
	for network, at := range map[string]string{"tcp": p.tcp, "unix": p.path} {
		c := connect(t, network, at)
		echoes(t, c)
		c.Close() // or the program would wait for its end
	}
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)); err != nil || !strings.Contains(string(status), "Uid:\t65534\t65534\t65534\t65534\n") {
		t.Errorf("it has not given up root: %v", err)
	}
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v %s", err, p.stderr.String())
	}
	if _, err := os.Stat(p.path); err != nil {
		t.Errorf("the inherited socket is gone: %v", err)
	}
}

// unbound is a stream socket on which nobody listens.
func unbound(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "unbound")
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAcceptance16_Refusals(t *testing.T) {
	datagram, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()
	f, err := datagram.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		args  string
		files []*os.File
		want  string
	}{
		{"h:1", []*os.File{unbound(t)}, "Passed in socket is not a stream socket.\n"},
		{"h:1", nil, "Didn't get any sockets passed in.\n"}, {"h:1", []*os.File{f}, "Passed in socket is not a stream socket.\n"},
		{"-c 0 h:1", nil, "Connection limit is too low.\n"}, {"--connections-max=x h:1", nil, "Failed to parse --connections-max= argument: x\n"},
		{"--exit-idle-time=abc h:1", nil, "Failed to parse --exit-idle-time= argument: abc\n"}, {"", nil, "Not enough parameters.\n"}, {"a b", nil, "Too many parameters.\n"},
	} {
		p := &started{t: t}
		p.command(strings.Fields(c.args), c.files...)
		if err := p.cmd.Run(); p.cmd.ProcessState.ExitCode() != 1 || p.stderr.String() != c.want {
			t.Errorf("%s: %v %q", c.args, err, p.stderr.String())
		}
	}
	p := &started{t: t}
	p.command([]string{"h:1"})
	p.cmd.Env = append(p.cmd.Env, "LISTEN_FDS=1")
	p.cmd.Args[2] = `export LISTEN_PID=1; exec "$0" "$@"`
	if err := p.cmd.Run(); err == nil || p.stderr.String() != "Didn't get any sockets passed in.\n" {
		t.Errorf("another's sockets: %v %q", err, p.stderr.String())
	}
}

func TestAcceptance15_ProxydLoop(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &started{t: t}
	p.command([]string{l.Addr().String()}, f)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Whoever asks is sent away, one connection is all there is, and the program
	// ends in order, so that systemd does not give the socket up.
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	if err := p.cmd.Wait(); err != nil || !strings.HasPrefix(p.stderr.String(), "ERROR: "+l.Addr().String()+" leads to the socket itself") || strings.Count(p.stderr.String(), "Failed to connect") != 1 {
		t.Errorf("%v %q", err, p.stderr.String())
	}
}

func TestAcceptance17_IdleExit(t *testing.T) {
	p := startProxyd(t, echoServer(t), "--exit-idle-time=300ms")
	ended := make(chan error, 1)
	<-time.After(600 * time.Millisecond) // it does not end before the first one
	c := connect(t, "tcp", p.tcp)
	echoes(t, c)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		t.Fatalf("ended while a connection is open: %v", err)
	case <-time.After(600 * time.Millisecond):
	}
	c.Close()
	begin := time.Now()
	select {
	case err := <-ended:
		if err != nil || time.Since(begin) < 200*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	case <-time.After(patience):
		t.Error("it does not end")
	}
}

// TestProxydUnreachable: what cannot be reached ends the connection, in the
// words of the original.
func TestProxydUnreachable(t *testing.T) {
	p := startProxyd(t, "127.0.0.1:1")
	for range 2 {
		if got, err := io.ReadAll(connect(t, "tcp", p.tcp)); len(got) > 0 || err != nil {
			t.Errorf("%q %v", got, err)
		}
	}
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	_ = p.cmd.Wait()
	if want := "Failed to connect to remote host: Connection refused\n"; p.stderr.String() != want+want {
		t.Errorf("%q", p.stderr.String())
	}
}

// TestActivated: the real thing passes the socket.
func TestActivated(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemd-socket-activate", "--listen="+path, "/bin/bash", "-c", `exec -a whonix-socket-proxyd "$0" "$@"`, self, echoServer(t))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if _, err := os.Stat(path); err == nil {
			break
		}
	}
	echoes(t, connect(t, "unix", path))
}

func TestSpans(t *testing.T) {
	for text, want := range map[string]time.Duration{"5": 5 * time.Second, "5min 20s": 320 * time.Second, "500ms": 500 * time.Millisecond, "infinity": forever, "0": 0, " 2w 3M1y ": 14*24*time.Hour + 15*(365*24+6)*time.Hour/12, "5min20s": 320 * time.Second, "3µs": 3 * time.Microsecond, "1.5h": 90 * time.Minute, "1d": 24 * time.Hour} {
		if got, err := parseSpan(text); err != nil || got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "abc", "5x", "-1", "1 2 q", "1.2.3", "1e3", "200y", "99999999999999999999d"} {
		if got, err := parseSpan(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestDestinations(t *testing.T) {
	for text, want := range map[string][2]string{
		"10.152.152.10:9050": {"10.152.152.10", "9050"}, "fd19:c33d:88bc::10:9050": {"fd19:c33d:88bc::10", "9050"}, "[fd19::10]:9050": {"fd19::10", "9050"},
		"gateway": {"gateway", "80"}, "[::1]": {"::1", "80"}, "gateway:9051": {"gateway", "9051"},
	} {
		if host, port := splitDestination(text); host != want[0] || port != want[1] {
			t.Errorf("%s: %s %s", text, host, port)
		}
	}
}

// FuzzSpan: a span is never less than none, but for the one that is for ever.
func FuzzSpan(f *testing.F) {
	for _, text := range []string{"5min 20s", "infinity", "1.5h", "999999999y", "3µs"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseSpan(text); err == nil && got < 0 && got != forever {
			t.Errorf("%q: %v", text, got)
		}
	})
}

// FuzzDestination: host and port are parts of what was said.
func FuzzDestination(f *testing.F) {
	for _, text := range []string{"10.152.152.10:9050", "fd19:c33d:88bc::10:9050", "[::1]", "gateway", ":", "[]:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		host, port := splitDestination(text)
		if !strings.Contains(text, host) || port != "80" && !strings.HasSuffix(text, ":"+port) {
			t.Errorf("%q: %q %q", text, host, port)
		}
	})
}
