// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Writable says that others than root can change a file.
type Writable struct {
	Path string // the file, or a directory on the way to it
	By   string // who: "everybody", "the account 1000", "the group 1000"
}

// Error is one line that also says what to do.
func (w *Writable) Error() string {
	return fmt.Sprintf("%s can be changed by %s; make root its owner and take the permission from others (chown root:root, chmod go-w)", w.Path, w.By)
}

// Trusted returns a *Writable if somebody but root can change p: the file
// itself, or what it is by any directory on the way to it, along links too.
// Directories above the root do not count.
func (r Root) Trusted(p string) error {
	path, err := r.walk(r.Path(p))
	if err != nil {
		return r.logicalError(err)
	}
	return r.check(path)
}

// walk follows a path on the host, one name after the other, checks every
// directory on the way, and returns what it leads to.
func (r Root) walk(path string) (string, error) {
	const linksMax = 40 // as in the kernel
	top := r.Path("/")
	dir, rest := "/", strings.TrimPrefix(filepath.Clean(path), "/")
	for links := 0; ; {
		if above, err := filepath.Rel(dir, top); err != nil || above == "." || strings.HasPrefix(above, "..") {
			if err := r.check(dir); err != nil {
				return "", err
			}
		}
		name, after, more := strings.Cut(rest, "/")
		next := filepath.Join(dir, name)
		fi, err := os.Lstat(next)
		switch {
		case err != nil:
			return "", err
		case fi.Mode()&fs.ModeSymlink == 0 && !more:
			return next, nil
		case fi.Mode()&fs.ModeSymlink == 0:
			dir, rest = next, after
			continue
		case links == linksMax:
			return "", &fs.PathError{Op: "follow", Path: path, Err: syscall.ELOOP}
		}
		links++
		text, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(text) {
			dir = "/"
		}
		rest = strings.Trim(text, "/")
		if more {
			rest += "/" + after
		}
	}
}

// check returns a *Writable if others than root can change what is at path.
func (r Root) check(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if who := writer(fi); who != "" {
		return &Writable{r.Logical(path), who}
	}
	return nil
}

// writer names who besides root can change a file; empty if nobody can. A
// sticky directory lets nobody replace what root owns.
func writer(fi fs.FileInfo) string {
	const groupWrite, otherWrite = 0o020, 0o002
	st, ok := statOf(fi)
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

func statOf(fi fs.FileInfo) (*syscall.Stat_t, bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return st, ok
}
