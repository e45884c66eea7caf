// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a TCP connection by its two ends.
func pair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// engine is one for a test.
func engine(t testing.TB) *Engine {
	t.Helper()
	e, err := NewEngine()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

type result struct {
	moved Moved
	err   error
}

// joined is a client and a server with a relay between them.
func joined(t testing.TB, r Relay) (client, server *net.TCPConn, end <-chan result) {
	t.Helper()
	client, a := pair(t)
	b, server := pair(t)
	done := make(chan result, 1)
	e := engine(t)
	go func() {
		moved, err := e.Join(context.Background(), r, a, b)
		done <- result{moved, err}
	}()
	return client, server, done
}

// TestHalfClose: the request's end reaches the server, which still answers.
func TestHalfClose(t *testing.T) {
	client, server, end := joined(t, Relay{})
	request := make([]byte, 3<<20)
	_, _ = rand.Read(request)
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(request)
		sent <- errors.Join(err, client.CloseWrite())
	}()
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, request) {
		t.Fatalf("the server got %d bytes of %d: %v", len(got), len(request), err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, err := server.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != "answer" {
		t.Errorf("the client got %q, %v", got, err)
	}
	if r := <-end; r.err != nil || r.moved != (Moved{int64(len(request)), 6}) {
		t.Errorf("%+v", r)
	}
}

// TestAbort: a reset on one side is a reset on the other, not an end.
func TestAbort(t *testing.T) {
	client, server, end := joined(t, Relay{})
	if _, err := server.Write([]byte("half an ans")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("half an ans"))
	if _, err := io.ReadFull(client, got); err != nil {
		t.Fatal(err)
	}
	Abort(server)
	if n, err := client.Read(got); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client read %d bytes, %v; want a reset", n, err)
	}
	if r := <-end; r.err == nil {
		t.Error("an abort counts as success")
	}
}

// TestIdle: silence ends a relay, traffic in one direction keeps it.
func TestIdle(t *testing.T) {
	const idle = 100 * time.Millisecond
	client, server, end := joined(t, Relay{Idle: idle})
	begin := time.Now()
	for time.Since(begin) < 4*idle { // a pulse well within the limit
		if _, err := server.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
			t.Fatalf("after %v: %v", time.Since(begin), err)
		}
		pause(t, idle/4)
	}
	quiet := time.Now()
	if r := <-end; !errors.Is(r.err, ErrIdle) {
		t.Errorf("%+v", r)
	}
	if took := time.Since(quiet); took > 20*idle {
		t.Errorf("ended after %v", took)
	}
}

// pause is the interval of a pulse, which is what is tested, not a wait for
// something to be ready.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
}

func BenchmarkBulk(b *testing.B) {
	client, server, end := joined(b, Relay{})
	block := make([]byte, 256<<10)
	b.SetBytes(int64(len(block)))
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, server)
		server.Close()
		done <- err
	}()
	for b.Loop() {
		if _, err := client.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	client.Close()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	<-end
}

// BenchmarkExchange is a small question and its answer.
func BenchmarkExchange(b *testing.B) {
	client, server, end := joined(b, Relay{})
	go func() {
		message := make([]byte, 64)
		for {
			if _, err := io.ReadFull(server, message); err != nil {
				server.Close()
				return
			}
			if _, err := server.Write(message); err != nil {
				return
			}
		}
	}()
	message := make([]byte, 64)
	for b.Loop() {
		if _, err := client.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, message); err != nil {
			b.Fatal(err)
		}
	}
	client.Close()
	<-end
}
