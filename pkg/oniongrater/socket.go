// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// socket is a connection that is read and written without telling Go's scheduler
// of each system call. Telling it pays for calls that may block: it wakes a thread
// that looks, every 20 µs, whether another one has to take over. These never block,
// as they ask for MSG_DONTWAIT, and what they do takes less time than the waking.
// Waiting is left to the runtime's poller, with deadlines and Close as ever.
type socket struct {
	net.Conn
	raw syscall.RawConn
}

// newSocket takes over a connection; nil if it has no descriptor.
func newSocket(c net.Conn) (*socket, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, os.ErrInvalid
	}
	raw, err := sc.SyscallConn()
	return &socket{Conn: c, raw: raw}, err
}

// Read reads what is there, and waits until something is.
func (s *socket) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	rawErr := s.raw.Read(func(fd uintptr) bool {
		n, err = prompt(syscall.SYS_RECVFROM, fd, b, syscall.MSG_DONTWAIT)
		return err != syscall.EAGAIN
	})
	switch {
	case rawErr != nil:
		return 0, rawErr
	case err != nil:
		return 0, os.NewSyscallError("recvfrom", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all, and waits where the kernel does not take it.
func (s *socket) Write(b []byte) (n int, err error) {
	rawErr := s.raw.Write(func(fd uintptr) bool {
		for n < len(b) && err == nil {
			var taken int
			taken, err = prompt(syscall.SYS_SENDTO, fd, b[n:], syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
			n += taken
		}
		if err == syscall.EAGAIN {
			err = nil
			return false
		}
		return true
	})
	if rawErr != nil {
		return n, rawErr
	}
	if err != nil {
		err = os.NewSyscallError("sendto", err)
	}
	return n, err
}

// try writes what the kernel takes at once, perhaps nothing.
func (s *socket) try(b []byte) (n int, err error) {
	rawErr := s.raw.Write(func(fd uintptr) bool {
		if len(b) > 0 {
			n, err = prompt(syscall.SYS_SENDTO, fd, b, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		}
		return true
	})
	switch {
	case rawErr != nil:
		return 0, rawErr
	case err == syscall.EAGAIN:
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("sendto", err)
	}
	return n, nil
}

// prompt is recvfrom or sendto. The flags must hold MSG_DONTWAIT.
func prompt(call, fd uintptr, b []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
			continue
		}
		return 0, errno
	}
}
