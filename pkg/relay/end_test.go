// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestBurst: whoever sends a burst and closes at once has all of it delivered,
// also to a peer that answers, and does not read on before its answer is taken.
func TestBurst(t *testing.T) {
	const size = 5 << 20
	for _, network := range []string{"tcp", "unix"} {
		got := make(chan int64, 1)
		tcp, path := serve(t, &Server{}, "", func(c *net.TCPConn) {
			defer c.Close()
			n, _ := io.Copy(c, struct{ io.Reader }{c}) // an echo
			m, _ := io.Copy(io.Discard, c)
			got <- n + m
		})
		c := dial(t, network, map[string]string{"tcp": tcp, "unix": path}[network])
		if network == "tcp" {
			// The kernel keeps what a socket still has to send, unless there is
			// something unread.
			if err := c.(*net.TCPConn).SetWriteBuffer(2 * size); err != nil {
				t.Fatal(err)
			}
		}
		go func() { _, _ = io.Copy(io.Discard, io.LimitReader(c, size/2)) }()
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n := <-got; n != size {
			t.Errorf("%s: %d bytes of %d", network, n, size)
		}
	}
}

// TestBrokenAnswer: an answer that nobody takes does not cut off what its
// reader had sent before it closed.
func TestBrokenAnswer(t *testing.T) {
	const size = 1 << 20
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := dial(t, "unix", path)
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	b, server := pair(t)
	_ = server.SetDeadline(time.Now().Add(patience))
	// The client takes nothing: to the relay every write is EPIPE.
	if err := client.(*net.UnixConn).CloseRead(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	end := make(chan result, 1)
	e := engine(t)
	go func() {
		moved, err := e.Join(context.Background(), Relay{}, a.(Conn), b)
		end <- result{moved, err}
	}()
	go func() {
		_, _ = client.Write(bytes.Repeat([]byte("x"), size))
		client.Close()
	}()
	got, err := io.ReadAll(server)
	if err != nil || len(got) != size {
		t.Errorf("%d bytes of %d: %v", len(got), size, err)
	}
	// The server has not ended; it has but a moment.
	if r := <-end; r.err != nil || r.moved.AToB != size {
		t.Errorf("%+v", r)
	}
}

// TestNobodyReads: a side that takes nothing does not hold a relay for longer
// than Linger allows, nor than Idle.
func TestNobodyReads(t *testing.T) {
	const short = 200 * time.Millisecond
	for name, r := range map[string]Relay{"linger": {Linger: short}, "idle": {Idle: short}} {
		client, server, end := joined(t, r)
		_ = server.SetWriteDeadline(time.Now().Add(patience))
		if name == "linger" {
			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		_, err := io.Copy(server, reader0{}) // until the relay gives up
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the writer: %v", name, err)
		}
		if r := <-end; !errors.Is(r.err, ErrIdle) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// reader0 never ends.
type reader0 struct{}

func (reader0) Read(p []byte) (int, error) { return len(p), nil }

// served is a server of which the end can be seen.
func served(t *testing.T, s *Server, drain time.Duration, l *Listener, to string) (stop func(), done <-chan struct{}) {
	t.Helper()
	return serveAt(t, s, drain, l, Endpoint{"tcp", to})
}

func serveAt(t *testing.T, s *Server, drain time.Duration, l *Listener, to Endpoint) (stop func(), done <-chan struct{}) {
	t.Helper()
	if s.Log == nil {
		s.Log = func(text string) { t.Log(text) }
	}
	if s.Engine == nil {
		s.Engine = engine(t)
	}
	s.To = NewDialer(to)
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan struct{})
	go func() { defer close(end); s.Serve(ctx, drain, l) }()
	t.Cleanup(func() { cancel(); <-end })
	return cancel, end
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func accepting(t *testing.T, handler func(*net.TCPConn)) string {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go handler(c.(*net.TCPConn))
		}
	}()
	return l.Addr().String()
}

func speaks(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func ended(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s does not end", what)
	}
}

// TestDrain: what is open when the server is told to end goes on to its own
// end, and is aborted when it takes too long.
func TestDrain(t *testing.T) {
	l := listen(t)
	stop, done := served(t, &Server{}, patience, taken(t, l), accepting(t, echo))
	c := dial(t, "tcp", l.Addr().String())
	speaks(t, c)
	stop()
	waitFor(t, "the end of the listener", func() bool {
		late, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			late.Close()
		}
		return err != nil
	})
	speaks(t, c)
	c.Close()
	ended(t, "the server", done)

	l = listen(t)
	stop, done = served(t, &Server{}, 50*time.Millisecond, taken(t, l), accepting(t, echo))
	c = dial(t, "tcp", l.Addr().String())
	speaks(t, c)
	stop()
	ended(t, "the server", done)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}

// TestNoneLostAtEnd: what waits in the queue of a server that is at its limit
// when it ends is served by the next one.
func TestNoneLostAtEnd(t *testing.T) {
	l := listen(t) // the service manager's
	to := accepting(t, echo)
	full := make(chan struct{}, 1)
	stop, done := served(t, &Server{Max: 1, Log: func(string) { full <- struct{}{} }}, patience, again(t, l), to)
	first, second := dial(t, "tcp", l.Addr().String()), dial(t, "tcp", l.Addr().String())
	speaks(t, first)
	ended(t, "the room", full)
	stop()
	speaks(t, first)
	first.Close()
	ended(t, "the server", done)
	_, _ = served(t, &Server{}, patience, again(t, l), to)
	speaks(t, second)
	second.Close()
}

// again is a listener once more, for another server.
func again(t *testing.T, l net.Listener) *Listener {
	t.Helper()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	own, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return taken(t, own)
}

// TestExitIdle: connections that come and go while the time is up are all
// served: the server ends between them, never on them.
func TestExitIdle(t *testing.T) {
	to := accepting(t, echo)
	l := listen(t) // the service manager's
	for range 20 {
		s := &Server{ExitIdle: time.Millisecond}
		_, done := served(t, s, 0, again(t, l), to)
		for over := false; !over; {
			c := dial(t, "tcp", l.Addr().String())
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			// It waits in the queue for the next server if this one has ended.
			got := make(chan error, 1)
			go func() { _, err := io.ReadFull(c, make([]byte, 1)); got <- err }()
			select {
			case err := <-got:
				if err != nil {
					t.Fatalf("a connection was dropped: %v", err)
				}
			case <-done:
				over = true
				_, _ = served(t, &Server{ExitIdle: time.Millisecond}, patience, again(t, l), to)
				if err := <-got; err != nil {
					t.Fatalf("the connection that waited: %v", err)
				}
			}
			c.Close()
			if !over {
				select {
				case <-done:
					over = true
				case <-time.After(time.Millisecond):
				}
			}
		}
	}
}

// TestOnce: one connection, then neither a second nor the server.
func TestOnce(t *testing.T) {
	l := listen(t)
	_, done := served(t, &Server{Once: true}, patience, taken(t, l), accepting(t, echo))
	c := dial(t, "tcp", l.Addr().String())
	speaks(t, c)
	if late, err := net.Dial("tcp", l.Addr().String()); err == nil {
		late.Close()
		t.Error("a second connection")
	}
	speaks(t, c)
	c.Close()
	ended(t, "the server", done)
}

// TestAllow: who may not connect is not served, and who may is.
func TestAllow(t *testing.T) {
	l := listen(t)
	refuse := atomic.Bool{}
	refuse.Store(true)
	_, _ = served(t, &Server{Allow: func(net.Addr) bool { return !refuse.Load() }}, patience, taken(t, l), accepting(t, echo))
	if got, err := io.ReadAll(dial(t, "tcp", l.Addr().String())); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q %v", got, err)
	}
	refuse.Store(false)
	speaks(t, dial(t, "tcp", l.Addr().String()))
}

// TestAcceptErrors: none is fatal, and a row of them is reported once.
func TestAcceptErrors(t *testing.T) {
	const row = 3 * pauseOnFull // long enough for some
	for _, c := range []struct {
		errno syscall.Errno
		spoil func(*Listener) (mend func())
	}{
		{unix.EINVAL, func(l *Listener) func() {
			if err := unix.Shutdown(l.fd, unix.SHUT_RD); err != nil { // it listens no more
				t.Fatal(err)
			}
			return func() {
				if err := unix.Listen(l.fd, unix.SOMAXCONN); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{unix.EMFILE, func(l *Listener) func() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			free := allDescriptors(t)
			return func() { free(); c.Close() }
		}},
	} {
		said := make(chan string, linesMax)
		l := listener(t, "tcp", "127.0.0.1:0")
		s := &Server{Engine: engine(t), Log: func(text string) { said <- text }}
		to := accepting(t, echo)
		mend := c.spoil(l)
		_, _ = served(t, s, patience, l, to)
		<-time.After(row)
		mend()
		at, err := unix.Getsockname(l.fd) // it listens on another port now if it had to be asked to
		if err != nil {
			t.Fatal(err)
		}
		speaks(t, dial(t, "tcp", fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)))
		if got := <-said; got != "Failed to accept: accept4: "+c.errno.Error() || len(said) > 0 {
			t.Errorf("%v: %q, and %d lines more", c.errno, got, len(said))
		}
	}
}

// allDescriptors takes all descriptors that there are.
func allDescriptors(t *testing.T) (free func()) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	const few = 500
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: few, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	var taken []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	return func() {
		for _, fd := range taken {
			unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	}
}

// pipesOpen is how many pipes there are that can be spliced to.
func pipesOpen(t *testing.T) (n int) {
	t.Helper()
	for fd := range 500 {
		if to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

// TestKeepAlive: connections that are silent are asked whether they live.
func TestKeepAlive(t *testing.T) {
	tcp, _ := serve(t, &Server{}, "", echo)
	c := dial(t, "tcp", tcp)
	speaks(t, c)
	var port int
	if _, err := fmt.Sscanf(tcp, "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the keepalive timer", func() bool {
		data, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			// proc_net_tcp: state 01 is established, timer 02 is keepalive.
			if len(f) > 5 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == "01" && strings.HasPrefix(f[5], "02:") {
				return true
			}
		}
		return false
	})
}
