// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// capabilities of a thread, bit n for capability n, see capabilities(7).
type capabilities struct{ effective, permitted, inheritable uint64 }

// threadCapabilities are the calling thread's.
func threadCapabilities() (c capabilities, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return c, fmt.Errorf("capabilities: %w", err)
	}
	join := func(low, high uint32) uint64 { return uint64(low) | uint64(high)<<32 }
	return capabilities{
		effective:   join(data[0].Effective, data[1].Effective),
		permitted:   join(data[0].Permitted, data[1].Permitted),
		inheritable: join(data[0].Inheritable, data[1].Inheritable),
	}, nil
}

// set makes them the calling thread's.
func (c capabilities) set() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(c.effective), Permitted: uint32(c.permitted), Inheritable: uint32(c.inheritable)},
		{Effective: uint32(c.effective >> 32), Permitted: uint32(c.permitted >> 32), Inheritable: uint32(c.inheritable >> 32)},
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

// lend runs f with no more capabilities than the process has for which it
// works, so that the kernel decides about ports and transparent sockets as it
// would decide about the process itself. Capabilities of another user
// namespace are none here.
func (c capabilities) lend(from, own process, f func() error) error {
	reduced := c
	reduced.effective &= from.effective
	if from.user == "" || from.user != own.user {
		reduced.effective = 0
	}
	if reduced == c {
		return f()
	}
	runtime.LockOSThread()
	if err := reduced.set(); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	result := f()
	if err := c.set(); err != nil {
		return err // the thread stays locked to its goroutine, which can do less now, never more
	}
	runtime.UnlockOSThread()
	return result
}
