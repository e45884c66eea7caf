// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// rootKeeps are the capabilities that a program of root's keeps in the user
// namespace, as bits: what it takes to own files and to become another account,
// nothing about networks, devices, modules or other processes. They do not
// count outside of it.
const rootKeeps = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETPCAP | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_SETFCAP

// dropCapabilities gives up all capabilities of this thread but those kept, for
// good: also what it executes does not get them back.
func dropCapabilities(kept uint64) error {
	for c := range unix.CAP_LAST_CAP + 1 {
		if kept&(1<<c) != 0 {
			continue
		}
		// Who has no CAP_SETPCAP cannot, and has no_new_privs instead.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EPERM && err != unix.EINVAL {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && err != unix.EINVAL {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for i := range data {
		keep := uint32(kept >> (32 * i))
		data[i].Permitted &= keep
		data[i].Effective &= keep
		data[i].Inheritable = 0
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}
