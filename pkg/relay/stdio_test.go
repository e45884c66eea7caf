// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// caller is who started a program: what it writes to and reads from it, and what
// the program has.
type caller struct {
	to, from *os.File
	in, out  *os.File
}

// callers are the ways in which programs are started: by a shell, by qrexec, and
// by inetd.
func callers(t *testing.T) map[string]caller {
	t.Helper()
	sockets := func() (near, far *os.File) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(fds[0], true); err != nil { // so that a test can give up
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	}
	var shell, qrexec, inetd caller
	var err error
	if shell.in, shell.to, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	if shell.from, shell.out, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	qrexec.to, qrexec.in = sockets()
	qrexec.from, qrexec.out = sockets()
	inetd.to, inetd.in = sockets()
	fd, err := unix.FcntlInt(inetd.in.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	inetd.from, inetd.out = inetd.to, os.NewFile(uintptr(fd), "far")
	return map[string]caller{"shell": shell, "qrexec": qrexec, "inetd": inetd}
}

// endWrite ends what the caller writes.
func (c caller) endWrite() error {
	raw, err := c.to.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) })
	if errors.Is(err, unix.ENOTSOCK) {
		return c.to.Close()
	}
	return errors.Join(controlErr, err)
}

// TestStdio: a request's end reaches the server, whose answer arrives as a whole
// and ends; what the program itself prints does not get into it.
func TestStdio(t *testing.T) {
	const limit = time.Minute
	for name, c := range callers(t) {
		t.Run(name, func(t *testing.T) {
			conn, err := Stdio(c.in, c.out)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.out.Write([]byte("stray")); err != nil {
				t.Errorf("the null device: %v", err)
			}
			near, server := pair(t)
			done := make(chan result, 1)
			go func() {
				moved, err := Relay{}.Copy(conn, near)
				done <- result{moved, err}
			}()
			request, answer := make([]byte, 1<<20), make([]byte, 1<<20)
			_, _ = rand.Read(request)
			_, _ = rand.Read(answer)
			for _, f := range []*os.File{c.to, c.from} {
				if err := f.SetDeadline(time.Now().Add(limit)); err != nil {
					t.Fatal(err)
				}
			}
			sent := make(chan error, 1)
			go func() {
				_, err := c.to.Write(request)
				sent <- errors.Join(err, c.endWrite())
			}()
			if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, request) {
				t.Fatalf("the server got %d bytes of %d: %v", len(got), len(request), err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			go func() {
				_, _ = server.Write(answer)
				server.Close()
			}()
			if got, err := io.ReadAll(c.from); err != nil || !bytes.Equal(got, answer) {
				t.Errorf("the caller got %d bytes of %d: %v", len(got), len(answer), err)
			}
			if r := <-done; r.err != nil || r.moved != (Moved{int64(len(request)), int64(len(answer))}) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestStdioServerEndsFirst: what the caller still sends arrives after the
// server's end was passed on.
func TestStdioServerEndsFirst(t *testing.T) {
	for name, c := range callers(t) {
		t.Run(name, func(t *testing.T) {
			conn, err := Stdio(c.in, c.out)
			if err != nil {
				t.Fatal(err)
			}
			near, server := pair(t)
			done := make(chan result, 1)
			go func() {
				moved, err := Relay{}.Copy(conn, near)
				done <- result{moved, err}
			}()
			if err := server.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c.from); err != nil || len(got) > 0 {
				t.Fatalf("the caller got %q, %v", got, err)
			}
			if _, err := c.to.Write([]byte("late")); err != nil {
				t.Fatal(err)
			}
			if err := c.endWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(server); err != nil || string(got) != "late" {
				t.Errorf("the server got %q, %v", got, err)
			}
			if r := <-done; r.err != nil {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestStdioCloses: a relay can be ended from outside, although nobody moves.
func TestStdioCloses(t *testing.T) {
	for name, c := range callers(t) {
		t.Run(name, func(t *testing.T) {
			conn, err := Stdio(c.in, c.out)
			if err != nil {
				t.Fatal(err)
			}
			near, server := pair(t)
			done := make(chan result, 1)
			go func() {
				moved, err := Relay{}.Copy(conn, near)
				done <- result{moved, err}
			}()
			if _, err := server.Write([]byte("x")); err != nil { // it is at work
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c.from, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if r := <-done; r.err == nil {
				t.Error("an end from outside counts as success")
			}
			if conn.CloseWrite() == nil {
				t.Error("a closed one was ended")
			}
		})
	}
}

// TestStdioClosed: without a descriptor there is no connection.
func TestStdioClosed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := Stdio(r, w); err == nil {
		t.Error("a closed output was taken")
	}
	if _, err := Stdio(w, r); err == nil {
		t.Error("a closed input was taken")
	}
	var _ net.Conn = &stdio{}
}
