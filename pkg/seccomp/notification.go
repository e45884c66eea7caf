// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Notification is a system call that waits for its answer: struct
// seccomp_notif of <linux/seccomp.h>.
type Notification struct {
	ID    uint64
	TID   uint32 // thread, in the listener's PID namespace; 0 when not visible there
	flags uint32
	Call  Call
}

// Call is struct seccomp_data of <linux/seccomp.h>.
type Call struct {
	Number      int32
	Arch        uint32
	Instruction uint64
	Args        [argCount]uint64
}

// response is struct seccomp_notif_resp of <linux/seccomp.h>.
type response struct {
	id    uint64
	value int64
	error int32
	flags uint32
}

// addition is struct seccomp_notif_addfd of <linux/seccomp.h>.
type addition struct {
	id         uint64
	flags      uint32
	source     uint32
	target     uint32
	targetFlag uint32
}

// sizes is struct seccomp_notif_sizes of <linux/seccomp.h>.
type sizes struct{ notification, response, data uint16 }

// ErrGone says that the thread no longer waits: it was killed, or a signal
// ended its wait.
var ErrGone = errors.New("the thread no longer waits for its call")

// ErrClosed says that no thread with the filter is left.
var ErrClosed = errors.New("no thread with the filter is left")

// Listener is the other end of an installed filter.
type Listener struct {
	fd     int
	buffer []uint64 // for one notification of the kernel's size, aligned
}

// NewListener takes over a descriptor that Install returned.
func NewListener(fd int) (*Listener, error) {
	var s sizes
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&s)))
	if errno != 0 {
		return nil, fmt.Errorf("sizes of seccomp notifications: %w", errno)
	}
	// A newer kernel's structures are longer than ours and begin the same.
	const word = 8
	n := max(uintptr(s.notification), unsafe.Sizeof(Notification{}))
	l := &Listener{fd: fd, buffer: make([]uint64, (n+word-1)/word)}
	// With it (Linux 6.6) the kernel hands the processor over to the side that
	// was waited for: one switch less for each answer. Older ones do without.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	return l, nil
}

// Close closes the descriptor: calls that wait, and all later ones that the
// filter reports, fail with ENOSYS.
func (l *Listener) Close() error { return unix.Close(l.fd) }

func (l *Listener) ioctl(request uintptr, p unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), request, uintptr(p))
	switch errno {
	case 0:
		return nil
	case unix.ENOENT:
		return ErrGone
	}
	return errno
}

// receive takes the next notification; ErrGone when its thread was gone first.
// Only one goroutine may receive.
func (l *Listener) receive() (Notification, error) {
	clear(l.buffer) // the kernel refuses anything but zeros
	if err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&l.buffer[0])); err != nil {
		return Notification{}, err
	}
	return *(*Notification)(unsafe.Pointer(&l.buffer[0])), nil
}

// Valid reports whether the thread still waits: while it does, its TID is its
// own and nobody else's, and what was read about it before is about it.
func (l *Listener) Valid(n *Notification) bool {
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&n.ID)) == nil
}

// Continue lets the kernel make the call as if it had not been reported. The
// kernel reads the memory of the caller once more, which another thread may
// have changed.
func (l *Listener) Continue(n *Notification) error {
	return l.respond(&response{id: n.ID, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
}

// Return makes the call return value.
func (l *Listener) Return(n *Notification, value int64) error {
	return l.respond(&response{id: n.ID, value: value})
}

// Fail makes the call fail with errno.
func (l *Listener) Fail(n *Notification, errno unix.Errno) error {
	return l.respond(&response{id: n.ID, error: -int32(errno)})
}

func (l *Listener) respond(r *response) error {
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(r))
}
