// SPDX-License-Identifier: GPL-3.0-or-later

package execx

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OrphanSocket is an orphan's only descriptor besides the standard ones.
const OrphanSocket = 3

// aboveStandard is a number above all that are given a new meaning between
// fork and exec.
const aboveStandard = 10

// sigSetMask is SIG_SETMASK of rt_sigprocmask(2).
const sigSetMask = 2

// orphan is what a process needs that is started without a parent.
type orphan struct {
	path          *byte
	argv, environ []*byte
	directory     *byte
	socket, null  uintptr

	none   uint64    // no signals blocked
	normal [4]uint64 // default disposition
}

// StartOrphan starts a program as a child of init, in a session of its own, in
// directory /, with /dev/null as standard descriptors, with socket as
// OrphanSocket and nothing else: the program that we become has no child that
// it does not know, and no pipe of it waits for another process.
func StartOrphan(path string, argv, environ []string, socket int) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	o := &orphan{}
	for _, c := range []struct {
		from int
		to   *uintptr
	}{{socket, &o.socket}, {int(null.Fd()), &o.null}} {
		fd, err := unix.FcntlInt(uintptr(c.from), unix.F_DUPFD_CLOEXEC, aboveStandard)
		if err != nil {
			return fmt.Errorf("duplicate a descriptor: %w", err)
		}
		defer unix.Close(fd)
		*c.to = uintptr(fd)
	}
	if o.path, err = syscall.BytePtrFromString(path); err != nil {
		return err
	}
	if o.argv, err = syscall.SlicePtrFromStrings(argv); err != nil {
		return err
	}
	if o.environ, err = syscall.SlicePtrFromStrings(environ); err != nil {
		return err
	}
	if o.directory, err = syscall.BytePtrFromString("/"); err != nil {
		return err
	}
	return o.start()
}

// start forks twice. No handler of the Go runtime may run in a child, which
// has one thread of it only; so all signals are blocked around the fork.
func (o *orphan) start() error {
	all, before := ^uint64(0), uint64(0)
	if err := signalMask(&all, &before); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	pid, errno := o.fork()
	if err := signalMask(&before, nil); err != nil {
		return fmt.Errorf("unblock signals: %w", err)
	}
	if errno != 0 {
		return fmt.Errorf("fork: %w", errno)
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(int(pid), &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for the process between: %w", err)
		}
		break
	}
	if status.ExitStatus() != 0 {
		return fmt.Errorf("fork: %w", unix.Errno(status.ExitStatus()))
	}
	return nil
}

func signalMask(set, old *uint64) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, sigSetMask,
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), signalSetBytes, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// fork returns in the parent only. The children make system calls and nothing
// else: no allocation, no growth of the stack, no race detector.
//
//go:nosplit
//go:norace
func (o *orphan) fork() (pid uintptr, errno syscall.Errno) {
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		errno = o.exec()
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(errno), 0, 0)
	}
}

// exec returns only when it failed.
//
//go:nosplit
//go:norace
func (o *orphan) exec() syscall.Errno {
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0); errno != 0 {
		return errno
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(o.directory)), 0, 0); errno != 0 {
		return errno
	}
	for fd := uintptr(0); fd < OrphanSocket; fd++ {
		if _, _, errno := syscall.RawSyscall(unix.SYS_DUP3, o.null, fd, 0); errno != 0 {
			return errno
		}
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_DUP3, o.socket, OrphanSocket, 0); errno != 0 {
		return errno
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, OrphanSocket+1, uintptr(^uint32(0)), 0); errno != 0 {
		return errno
	}
	for sig := uintptr(1); sig <= signalMax; sig++ { // KILL and STOP refuse
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&o.normal)), 0, signalSetBytes, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&o.none)), 0, signalSetBytes, 0, 0)
	_, _, errno := syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(o.path)),
		uintptr(unsafe.Pointer(&o.argv[0])), uintptr(unsafe.Pointer(&o.environ[0])))
	return errno
}
