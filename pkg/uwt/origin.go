// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// executedAs is the path that execve(2) was given for this process
// (AT_EXECFN): unlike argv[0] nobody but the kernel chooses it, unlike
// /proc/self/exe it has not been resolved. It is empty where the kernel does
// not tell.
func executedAs() string {
	const atExecfn = 31
	vector, err := unix.Auxv()
	if err != nil {
		return ""
	}
	for _, entry := range vector {
		if entry[0] == atExecfn && entry[1] != 0 {
			address := entry[1]
			return unix.BytePtrToString(*(**byte)(unsafe.Pointer(&address)))
		}
	}
	return ""
}

// parentOf is the path under which a wrapper was started: that of the process
// itself, or, where a script execs this program, what the script says.
func parentOf(executed, exported string) (parent string, fromScript bool) {
	if executed == "" || ours(executed) {
		return exported, true
	}
	return executed, false
}

// base is a path's last element.
func base(path string) string { return filepath.Base(path) }
