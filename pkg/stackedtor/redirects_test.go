// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
)

// lines is a writer that can be read while others write.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// redirecting is a run of the program over a machine's drop-ins.
type redirecting struct {
	stdout, stderr lines
	cancel         context.CancelFunc
	done           chan error
}

func (m *machine) redirect(environ ...string) *redirecting {
	r := &redirecting{done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	env := cli.Env{Args: []string{"socat-unix-sockets"}, Environ: append([]string{"PATH=/usr/bin:/bin"}, environ...), Stdout: &r.stdout, Stderr: &r.stderr}
	go func() { r.done <- serveRedirects(ctx, env, m.root) }()
	m.t.Cleanup(func() { cancel(); r.end(m.t) })
	return r
}

// end waits for the program and returns its exit code.
func (r *redirecting) end(t *testing.T) int {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return cli.Code(err)
	case <-time.After(patience):
		t.Error("the program does not end")
		return -1
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// freePorts are different ports on which nobody listens.
func freePorts(t *testing.T, count int) (ports []string) {
	t.Helper()
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

func freePort(t *testing.T) string { return freePorts(t, 1)[0] }

func reaches(network, address string) bool {
	c, err := net.Dial(network, address)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("hello")); err != nil {
		return false
	}
	got := make([]byte, 5)
	_, err = io.ReadFull(c, got)
	return err == nil && string(got) == "hello"
}

func TestAcceptance01_Nothing(t *testing.T) {
	r := newMachine(t).redirect()
	if code := r.end(t); code != 125 || r.stdout.String() != "INFO: No processes launched into background, ok.\n" {
		t.Errorf("%d %q %q", code, r.stdout.String(), r.stderr.String())
	}
}

func TestAcceptance05_Existing(t *testing.T) {
	m := newMachine(t)
	path := m.root.Path("/run/s")
	m.write(userDropIn, "socat UNIX-LISTEN:"+path+",fork TCP:"+echoServer(t)+" &\n")
	m.write("/run/s", "a file")
	r := m.redirect()
	eventually(t, "the complaint", func() bool { return strings.Contains(r.stderr.String(), path+" exists; again in 1s") })
	if m.read("/run/s") != "a file" {
		t.Error("the file has changed")
	}
	// A dead socket in its place is taken over when it is tried again.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	eventually(t, "the relay", func() bool { return reaches("unix", path) })
}

func TestAcceptance06_BusyPort(t *testing.T) {
	m := newMachine(t)
	to := echoServer(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	good := freePort(t)
	m.write(userDropIn, fmt.Sprintf("socat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%s &\nsocat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%[2]s &\n", good, to, strings.TrimPrefix(busy.Addr().String(), "127.0.0.1:")))
	r := m.redirect()
	eventually(t, "the good one", func() bool { return reaches("tcp", "127.0.0.1:"+good) })
	eventually(t, "the complaint", func() bool { return strings.Contains(r.stderr.String(), "address already in use; again in 1s") })
	if !strings.Contains(r.stderr.String(), "ERROR: "+userDropIn+":2: socat TCP-LISTEN:") {
		t.Errorf("%q", r.stderr.String())
	}
	address := busy.Addr().String()
	busy.Close()
	eventually(t, "the other one", func() bool { return reaches("tcp", address) })
}

func TestAcceptance07_Invalid(t *testing.T) {
	m := newMachine(t)
	m.write(userDropIn, "socat TCP-LISTEN:9998,fork,bogus TCP:h:1 &\n")
	r := m.redirect("PATH=/nonexistent")
	if code := r.end(t); code != 1 || !strings.Contains(r.stderr.String(), "option bogus: not served here, and socat is not installed") {
		t.Errorf("%d %q", code, r.stderr.String())
	}
	m.write(userDropIn, "socat TCP-LISTEN:0,fork TCP:h:1 &\n")
	r = m.redirect()
	if code := r.end(t); code != 1 {
		t.Errorf("%d %q", code, r.stderr.String())
	}
}

func TestAcceptance08_Children(t *testing.T) {
	m := newMachine(t)
	mark := m.root.Path("/ran")
	m.write(userDropIn, "pre_command='env X=1'\nexport Y=2\n$pre_command sh -c 'echo $X$Y >>"+mark+"; exit 3' &\nsleep 1000 &\n")
	r := m.redirect()
	eventually(t, "the second run", func() bool {
		data, _ := os.ReadFile(mark)
		return strings.HasPrefix(string(data), "12\n12\n")
	})
	r.cancel()
	if code := r.end(t); code != 143 || !strings.Contains(r.stderr.String(), "exit status 3; again in 1s") {
		t.Errorf("%d %q", code, r.stderr.String())
	}
}

// TestCompound: a list, a loop and a function in the background are children like
// any other, in the shell's state at that point: brought back when they fail,
// named with file and line, ended with the service and with all they have started.
func TestCompound(t *testing.T) {
	m := newMachine(t)
	mark, dir := m.root.Path("/ran"), t.TempDir()
	sleep := fmt.Sprintf("sleep 1000.%d", os.Getpid()) // nobody else's
	m.write(userDropIn, `list="a b"
f() { for x in $list; do echo "$x $1 $(pwd)" >>`+mark+`; done; return 3; }
cd `+dir+`
f arg &
list=changed
{ echo "$list" >>`+mark+`
  `+sleep+`; } &
( `+sleep+` & `+sleep+` ) &
true && nonesuch &
`)
	r := m.redirect()
	runs := func(line string) int {
		data, _ := os.ReadFile(mark)
		return strings.Count(string(data), line+"\n")
	}
	eventually(t, "the second run", func() bool { return runs("a arg "+dir) == 2 && runs("b arg "+dir) == 2 })
	const at = userDropIn
	eventually(t, "bash's message", func() bool { return strings.Contains(r.stderr.String(), at+": line 9: nonesuch: command not found\n") })
	eventually(t, "the failures", func() bool {
		return strings.Contains(r.stderr.String(), "ERROR: "+at+":4: f arg: exit status 3; again in 1s") &&
			strings.Contains(r.stderr.String(), "ERROR: "+at+":9: true && nonesuch: exit status 127; again in 1s")
	})
	r.cancel()
	if code := r.end(t); code != 143 || runs("changed") != 1 {
		t.Errorf("%d, %d, %q", code, runs("changed"), r.stderr.String())
	}
	eventually(t, "the end of all", func() bool {
		all, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(all, func(path string) bool {
			data, _ := os.ReadFile(path)
			return strings.ReplaceAll(string(data), "\x00", " ") == sleep+" "
		})
	})
}

func TestAcceptance09_Order(t *testing.T) {
	m := newMachine(t)
	for i, dir := range dropInDirs() {
		m.write(dir+"/50.conf", fmt.Sprintf("echo %d $GATEWAY_IP\nGATEWAY_IP=10.0.0.%[1]d\n", i))
		m.write(dir+"/60_user", "echo no\n")
		m.write(dir+"/.x.conf", "echo no\n")
	}
	r := m.redirect()
	want := "0 10.152.152.10\n1 10.0.0.0\n2 10.0.0.1\nINFO: No processes launched into background, ok.\n"
	if code := r.end(t); code != 125 || r.stdout.String() != want {
		t.Errorf("%d %q, want %q", code, r.stdout.String(), want)
	}
}

// TestOneConnection: without fork the first connection is the only one.
func TestOneConnection(t *testing.T) {
	m := newMachine(t)
	port := freePort(t)
	m.write(userDropIn, "socat TCP-LISTEN:"+port+",bind=127.0.0.1 TCP:"+echoServer(t)+" &\n")
	r := m.redirect()
	eventually(t, "the connection", func() bool { return reaches("tcp", "127.0.0.1:"+port) })
	if code := r.end(t); code != 0 {
		t.Errorf("%d %q", code, r.stderr.String())
	}
}
