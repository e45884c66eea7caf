// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTimers: they fire in the order of their times, also when one is set anew
// or not to fire at all.
func TestTimers(t *testing.T) {
	e := engine(t)
	fired := make(chan int, 10)
	var all [5]timer
	after := [...]time.Duration{40, 10, 30, 20, 50}
	if !e.do(func() {
		for i := range all {
			all[i].fire = func() { fired <- i }
			e.set(&all[i], after[i]*time.Millisecond)
		}
		e.set(&all[1], 60*time.Millisecond)
		e.unset(&all[2])
		e.unset(&all[2])
	}) {
		t.Fatal("the engine does not work")
	}
	var got []int
	for range len(all) - 1 {
		select {
		case i := <-fired:
			got = append(got, i)
		case <-time.After(patience):
			t.Fatalf("only %v", got)
		}
	}
	if !slices.Equal(got, []int{3, 0, 4, 1}) || len(fired) > 0 {
		t.Errorf("%v", got)
	}
}

// TestEngineEnds: what it still relays is aborted, and nothing can be had of it
// any more.
func TestEngineEnds(t *testing.T) {
	e, err := NewEngine()
	if err != nil {
		t.Fatal(err)
	}
	client, a := pair(t)
	b, server := pair(t)
	end := make(chan error, 1)
	go func() {
		_, err := e.Join(context.Background(), Relay{}, a, b)
		end <- err
	}()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	e.Close()
	if err := <-end; err == nil {
		t.Error("an abort counts as success")
	}
	if got := descriptors(t); got != before-4 {
		t.Errorf("%d descriptors, %d before", got, before)
	}
	e.Answers()
	client, a = pair(t)
	if _, err := e.Join(context.Background(), Relay{}, a, b); err == nil {
		t.Error("an engine that has ended relays")
	}
	if n, err := client.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes", n)
	}
}

// TestJoinEnds: the end of a relay's context is an abort for both peers.
func TestJoinEnds(t *testing.T) {
	client, a := pair(t)
	b, server := pair(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	end := make(chan error, 1)
	e := engine(t)
	go func() {
		_, err := e.Join(ctx, Relay{}, a, b)
		end <- err
	}()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel(why)
	if err := <-end; !errors.Is(err, why) {
		t.Error(err)
	}
	for _, c := range []net.Conn{client, server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v, want a reset", err)
		}
	}
}

// TestFair: who has much to move does not keep others from having their turn.
func TestFair(t *testing.T) {
	tcp, _ := serve(t, &Server{}, "", echo)
	for range 3 {
		busy := dial(t, "tcp", tcp)
		go func() { _, _ = io.Copy(busy, reader0{}) }()
		go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{busy}) }()
		t.Cleanup(func() { Abort(busy) })
	}
	c := dial(t, "tcp", tcp)
	for range 100 {
		speaks(t, c)
	}
}

// TestLogBlocked: a log that nobody reads holds no connection up.
func TestLogBlocked(t *testing.T) {
	read := make(chan struct{})
	s := &Server{Log: func(string) { <-read }}
	l := listen(t)
	allow := false
	s.Allow = func(net.Addr) bool { allow = !allow; return allow }
	_, _ = served(t, s, patience, taken(t, l), accepting(t, echo))
	t.Cleanup(func() { close(read) }) // before the server's end, which waits for its log
	for range 2 * linesMax {
		c := dial(t, "tcp", l.Addr().String())
		speaks(t, c)
		c.Close()
		dial(t, "tcp", l.Addr().String()).Close() // refused, which is logged
	}
}

// TestQueueFull: who connects to a unix socket whose queue is full waits.
func TestQueueFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	s := &Server{Engine: engine(t)}
	_, _ = serveAt(t, s, patience, taken(t, l), Endpoint{"unix", path})
	const count = 5
	for range count {
		c := dial(t, "tcp", l.Addr().String())
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "all connections", func() bool { return s.Connections() == count })
	for range count {
		c, _, err := unix.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(c, make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("%d %v", n, err)
		}
		unix.Close(c)
	}
}

// TestConnectPending: a destination that does not answer holds the server's end
// up for no longer than it has to drain.
func TestConnectPending(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	to := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: at.(*unix.SockaddrInet4).Port}).String()
	dial(t, "tcp", to) // which fills the queue: later ones are not answered
	l := listen(t)
	s := &Server{Engine: engine(t)}
	stop, done := served(t, s, 10*time.Millisecond, taken(t, l), to)
	c := dial(t, "tcp", l.Addr().String())
	waitFor(t, "the connection", func() bool { return s.Connections() == 1 })
	stop()
	ended(t, "the server", done)
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d %v", n, err)
	}
}

// TestStraight: what is one address is connected to without asking.
func TestStraight(t *testing.T) {
	for _, c := range []struct {
		network, address string
		straight         bool
	}{
		{"tcp", "127.0.0.1:1", true}, {"tcp", "[::1]:1", true}, {"tcp4", "127.0.0.1:1", true}, {"tcp6", "[::1]:1", true},
		{"unix", "/x", true}, {"unix", "@x", true}, {"tcp", "[::ffff:127.0.0.1]:1", true},
		{"tcp", "localhost:1", false}, {"tcp4", "[::1]:1", false}, {"tcp6", "127.0.0.1:1", false},
		{"tcp", "0.0.0.0:1", false}, {"tcp", "[fe80::1%lo]:1", false},
	} {
		if d := NewDialer(Endpoint{c.network, c.address}); (d.known != nil) != c.straight {
			t.Errorf("%s %s: %v", c.network, c.address, d.known)
		}
	}
}

// TestName: a name is asked for, and an error is said in the program's words.
func TestName(t *testing.T) {
	_, port, err := net.SplitHostPort(accepting(t, echo))
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	_, _ = serveAt(t, &Server{Engine: engine(t)}, patience, taken(t, l), Endpoint{"tcp", "localhost:" + port})
	speaks(t, dial(t, "tcp", l.Addr().String()))

	for _, to := range []string{"localhost:1", "127.0.0.1:1"} {
		said := make(chan string, 1)
		l := listen(t)
		s := &Server{Engine: engine(t), To: NewDialer(Endpoint{"tcp", to}), Log: func(text string) { said <- text }}
		s.To.Explain = func(error) error { return errors.New("in our words") }
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); s.Serve(ctx, patience, taken(t, l)) }()
		if got, err := io.ReadAll(dial(t, "tcp", l.Addr().String())); len(got) > 0 || err != nil {
			t.Errorf("%q %v", got, err)
		}
		if got := <-said; got != "in our words" {
			t.Errorf("%q", got)
		}
		cancel()
		ended(t, "the server", done)
	}
}
