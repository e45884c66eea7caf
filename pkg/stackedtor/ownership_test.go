// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// ownership is mode, user and group of a file, not of what a link leads to.
func ownership(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no stat")
	}
	return fmt.Sprintf("%v %d %d", fi.Mode(), st.Uid, st.Gid)
}
