// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/seccomp"
)

// request is a call with its arguments.
type request struct {
	kind    kind
	fd      int
	address uintptr
	length  int32
}

// kind is which call it is.
type kind int

// The calls that are reported.
const (
	otherCall kind = iota
	socketCall
	bindCall
	connectCall
	listenCall
	bundledCall // socketcall(2)
)

// kindOf tells which call a notification is about.
func kindOf(c seccomp.Call) kind {
	for _, abi := range []seccomp.ABI{seccomp.Native(), seccomp.Compat()} {
		if c.Arch != abi.Arch {
			continue
		}
		switch uint32(c.Number) {
		case abi.Bind:
			return bindCall
		case abi.Connect:
			return connectCall
		case abi.Socket:
			return socketCall
		case abi.Listen:
			return listenCall
		case abi.Socketcall:
			return bundledCall
		}
	}
	return otherCall
}

// byAddress answers a call of ModeAddress. The program's memory is read once:
// what is decided about is what is used, whatever other threads write there.
func (h *helper) byAddress(n *seccomp.Notification) verdict {
	r := request{kind: kindOf(n.Call), fd: int(int32(n.Call.Args[0])), address: uintptr(n.Call.Args[1]), length: int32(n.Call.Args[2])}
	if r.kind == bundledCall {
		var err error
		if r, err = unbundle(n); err != nil {
			return h.unreadable(n, err)
		}
	}
	if r.kind != bindCall && r.kind != connectCall {
		return verdict{errno: unix.ENOSYS}
	}
	fd, err := duplicate(int(n.TID), r.fd)
	if err != nil {
		return h.unreadable(n, err)
	}
	defer unix.Close(fd)
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_INET && domain != unix.AF_INET6 {
		// No socket, or one whose addresses are the program's own business:
		// names of files are relative to it, and peers see who has called.
		return verdict{proceed: true}
	}
	return h.inet(n, r, fd, domain)
}

// unbundle reads the arguments of a call by socketcall(2): three words of 32
// bits.
func unbundle(n *seccomp.Notification) (request, error) {
	const words, wordSize = 3, 4
	block := make([]byte, words*wordSize)
	if err := readMemory(int(n.TID), uintptr(uint32(n.Call.Args[1])), block); err != nil {
		return request{}, err
	}
	word := func(i int) uint32 { return binary.NativeEndian.Uint32(block[i*wordSize:]) }
	r := request{fd: int(int32(word(0))), address: uintptr(word(1)), length: int32(word(2))}
	switch uint32(n.Call.Args[0]) {
	case seccomp.SocketcallBind:
		r.kind = bindCall
	case seccomp.SocketcallConnect:
		r.kind = connectCall
	}
	return r, nil
}

// unreadable is the answer where something of the program could not be read.
// EFAULT and EBADF are the program's own doing.
func (h *helper) unreadable(n *seccomp.Notification, err error) verdict {
	switch errno := errnoOf(err, unix.EACCES); errno {
	case unix.EFAULT, unix.EBADF:
		return verdict{errno: errno}
	}
	if h.listener.Valid(n) {
		h.journal.report("unreadable", fmt.Errorf("refused a call of thread %d, whose memory may not be read: %w", n.TID, err))
	}
	return verdict{errno: unix.EACCES}
}

// inet answers a call about a socket of AF_INET or AF_INET6, of which fd is a
// duplicate.
func (h *helper) inet(n *seccomp.Notification, r request, fd, domain int) verdict {
	if r.length < 0 || r.length > maxAddress {
		return verdict{errno: unix.EINVAL}
	}
	if r.length < sizeFamily {
		return verdict{proceed: true} // the kernel refuses it
	}
	asked := make([]byte, r.length)
	if err := readMemory(int(n.TID), r.address, asked); err != nil {
		return h.unreadable(n, err)
	}
	caller, err := readProcess(int(n.TID))
	if err != nil {
		return h.unreadable(n, err)
	}
	if !h.listener.Valid(n) {
		return verdict{answered: true} // all of this may have been another thread's
	}
	if caller.label != h.own.label {
		h.journal.report("label", fmt.Errorf("left alone a call of process %d, which is confined differently (%s, here %s)",
			caller.group, caller.label, h.own.label))
		return verdict{proceed: true}
	}
	f := Family{Domain: domain, Scope: h.scope}
	if r.kind == bindCall {
		return h.bind(caller, f, fd, asked)
	}
	return h.connect(caller, f, fd, asked)
}

// bind binds the duplicate in the place of the program. The kernel is not told
// to go on, which would read the address again, except for IPv6 sockets when
// nothing is said about IPv6.
func (h *helper) bind(caller process, f Family, fd int, asked []byte) verdict {
	untouched := f.Domain == unix.AF_INET6 && !h.settings.Addr6.IsValid()
	err := h.caps.lend(caller, h.own, func() error {
		h.settings.setOptions(fd, f.Domain)
		if untouched {
			return nil
		}
		return bindRaw(fd, h.settings.Bind(f, asked))
	})
	if err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	return verdict{proceed: untouched}
}

// connect binds the duplicate, unless it is bound, and lets the program
// connect for itself: blocking, signals and credentials are its own.
func (h *helper) connect(caller process, f Family, fd int, asked []byte) verdict {
	source := h.settings.Connect(f, asked)
	if source == nil {
		return verdict{proceed: true}
	}
	done, err := bound(fd)
	if err == nil && !done {
		err = h.caps.lend(caller, h.own, func() error {
			h.settings.setOptions(fd, f.Domain)
			return bindBefore(fd, source)
		})
	}
	if err != nil {
		return verdict{errno: errnoOf(err, unix.EACCES)}
	}
	return verdict{proceed: true}
}
