// SPDX-License-Identifier: GPL-3.0-or-later

// Package clocktest keeps tests from changing the clock of the machine they
// run on.
package clocktest

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// scenario is a file that only the machine of scripts/vmtest has, whose clock
// is its own.
const scenario = "/etc/scenario"

// Forbid takes CAP_SYS_TIME away from this process and all that it starts, for
// ever. It is for init functions of tests: the process runs itself once more,
// because each of its threads has capabilities of its own.
func Forbid() {
	if Own() || !able() {
		return
	}
	if err := again(); err != nil {
		fmt.Fprintf(os.Stderr, "clocktest: the tests could change this machine's clock: %v\n", err)
		os.Exit(1)
	}
}

// Own reports whether the machine is one whose clock tests may change.
func Own() bool {
	var fs unix.Statfs_t
	if unix.Statfs("/", &fs) != nil || fs.Type != unix.RAMFS_MAGIC && fs.Type != unix.TMPFS_MAGIC {
		return false
	}
	_, err := os.Stat(scenario)
	return err == nil
}

func capabilities() (unix.CapUserHeader, [2]unix.CapUserData) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		panic("capget: " + err.Error())
	}
	return header, data
}

// able reports whether the capability is there, or would be after an exec by
// root.
func able() bool {
	_, data := capabilities()
	const bit = 1 << unix.CAP_SYS_TIME
	bound, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_TIME, 0, 0, 0)
	return (data[0].Effective|data[0].Permitted|data[0].Inheritable)&bit != 0 || err == nil && bound == 1 && os.Geteuid() == 0
}

// again runs the program without the capability. It returns only an error.
func again() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_TIME, 0, 0, 0); err != nil {
		return fmt.Errorf("drop CAP_SYS_TIME: %w", err)
	}
	header, data := capabilities()
	data[0].Inheritable &^= 1 << unix.CAP_SYS_TIME // and so the ambient one
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}
