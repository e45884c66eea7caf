// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReturnFile puts a copy of our descriptor fd into the caller's process, at
// the lowest free number, which the call returns.
func (l *Listener) ReturnFile(n *Notification, fd int, closeOnExec bool) error {
	a := addition{id: n.ID, source: uint32(fd), flags: unix.SECCOMP_ADDFD_FLAG_SEND, targetFlag: fileFlags(closeOnExec)}
	_, err := l.add(&a)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Before Linux 5.14 it takes two steps: a caller that is killed between
	// them has had a descriptor too many.
	a.flags = 0
	number, err := l.add(&a)
	if err != nil {
		return err
	}
	return l.Return(n, int64(number))
}

// ReplaceFile puts a copy of our descriptor fd into the caller's process in
// the place of its descriptor number. The call still waits for its answer.
func (l *Listener) ReplaceFile(n *Notification, fd, number int, closeOnExec bool) error {
	_, err := l.add(&addition{
		id: n.ID, source: uint32(fd), flags: unix.SECCOMP_ADDFD_FLAG_SETFD,
		target: uint32(number), targetFlag: fileFlags(closeOnExec),
	})
	return err
}

func fileFlags(closeOnExec bool) uint32 {
	if closeOnExec {
		return unix.O_CLOEXEC
	}
	return 0
}

func (l *Listener) add(a *addition) (int, error) {
	number, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_ADDFD, uintptr(unsafe.Pointer(a)))
	switch errno {
	case 0:
		return int(number), nil
	case unix.ENOENT:
		return -1, ErrGone
	}
	return -1, errno
}

// CheckInjection reports, as an error, whether the kernel cannot put
// descriptors into other processes (before Linux 5.9). Kernels that cannot do
// not say either when the last thread with the filter is gone.
func (l *Listener) CheckInjection() error {
	const nobody = ^uint64(0)
	_, err := l.add(&addition{id: nobody, source: uint32(l.fd)})
	if errors.Is(err, ErrGone) {
		return nil
	}
	return fmt.Errorf("%w: descriptors cannot be added: %w", ErrUnsupported, err)
}
