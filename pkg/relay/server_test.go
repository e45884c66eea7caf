// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second

// serve relays to a destination, on a TCP and a unix listener.
func serve(t testing.TB, s *Server, to string, handler func(*net.TCPConn)) (tcp, unixPath string) {
	t.Helper()
	if handler != nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		to = l.Addr().String()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go handler(c.(*net.TCPConn))
			}
		}()
	}
	if s.Log == nil {
		s.Log = func(text string) { t.Log(text) }
	}
	s.Engine, s.To = engine(t), NewDialer(Endpoint{"tcp", to})
	unixPath = filepath.Join(t.TempDir(), "s")
	a, b := listener(t, "tcp", "127.0.0.1:0"), listener(t, "unix", unixPath)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Add(1)
	go func() { defer done.Done(); s.Serve(ctx, time.Second, a, b) }()
	t.Cleanup(func() { cancel(); done.Wait() })
	return a.Addr().String(), unixPath
}

func listener(t testing.TB, network, address string) *Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return taken(t, l)
}

// taken is a listener as one of ours.
func taken(t testing.TB, l net.Listener) *Listener {
	t.Helper()
	own, err := TakeListener(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	return own
}

func echo(c *net.TCPConn) {
	defer c.Close()
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

func dial(t testing.TB, network, to string) Conn {
	t.Helper()
	c, err := net.Dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(Conn)
}

// transfer sends bytes through an echo and compares what comes back.
func transfer(c Conn, size int64, seed uint64) error {
	send := rand.New(rand.NewPCG(seed, 1))
	sent, got := sha256.New(), sha256.New()
	errs := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.MultiWriter(c, sent), io.LimitReader(reader{send}, size))
		errs <- errors.Join(err, c.CloseWrite())
	}()
	n, err := io.Copy(got, c)
	if err := errors.Join(err, <-errs); err != nil {
		return err
	}
	if n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		return fmt.Errorf("%d bytes of %d came back, or others", n, size)
	}
	return nil
}

type reader struct{ *rand.Rand }

func (r reader) Read(p []byte) (int, error) {
	for i := 0; i+8 <= len(p); i += 8 {
		v := r.Uint64()
		for j := range 8 {
			p[i+j] = byte(v >> (8 * j))
		}
	}
	return len(p) &^ 7, nil
}

// TestBytes: what goes in comes out, over both kinds of sockets, also in a
// burst that is followed by the end.
func TestBytes(t *testing.T) {
	tcp, path := serve(t, &Server{}, "", echo)
	for _, c := range []struct {
		network, to string
		size        int64
	}{{"tcp", tcp, 1 << 30}, {"unix", path, 256 << 20}, {"tcp", tcp, 5 << 20}, {"unix", path, 5 << 20}, {"tcp", tcp, 8}, {"tcp", tcp, 0}} {
		if err := transfer(dial(t, c.network, c.to), c.size, 7); err != nil {
			t.Errorf("%s, %d bytes: %v", c.network, c.size, err)
		}
	}
}

// TestThousand connections transfer at once: none ends before all have begun.
// What was sent and what came are compared at both ends.
func TestThousand(t *testing.T) {
	const count, size = 1000, 64 << 10
	raiseLimit(t)
	var all sync.WaitGroup
	all.Add(count)
	tcp, _ := serve(t, &Server{}, "", func(c *net.TCPConn) {
		defer c.Close()
		head := make([]byte, 8)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		all.Done()
		all.Wait()
		seed := binary.BigEndian.Uint64(head)
		sent := make(chan error, 1)
		go func() {
			_, err := io.Copy(c, io.LimitReader(reader{rand.New(rand.NewPCG(seed, 2))}, size))
			sent <- errors.Join(err, c.CloseWrite())
		}()
		if err := errors.Join(same(c, size, seed, 1), <-sent); err != nil {
			t.Errorf("the server's end: %v", err)
		}
	})
	errs := make(chan error, count)
	for i := range uint64(count) {
		go func() {
			c, err := net.Dial("tcp", tcp)
			if err != nil {
				errs <- err
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * patience))
			go func() {
				_, _ = c.Write(binary.BigEndian.AppendUint64(nil, i))
				_, _ = io.Copy(c, io.LimitReader(reader{rand.New(rand.NewPCG(i, 1))}, size))
				_ = c.(Conn).CloseWrite()
			}()
			errs <- same(c, size, i, 2)
		}()
	}
	for range count {
		if err := <-errs; err != nil {
			t.Errorf("the client's end: %v", err)
		}
	}
}

// same compares what comes to its end with what a generator makes.
func same(c io.Reader, size int64, seed, stream uint64) error {
	want, got := sha256.New(), sha256.New()
	_, _ = io.Copy(want, io.LimitReader(reader{rand.New(rand.NewPCG(seed, stream))}, size))
	n, err := io.Copy(got, c)
	if err != nil {
		return err
	}
	if n != size || !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
		return fmt.Errorf("%d bytes of %d came, or others", n, size)
	}
	return nil
}

// raiseLimit raises the soft limit of descriptors to the hard one, and returns
// it.
func raiseLimit(t testing.TB) int {
	t.Helper()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	return int(min(l.Max, 1<<20))
}

// TestLinger: a reply that comes after the client's end arrives, for as long
// as Linger allows.
func TestLinger(t *testing.T) {
	const wait = 500 * time.Millisecond
	late := func(c *net.TCPConn) {
		defer c.Close()
		_, _ = io.Copy(io.Discard, c)
		<-time.After(wait)
		_, _ = c.Write([]byte("late"))
	}
	for linger, want := range map[time.Duration]string{0: "late", 4 * wait: "late", wait / 4: ""} {
		tcp, _ := serve(t, &Server{Relay: Relay{Linger: linger}}, "", late)
		c := dial(t, "tcp", tcp)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != want || err != nil {
			t.Errorf("linger %v: %q %v", linger, got, err)
		}
	}
}

// TestReset: a peer's abort is one for the other side too, not an end.
func TestReset(t *testing.T) {
	tcp, _ := serve(t, &Server{}, "", func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_, _ = c.Write([]byte("part"))
		_ = c.SetLinger(0)
		c.Close()
	})
	c := dial(t, "tcp", tcp)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q %v", got, err)
	}
}

// TestSlow: neither a slow reader nor a slow writer loses a byte, nor does a
// peer that dies hold anything open.
func TestSlow(t *testing.T) {
	s := &Server{}
	tcp, _ := serve(t, s, "", echo)
	c := dial(t, "tcp", tcp)
	const size = 2 << 20
	go func() {
		_, _ = c.Write(make([]byte, size))
		_ = c.CloseWrite()
	}()
	total, buffer := 0, make([]byte, 64<<10)
	for {
		n, err := c.Read(buffer)
		total += n
		if err != nil {
			break
		}
		<-time.After(time.Millisecond)
	}
	if total != size {
		t.Errorf("%d bytes of %d", total, size)
	}
	dead := dial(t, "tcp", tcp)
	_, _ = dead.Write(make([]byte, 100))
	Abort(dead)
	waitFor(t, "the end of all connections", func() bool { return s.Connections() == 0 })
}

func waitFor(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// TestSilence ends what is silent, not what is slow.
func TestSilence(t *testing.T) {
	const idle = time.Second
	tcp, _ := serve(t, &Server{Relay: Relay{Idle: idle}}, "", echo)
	c := dial(t, "tcp", tcp)
	for range 8 { // for twice as long as it may be silent
		<-time.After(idle / 4)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("ended although it was not silent: %v", err)
		}
	}
	begin := time.Now()
	if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(begin) < idle/2 || time.Since(begin) > 10*idle {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

// TestLimit: more connections than allowed wait their turn.
func TestLimit(t *testing.T) {
	var said atomic.Int32
	tcp, _ := serve(t, &Server{Max: 3, Log: func(text string) {
		if text == "Hit connection limit, refusing connection." {
			said.Add(1)
		}
	}}, "", echo)
	var open []Conn
	for range 3 {
		c := dial(t, "tcp", tcp)
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	late := dial(t, "tcp", tcp)
	_, _ = late.Write([]byte("x"))
	waitFor(t, "the message", func() bool { return said.Load() == 1 })
	open[0].Close()
	if _, err := io.ReadFull(late, make([]byte, 1)); err != nil {
		t.Errorf("the one that waited: %v", err)
	}
}

// TestUnreachable: a destination that does not answer ends the connection, not
// the server.
func TestUnreachable(t *testing.T) {
	tcp, _ := serve(t, &Server{}, "127.0.0.1:1", nil)
	for range 2 {
		if got, err := io.ReadAll(dial(t, "tcp", tcp)); len(got) > 0 || err != nil {
			t.Errorf("%q %v", got, err)
		}
	}
}

// TestIdleCost: idle connections, up to 10,000, take two descriptors each and
// little memory.
func TestIdleCost(t *testing.T) {
	// Client, both sides of the relay, and server are all in this process.
	const each, spare, whole = 4, 2*idlePipes + 200, 10000
	count := min(whole, (raiseLimit(t)-spare)/each)
	if count < whole/10 {
		t.Fatalf("descriptors for %d connections only", count)
	}
	tcp, _ := serve(t, &Server{}, "", func(c *net.TCPConn) {
		defer c.Close()
		// Not io.Copy, which keeps a pipe while it waits.
		for b := make([]byte, 1); ; {
			if _, err := c.Read(b); err != nil {
				return
			}
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	before, memory := descriptors(t), resident(t)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range count {
		c, err := net.Dial("tcp", tcp)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if got := descriptors(t) - before; got > each*count+spare {
		t.Errorf("%d descriptors for %d connections", got, count)
	}
	const mebibyte = 1 << 20
	if got := resident(t) - memory; got > memoryFactor*250*mebibyte*count/whole {
		t.Errorf("%d MiB for %d connections, clients and servers included", got/mebibyte, count)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// resident is the memory this process has, in bytes.
func resident(t testing.TB) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// TestWithoutPipes: also without descriptors for pipes every byte arrives.
func TestWithoutPipes(t *testing.T) {
	tcp, path := serve(t, &Server{}, "", echo)
	for network, to := range map[string]string{"tcp": tcp, "unix": path} {
		c := dial(t, network, to)
		speaks(t, c)
		before := pipesOpen(t)
		free := allDescriptors(t)
		err := transfer(c, 20<<20, 3)
		if n := pipesOpen(t) - before; n > 0 {
			t.Errorf("%s: %d pipes", network, n)
		}
		free()
		if err != nil {
			t.Errorf("%s: %v", network, err)
		}
	}
}
