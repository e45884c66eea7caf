// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxAddress is the size of struct sockaddr_storage: what the kernel takes at
// most.
const maxAddress = 128

// bindRaw is bind(2) with an address of any form.
func bindRaw(fd int, address []byte) error {
	var p unsafe.Pointer
	if len(address) > 0 {
		p = unsafe.Pointer(&address[0])
	}
	_, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(p), uintptr(len(address)))
	if errno != 0 {
		return errno
	}
	return nil
}

// localAddress is getsockname(2).
func localAddress(fd int) ([]byte, error) {
	buffer := make([]byte, maxAddress)
	size := uint32(len(buffer))
	_, _, errno := unix.Syscall(unix.SYS_GETSOCKNAME, uintptr(fd),
		uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return nil, errno
	}
	return buffer[:min(int(size), len(buffer))], nil
}

// bound reports whether the socket has a local port or address already.
func bound(fd int) (bool, error) {
	a, err := localAddress(fd)
	return err == nil && (port(a) != 0 || !isAny(a)), err
}

// setOptions sets what the settings ask for. As ever, an option that cannot be
// set is not set.
func (s Settings) setOptions(fd, domain int) {
	set := func(on bool, level, option int) {
		if on {
			_ = unix.SetsockoptInt(fd, level, option, 1)
		}
	}
	set(s.ReuseAddr, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	set(s.ReusePort, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	set(s.Transparent, unix.SOL_IP, unix.IP_TRANSPARENT)
	set(s.Transparent && domain == unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_TRANSPARENT)
}

// bindBefore binds a socket that is to connect, to address. A fixed port that
// is taken gives way to any; the address does not (B3).
func bindBefore(fd int, address []byte) error {
	err := bindSource(fd, address)
	if errors.Is(err, unix.EADDRINUSE) && port(address) != 0 {
		err = bindSource(fd, WithoutPort(address))
	}
	if errors.Is(err, unix.EINVAL) { // another thread was faster
		if done, _ := bound(fd); done {
			return nil
		}
	}
	return err
}

// bindSource binds, and lets the kernel choose the port only when the
// destination is known: there are enough ports for each destination then.
func bindSource(fd int, address []byte) error {
	if port(address) != 0 {
		return bindRaw(fd, address)
	}
	before, err := unix.GetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT)
	if err == nil && before == 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		defer func() { _ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 0) }()
	}
	if err != nil {
		return err
	}
	return bindRaw(fd, address)
}
