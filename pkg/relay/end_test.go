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
	go func() {
		moved, err := Relay{}.Join(a.(Conn), b)
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
func served(t *testing.T, s *Server, drain time.Duration, l net.Listener, to string) (stop func(), done <-chan struct{}) {
	t.Helper()
	if s.Log == nil {
		s.Log = func(text string) { t.Log(text) }
	}
	s.Dial = func(ctx context.Context) (Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", to)
		if err != nil {
			return nil, err
		}
		return c.(Conn), nil
	}
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
	stop, done := served(t, &Server{}, patience, l, accepting(t, echo))
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
	stop, done = served(t, &Server{}, 50*time.Millisecond, l, accepting(t, echo))
	c = dial(t, "tcp", l.Addr().String())
	speaks(t, c)
	stop()
	ended(t, "the server", done)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}

// TestNoneLostAtEnd: a connection that was accepted is served, also when the
// server ends at that moment and is at its limit.
func TestNoneLostAtEnd(t *testing.T) {
	l := listen(t)
	s := &Server{Max: 1}
	stop, done := served(t, s, patience, l, accepting(t, echo))
	first, second := dial(t, "tcp", l.Addr().String()), dial(t, "tcp", l.Addr().String())
	speaks(t, first)
	waitFor(t, "the second connection", func() bool { return s.Connections() == 2 })
	stop()
	first.Close()
	speaks(t, second)
	second.Close()
	ended(t, "the server", done)
}

// TestExitIdle: connections that come and go while the time is up are all
// served: the server ends between them, never on them.
func TestExitIdle(t *testing.T) {
	to := accepting(t, echo)
	l := listen(t)
	raw, err := l.(*net.TCPListener).File() // the service manager's
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for range 20 {
		own, err := net.FileListener(raw)
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{ExitIdle: time.Millisecond}
		_, done := served(t, s, 0, own, to)
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
				next, err := net.FileListener(raw)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = served(t, &Server{ExitIdle: time.Millisecond}, patience, next, to)
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
	_, done := served(t, &Server{Once: true}, patience, l, accepting(t, echo))
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
	_, _ = served(t, &Server{Allow: func(net.Addr) bool { return !refuse.Load() }}, patience, l, accepting(t, echo))
	if got, err := io.ReadAll(dial(t, "tcp", l.Addr().String())); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q %v", got, err)
	}
	refuse.Store(false)
	speaks(t, dial(t, "tcp", l.Addr().String()))
}

// failing is a listener whose accept fails a few times.
type failing struct {
	*net.TCPListener
	left  int
	errno syscall.Errno
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", f.errno)}
	}
	return f.TCPListener.Accept()
}

// TestAcceptErrors: none is fatal, and a row of them is reported once.
func TestAcceptErrors(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ECONNABORTED, unix.EPERM} {
		var said atomic.Int32
		s := &Server{Log: func(text string) {
			if strings.HasPrefix(text, "Failed to accept: ") {
				said.Add(1)
			}
		}}
		l := listen(t)
		_, _ = served(t, s, patience, &failing{l.(*net.TCPListener), 3, errno}, accepting(t, echo))
		speaks(t, dial(t, "tcp", l.Addr().String()))
		if said.Load() != 1 {
			t.Errorf("%v: reported %d times", errno, said.Load())
		}
	}
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
