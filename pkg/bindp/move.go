// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// copyOptions gives a new socket the options that programs set before they
// listen. What cannot be read or set stays as the kernel made it.
func copyOptions(from, to int) {
	const doubled = 2 // the kernel reports twice the size that was asked for
	for _, o := range []struct{ level, option, divisor int }{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, doubled},
		{unix.SOL_SOCKET, unix.SO_SNDBUF, doubled},
		{unix.SOL_SOCKET, unix.SO_MARK, 1},
		{unix.SOL_SOCKET, unix.SO_PRIORITY, 1},
		{unix.SOL_IP, unix.IP_TOS, 1},
		{unix.SOL_IP, unix.IP_TRANSPARENT, 1},
		{unix.SOL_IP, unix.IP_FREEBIND, 1},
		{unix.SOL_IPV6, unix.IPV6_V6ONLY, 1},
		{unix.SOL_IPV6, unix.IPV6_TCLASS, 1},
		{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1},
		{unix.SOL_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_TCP, unix.TCP_DEFER_ACCEPT, 1},
		{unix.SOL_TCP, unix.TCP_FASTOPEN, 1},
	} {
		was, err := unix.GetsockoptInt(from, o.level, o.option)
		is, errNew := unix.GetsockoptInt(to, o.level, o.option)
		if err == nil && errNew == nil && was != is {
			_ = unix.SetsockoptInt(to, o.level, o.option, was/o.divisor)
		}
	}
	if device, err := unix.GetsockoptString(from, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err == nil && device != "" {
		_ = unix.SetsockoptString(to, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, device)
	}
}

// share binds fresh to a port that old has, which both must agree to until old
// is gone.
func share(old, fresh int, address []byte) error {
	for _, fd := range []int{old, fresh} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return err
		}
	}
	return bindRaw(fresh, address)
}

// closesOnExec reports whether the descriptor of a thread is closed on exec.
func closesOnExec(tid, number int) (bool, error) {
	info, err := readProc(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, number))
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(value), 8, 32)
			return flags&unix.O_CLOEXEC != 0, err
		}
	}
	return false, errors.New("no flags")
}
