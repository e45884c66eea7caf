// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/seccomp"
)

// byValue answers a call of ModeValue. Only what stands in registers is used;
// the program's memory is not read. The sockets are made here, and the program
// gets them; so they can be bound here.
func (h *helper) byValue(n *seccomp.Notification) verdict {
	kind := kindOf(n.Call)
	switch kind {
	case socketCall:
		return h.makeSocket(n)
	case bindCall, listenCall, connectCall:
	default:
		return verdict{errno: unix.ENOSYS}
	}
	number := int(int32(n.Call.Args[0]))
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.TID, number))
	switch {
	case errors.Is(err, unix.ENOENT):
		return verdict{proceed: true} // no descriptor: the kernel refuses it
	case err != nil:
		return h.unreadable(n, err)
	}
	caller, err := readProcess(int(n.TID))
	if err != nil {
		return h.unreadable(n, err)
	}
	if !h.listener.Valid(n) {
		return verdict{answered: true}
	}
	fd, socketKind, ok, err := h.held.take(name)
	if err != nil {
		return verdict{errno: errnoOf(err, unix.EMFILE)}
	}
	if !ok {
		return verdict{proceed: true} // inherited, received, or of another family
	}
	defer unix.Close(fd)
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	s := valueSocket{helper: h, caller: caller, number: number, name: name, fd: fd, domain: domain, kind: socketKind}
	switch kind {
	case bindCall:
		return s.bind()
	case connectCall:
		return s.connect()
	}
	return s.listen(n)
}

// makeSocket makes the socket that the program asks for.
func (h *helper) makeSocket(n *seccomp.Notification) verdict {
	caller, err := readProcess(int(n.TID))
	if err != nil {
		return h.unreadable(n, err)
	}
	if !h.listener.Valid(n) {
		return verdict{answered: true}
	}
	if caller.fsuid != h.own.fsuid || caller.net != h.own.net || caller.label != h.own.label {
		h.journal.report("foreign", fmt.Errorf("left alone the sockets of process %d: another account, network or label", caller.group))
		return verdict{proceed: true}
	}
	domain, kind := int(uint32(n.Call.Args[0])), int(uint32(n.Call.Args[1]))
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, int(uint32(n.Call.Args[2])))
	if err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	if err := h.caps.lend(caller, h.own, func() error { h.settings.setOptions(fd, domain); return nil }); err != nil {
		unix.Close(fd)
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	name, err := h.held.add(heldSocket{fd: fd, kind: kind & typeMask, owner: caller.group})
	if err != nil {
		unix.Close(fd)
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	err = h.listener.ReturnFile(n, fd, kind&unix.SOCK_CLOEXEC != 0)
	if err == nil {
		return verdict{answered: true}
	}
	h.held.drop(name)
	if errors.Is(err, seccomp.ErrGone) {
		return verdict{answered: true}
	}
	return verdict{errno: errnoOf(err, unix.EMFILE)} // the program has too many
}

// valueSocket is a socket of the program about which it makes a call.
type valueSocket struct {
	*helper
	caller process
	number int    // in the program
	name   string // in the registry
	fd     int    // our duplicate
	domain int
	kind   int
}

// wanted is the settings' address, where a socket asks for another one.
func (s valueSocket) wanted(asked []byte) []byte {
	return s.settings.Bind(s.family(), asked)
}

func (s valueSocket) family() Family { return Family{Domain: s.domain, Scope: s.scope} }

// any is an address of the socket's family that says nothing.
func (s valueSocket) any() []byte {
	if s.domain == unix.AF_INET6 {
		return newInet6()
	}
	return newInet4()
}

// replaced reports whether the settings have an address, or a port, for the
// socket, and whether they have both, so that what it asks for does not matter.
func (s valueSocket) replaced() (some, all bool) {
	addr, port := s.settings.Addr.IsValid(), s.settings.Port != 0
	if s.domain == unix.AF_INET6 {
		addr = s.settings.Addr6.IsValid()
	}
	return addr || port, addr && port
}

// bind binds where the address does not matter because both its parts are
// replaced. Else the program binds to what it asks for, and is moved when it
// listens; so is one of IPv6, which may ask for an IPv4-mapped address.
func (s valueSocket) bind() verdict {
	s.held.collectBound(s.name)
	datagram := s.kind == unix.SOCK_DGRAM
	some, all := s.replaced()
	if !all || s.domain == unix.AF_INET6 && !datagram {
		if datagram && some {
			s.journal.report("datagram", fmt.Errorf("process %d binds a UDP socket: its address is not rewritten in mode value "+
				"unless BIND_ADDR (BIND_ADDR6 for IPv6) and BIND_PORT are both set", s.caller.group))
			s.held.drop(s.name)
		}
		return verdict{proceed: true}
	}
	err := s.caps.lend(s.caller, s.own, func() error { return bindRaw(s.fd, s.wanted(s.any())) })
	if err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	if datagram {
		s.held.drop(s.name)
	}
	return verdict{}
}

// connect binds a socket that is not bound. Our duplicate must be gone before
// the program can close its own: else the other side would not see the end.
// Whether a socket of IPv6 goes to an IPv4-mapped address is not known: then
// the kernel refuses to connect from where it is bound.
func (s valueSocket) connect() verdict {
	done, err := bound(s.fd)
	source := s.settings.Connect(s.family(), s.any())
	if err == nil && !done && source != nil {
		err = s.caps.lend(s.caller, s.own, func() error { return bindBefore(s.fd, source) })
	}
	if err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	s.held.drop(s.name)
	return verdict{proceed: true}
}

// listen moves a socket to its address: a new one is bound there, takes the
// number of the old one in the program, and listens.
func (s valueSocket) listen(n *seccomp.Notification) verdict {
	asked, err := localAddress(s.fd)
	if err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	address := s.wanted(asked)
	if s.kind != unix.SOCK_STREAM || port(asked) == 0 || bytes.Equal(address, asked) {
		if s.kind == unix.SOCK_STREAM {
			s.held.drop(s.name) // it is where it should be, or listens without bind
		}
		return verdict{proceed: true}
	}
	shared, _ := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT) // before moved may change it
	fresh, err := s.moved(address)
	if err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	defer unix.Close(fresh)
	closeOnExec, err := closesOnExec(int(n.TID), s.number)
	if err == nil {
		err = s.listener.ReplaceFile(n, fresh, s.number, closeOnExec)
	}
	if errors.Is(err, seccomp.ErrGone) {
		return verdict{answered: true}
	}
	if err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	s.held.drop(s.name)
	if err := unix.Listen(fresh, int(int32(n.Call.Args[1]))); err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	if err := unix.SetsockoptInt(fresh, unix.SOL_SOCKET, unix.SO_REUSEPORT, shared); err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	return verdict{}
}

// moved is a new socket like the one at hand, bound to address.
func (s valueSocket) moved(address []byte) (int, error) {
	status, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0)
	if err != nil {
		return -1, err
	}
	fresh, err := unix.Socket(s.domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|status&unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = s.caps.lend(s.caller, s.own, func() error {
		copyOptions(s.fd, fresh)
		err := bindRaw(fresh, address)
		if errors.Is(err, unix.EADDRINUSE) {
			// The old one is in the way when it is bound to any address. The
			// kernel lets two of one account share a port when both agree.
			err = share(s.fd, fresh, address)
		}
		return err
	})
	if err != nil {
		unix.Close(fresh)
		return -1, err
	}
	return fresh, nil
}
