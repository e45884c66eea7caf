// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import "golang.org/x/sys/unix"

// Identity is which file it is that is at a path, to see later whether it is
// still the same. The kernel gives the number of a file that is gone to the next
// one, whose time is another. The zero value is that of no file.
type Identity struct {
	device, inode uint64
	made          unix.Timespec
}

// IdentityOf is the identity of a file that was looked at.
func IdentityOf(st unix.Stat_t) Identity { return Identity{uint64(st.Dev), st.Ino, st.Mtim} }

// IsAt reports that the file is still at a name in a directory, AT_FDCWD for a
// path; what a link leads to is another file.
func (i Identity) IsAt(dir int, name string) bool {
	var st unix.Stat_t
	return i != Identity{} && unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && i == IdentityOf(st)
}
