// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// watchedFiles are what programs of a session run or read at its start.
func watchedFiles() []string {
	return []string{
		".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".profile", ".pam_environment", ".xprofile", ".xinitrc", ".xserverrc",
		".Xsession", ".xsession", ".xsessionrc", ".zshrc", ".zprofile", ".zshenv", ".ssh/rc",
	}
}

// watchedDirs are watched with all that is in them.
func watchedDirs() []string {
	return []string{
		"bin", ".local/bin", ".config/autostart", ".config/plasma-workspace/env", ".config/plasma-workspace/shutdown", ".config/autostart-scripts",
		".config/systemd", ".config/environment.d", ".config/fish", ".local/share/applications",
	}
}

// isWatched reports whether a path below a home is one that is watched, without a
// step up or to itself.
func isWatched(p string) bool {
	if p != path.Clean(p) || strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0) {
		return false
	}
	// What should be a file may have become a directory.
	for _, d := range append(watchedFiles(), watchedDirs()...) {
		if p == d || strings.HasPrefix(p, d+"/") {
			return true
		}
	}
	return false
}

// kinds of objects.
const (
	objectFile  = "file"
	objectDir   = "directory"
	objectLink  = "link"
	objectOther = "other" // a socket, a pipe, a device
)

// object is a watched object, without its content.
type object struct {
	Path   []byte `json:"path"` // below the home; bytes, because any can be in a name
	Kind   string `json:"kind"`
	Mode   uint32 `json:"mode"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	Target []byte `json:"target,omitempty"`
}

// same compares what counts. How large a directory is does not.
func (o object) same(b object) bool {
	return o.Kind == b.Kind && o.Mode == b.Mode && o.Size == b.Size && o.SHA256 == b.SHA256 && string(o.Target) == string(b.Target)
}

const (
	depthMax  = 64
	objectMax = 100_000
	totalMax  = 4 << 30 // of contents, together
)

// openBelow opens a directory below an open one, step by step, along no link.
// Missing ones are made if mode is not 0.
func openBelow(dir int, p string, mode uint32) (int, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil || p == "." {
		return fd, err
	}
	for _, name := range strings.Split(p, "/") {
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) && mode != 0 {
			if err = unix.Mkdirat(fd, name, mode); err == nil || errors.Is(err, unix.EEXIST) {
				next, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			}
		}
		unix.Close(fd)
		if err != nil {
			return -1, &refusedError{name, err}
		}
		fd = next
	}
	return fd, nil
}

// refusedError says that a directory on the way is none.
type refusedError struct {
	name string
	err  error
}

func (e *refusedError) Error() string {
	if errors.Is(e.err, unix.ELOOP) || errors.Is(e.err, unix.ENOTDIR) {
		return fmt.Sprintf("%s is a link, or no directory: refused", printable(e.name))
	}
	return fmt.Sprintf("%s: %v", printable(e.name), e.err)
}

func (e *refusedError) Unwrap() error { return e.err }

// walker visits what is watched in a home, as the account whose home it is.
type walker struct {
	visit func(o object, content *os.File) error
	n     int
}

// home visits everything below an open home.
func (w *walker) home(home int) error {
	for _, p := range append(watchedFiles(), watchedDirs()...) {
		parent, err := openBelow(home, path.Dir(p), 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		err = w.one(parent, path.Base(p), p, 0)
		unix.Close(parent)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", printable(p), err)
		}
	}
	return nil
}

func (w *walker) one(parent int, name, p string, depth int) error {
	if w.n++; w.n > objectMax || depth > depthMax {
		return errors.New("too many files, or too deep")
	}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	o := object{Path: []byte(p), Kind: objectOther, Mode: st.Mode & 0o7777}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return w.file(parent, name, o)
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(parent, name, target)
		if err != nil {
			return err
		}
		o.Kind, o.Target = objectLink, target[:n]
		return w.visit(o, nil)
	case unix.S_IFDIR:
		o.Kind = objectDir
		if err := w.visit(o, nil); err != nil {
			return err
		}
		return w.dir(parent, name, p, depth)
	}
	return w.visit(o, nil)
}

func (w *walker) file(parent int, name string, o object) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return errors.New("changed while it was read")
	}
	o.Kind, o.Size = objectFile, fi.Size()
	return w.visit(o, f)
}

func (w *walker) dir(parent int, name, p string, depth int) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	list, err := names(fd)
	if err != nil {
		return err
	}
	for _, n := range list {
		if err := w.one(fd, n, p+"/"+n, depth+1); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
