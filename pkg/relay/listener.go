// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// Listener is a listening socket of a Server's.
type Listener struct {
	fd   int // -1 is closed
	addr net.Addr

	path string // of a unix socket that goes with its listener, if it is still
	file fsx.Identity
}

// TakeListener has a listener go on as one of ours. A unix socket's path stays
// when it is closed.
func TakeListener(l net.Listener) (*Listener, error) {
	c, ok := l.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	fd, err := duplicate(c)
	if err != nil {
		return nil, err
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return newListener(fd, l.Addr()), l.Close()
}

// newListener makes a listener of its socket.
func newListener(fd int, addr net.Addr) *Listener {
	if _, ok := addr.(*net.TCPAddr); ok {
		keepAlive(fd)
	}
	return &Listener{fd: fd, addr: addr}
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.addr }

// Close ends the listener, and removes the path if it goes with it and is still
// the socket.
func (l *Listener) Close() error {
	if l.fd < 0 {
		return nil
	}
	var err error
	if l.path != "" && l.file.IsAt(unix.AT_FDCWD, l.path) {
		err = unix.Unlink(l.path)
	}
	err = errors.Join(err, unix.Close(l.fd))
	l.fd = -1
	return err
}

// accept takes a connection, and says whose if that is of interest.
func (l *Listener) accept(who bool) (fd int, client net.Addr, err error) {
	const flags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if !who {
		n, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(l.fd), 0, 0, flags, 0, 0)
		if errno != 0 {
			return -1, nil, os.NewSyscallError("accept4", errno)
		}
		return int(n), nil, nil
	}
	fd, from, err := unix.Accept4(l.fd, flags)
	if err != nil {
		return -1, nil, os.NewSyscallError("accept4", err)
	}
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		client = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(from.Addr), uint16(from.Port)))
	case *unix.SockaddrInet6:
		client = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom16(from.Addr), uint16(from.Port)))
	default:
		client = &net.UnixAddr{Net: "unix"}
	}
	return fd, client, nil
}
