// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// trusted checks that nobody but root can change the file: neither the file
// itself, nor the directories of its name and of what a link leads to.
func (o *Options) trusted(path string) error {
	host := o.Root.Path(path)
	resolved, err := filepath.EvalSymlinks(host)
	if err != nil {
		return &EvalError{Origin: Origin{File: path}, Text: "cannot be read: " + cause(err)}
	}
	for _, p := range []string{filepath.Dir(host), filepath.Dir(resolved), resolved} {
		fi, err := os.Stat(p)
		if err != nil {
			return &EvalError{Origin: Origin{File: path}, Text: "cannot be read: " + cause(err)}
		}
		if who := writer(fi); who != "" {
			return &EvalError{Origin: Origin{File: path}, Text: fmt.Sprintf(
				"is refused: %s can be changed by %s; make root its owner and take the permission from others (chown root:root, chmod go-w)",
				o.Root.Logical(p), who)}
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
