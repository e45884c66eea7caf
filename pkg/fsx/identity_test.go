// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestIdentity: a file is still there until another one takes its place,
// whatever number the kernel gives to that.
func TestIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	made := func() Identity {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		return IdentityOf(st)
	}
	first := made()
	if !first.IsAt(unix.AT_FDCWD, path) || (Identity{}).IsAt(unix.AT_FDCWD, path) {
		t.Error("the file is not seen, or no file is")
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if first.IsAt(unix.AT_FDCWD, path) || !first.IsAt(unix.AT_FDCWD, path+".old") {
		t.Error("a name makes a difference")
	}
	if err := os.Symlink(path+".old", path); err != nil {
		t.Fatal(err)
	}
	if first.IsAt(unix.AT_FDCWD, path) {
		t.Error("a link counts as the file")
	}
	for range 20 { // the number may be that of the one before
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if second := made(); first == second || !second.IsAt(unix.AT_FDCWD, path) {
			t.Error("another file is taken for the first")
		}
	}
}
