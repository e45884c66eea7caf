// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Writable says that others than root can change a file.
type Writable struct {
	Path string // the file, or a directory of its name or of what a link leads to
	By   string // who: "everybody", "the account 1000", "the group 1000"
}

// Error is one line that also says what to do.
func (w *Writable) Error() string {
	return fmt.Sprintf("%s can be changed by %s; make root its owner and take the permission from others (chown root:root, chmod go-w)", w.Path, w.By)
}

// Trusted returns a *Writable if somebody but root can change p: the file
// itself, the directories of its name, or those of what a link leads to.
func (r Root) Trusted(p string) error {
	host := r.Path(p)
	resolved, err := filepath.EvalSymlinks(host)
	if err != nil {
		return r.logicalError(err)
	}
	for _, p := range []string{filepath.Dir(host), filepath.Dir(resolved), resolved} {
		fi, err := os.Stat(p)
		if err != nil {
			return r.logicalError(err)
		}
		if who := writer(fi); who != "" {
			return &Writable{r.Logical(p), who}
		}
	}
	return nil
}

// writer names who besides root can change a file; empty if nobody can. A
// sticky directory lets nobody replace what root owns.
func writer(fi fs.FileInfo) string {
	const groupWrite, otherWrite = 0o020, 0o002
	st, ok := fi.Sys().(*syscall.Stat_t)
	sticky := fi.IsDir() && fi.Mode()&fs.ModeSticky != 0
	switch mode := fi.Mode().Perm(); {
	case !ok:
		return "an unknown owner"
	case st.Uid != 0:
		return fmt.Sprintf("the account %d", st.Uid)
	case mode&otherWrite != 0 && !sticky:
		return "everybody"
	case mode&groupWrite != 0 && st.Gid != 0 && !sticky:
		return fmt.Sprintf("the group %d", st.Gid)
	}
	return ""
}
