// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that move bytes are made without telling Go's scheduler. Telling it
// pays for calls that may block: another thread looks then, every 20 µs, whether
// it has to take over. These never block, as the sockets and pipes do not.

// read reads what is there.
func read(fd int, b []byte) (int, syscall.Errno) { return prompt(unix.SYS_READ, fd, b) }

// write writes what is taken.
func write(fd int, b []byte) (int, syscall.Errno) { return prompt(unix.SYS_WRITE, fd, b) }

func prompt(call uintptr, fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// splice moves bytes between a socket and a pipe.
func splice(from, to, size int) (int, syscall.Errno) {
	const flags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(size), flags)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// duplicate is another descriptor of the same file, which Go's poller does not
// know.
func duplicate(of syscall.Conn) (fd int, err error) {
	raw, err := of.SyscallConn()
	if err != nil {
		return -1, err
	}
	controlErr := raw.Control(func(original uintptr) { fd, err = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 0) })
	if controlErr != nil {
		return -1, controlErr
	}
	return fd, err
}

// keepAlive has dead peers noticed, and small messages sent at once. What a
// listener accepts has it from the listener.
func keepAlive(fd int) {
	const interval = 60
	// None of these fails on a TCP socket.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, interval)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, interval)
}
