// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnsupported says that this kernel, or a sandbox around this program, has
// no filters with listeners.
var ErrUnsupported = errors.New("no seccomp listeners here")

// ErrListening says that a filter of the calling thread has a listener
// already; the kernel allows one.
var ErrListening = errors.New("there is a seccomp listener already")

// NoNewPrivileges makes the calling thread, and what it executes, unable to
// gain privileges, see PR_SET_NO_NEW_PRIVS(2const). Without CAP_SYS_ADMIN the
// kernel wants this before it installs a filter. It cannot be undone.
func NoNewPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

// Install installs the filter on the calling thread, which the caller has
// locked, and on all that descends from it. It cannot be undone. The
// listener's descriptor is closed on exec.
func Install(program []unix.SockFilter) (listener int, err error) {
	if len(program) == 0 || len(program) > unix.BPF_MAXINSNS {
		return -1, ErrTooLong
	}
	// With WAIT_KILLABLE_RECV (Linux 5.19) a call that a listener works on is
	// interrupted by fatal signals only, so that what was done is not done
	// again.
	const wanted = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	listener, err = install(program, wanted)
	if errors.Is(err, unix.EINVAL) {
		listener, err = install(program, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	}
	switch {
	case err == nil:
		return listener, nil
	case errors.Is(err, unix.EBUSY):
		return -1, ErrListening
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return -1, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return -1, fmt.Errorf("install a seccomp filter: %w", err)
}

// Restrict installs a filter that reports nothing, on the calling thread, which
// the caller has locked, and on all that descends from it. It cannot be undone.
func Restrict(program []unix.SockFilter) error {
	if len(program) == 0 || len(program) > unix.BPF_MAXINSNS {
		return ErrTooLong
	}
	if _, err := install(program, 0); err != nil {
		return fmt.Errorf("install a seccomp filter: %w", err)
	}
	return nil
}

func install(program []unix.SockFilter, flags uintptr) (int, error) {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
