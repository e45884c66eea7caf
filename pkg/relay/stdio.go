// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Stdio makes one connection of what a program reads and what it writes: pipes
// or sockets, as qrexec, inetd and shells give them. It takes both over: whatever
// else the program writes there is lost, so that it cannot get into the stream,
// and an end is an end because nobody else holds the pipe.
func Stdio(in, out *os.File) (Stream, error) {
	r, err := claim(in, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	w, err := claim(out, unix.O_WRONLY)
	if err != nil {
		r.Close()
		return nil, err
	}
	return &stdio{r, w}, nil
}

// claim moves a file to another descriptor, which can be waited for, and
// leaves the null device in its place.
func claim(f *os.File, flag int) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	moved := -1
	controlErr := raw.Control(func(fd uintptr) { moved, err = move(int(fd), flag) })
	if err := errors.Join(controlErr, err); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(moved), f.Name()), nil
}

func move(fd, flag int) (int, error) {
	const beyondStandard = 3
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, beyondStandard)
	if err != nil {
		return -1, err
	}
	null, err := unix.Open(os.DevNull, flag|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Dup3(null, fd, unix.O_CLOEXEC)
		unix.Close(null)
	}
	if err == nil {
		err = unix.SetNonblock(moved, true)
	}
	if err != nil {
		unix.Close(moved)
		return -1, err
	}
	return moved, nil
}

// stdio is a connection of two descriptors.
type stdio struct{ in, out *os.File }

func (s *stdio) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *stdio) Write(b []byte) (int, error) { return s.out.Write(b) }

// CloseWrite ends a socket's direction, which may be the same socket as is read
// from; a pipe ends when it is closed.
func (s *stdio) CloseWrite() error {
	raw, err := s.out.SyscallConn()
	if err != nil {
		return net.ErrClosed
	}
	var ended error
	if err := raw.Control(func(fd uintptr) { ended = unix.Shutdown(int(fd), unix.SHUT_WR) }); err != nil {
		return net.ErrClosed
	}
	if errors.Is(ended, unix.ENOTSOCK) {
		return s.out.Close()
	}
	return ended
}

func (s *stdio) Close() error { return errors.Join(s.in.Close(), s.out.Close()) }

func (s *stdio) LocalAddr() net.Addr  { return &net.UnixAddr{Name: "standard output", Net: "unix"} }
func (s *stdio) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "standard input", Net: "unix"} }

func (s *stdio) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}
func (s *stdio) SetReadDeadline(t time.Time) error  { return s.in.SetReadDeadline(t) }
func (s *stdio) SetWriteDeadline(t time.Time) error { return s.out.SetWriteDeadline(t) }
