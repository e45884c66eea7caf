// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dialer connects to an endpoint; all addresses of a name are tried, in order.
type Dialer struct {
	Endpoint
	// Control is asked about each address, as a net.Dialer's is. The socket may
	// be nil.
	Control func(network, address string, _ syscall.RawConn) error
	// Explain, if any, says an error in the program's own words.
	Explain func(error) error

	known  unix.Sockaddr // if it is one address
	family int
	addr   net.Addr
}

// NewDialer returns a dialler to an endpoint.
func NewDialer(to Endpoint) *Dialer {
	d := &Dialer{Endpoint: to}
	if to.Network == "unix" {
		d.known, d.family, d.addr = &unix.SockaddrUnix{Name: to.Address}, unix.AF_UNIX, &net.UnixAddr{Name: to.Address, Net: to.Network}
		return d
	}
	// Of an address of no host, or one with a zone, Go knows more.
	at, err := netip.ParseAddrPort(to.Address)
	if err != nil || at.Addr().IsUnspecified() || at.Addr().Zone() != "" || to.Network != "tcp" && to.Network != familyOf(at.Addr()) {
		return d
	}
	d.addr = net.TCPAddrFromAddrPort(at)
	if ip := at.Addr().Unmap(); ip.Is4() {
		d.known, d.family = &unix.SockaddrInet4{Port: int(at.Port()), Addr: ip.As4()}, unix.AF_INET
	} else {
		d.known, d.family = &unix.SockaddrInet6{Port: int(at.Port()), Addr: ip.As16()}, unix.AF_INET6
	}
	return d
}

// Dial connects.
func (d *Dialer) Dial(ctx context.Context) (Conn, error) {
	c, err := (&net.Dialer{FallbackDelay: -1, Control: d.Control}).DialContext(ctx, d.Network, d.Address)
	if err != nil {
		if d.Explain != nil {
			err = d.Explain(err)
		}
		return nil, err
	}
	return c.(Conn), nil
}

// connect begins to connect to the known address; with EINPROGRESS the socket
// becomes writable when that is decided.
func (d *Dialer) connect() (fd int, err error) {
	if d.Control != nil {
		if err := d.Control(d.Network, d.addr.String(), nil); err != nil {
			return -1, err
		}
	}
	fd, err = unix.Socket(d.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if d.family != unix.AF_UNIX {
		keepAlive(fd)
	}
	err = unix.Connect(fd, d.known)
	if err == unix.EINTR {
		err = unix.EINPROGRESS // connect(2): it goes on
	}
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, err
}

// explain is an error as Go's dialler has it, or in the program's own words.
func (d *Dialer) explain(err error) error {
	err = &net.OpError{Op: "dial", Net: d.Network, Addr: d.addr, Err: err}
	if d.Explain != nil {
		return d.Explain(err)
	}
	return err
}
