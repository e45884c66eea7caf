// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Pinned is an object of the file system, held by an O_PATH descriptor: what is
// examined is what is changed, whatever happens to its name meanwhile.
type Pinned struct {
	Name string // as messages show it
	Info unix.Stat_t
	fd   int
}

// Pin holds what lies at the absolute path p. No symbolic link is followed,
// neither on the way nor at the end; a link at the end is held itself.
func (r Root) Pin(p string) (*Pinned, error) {
	top, err := unix.Open(r.Path("/"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	defer unix.Close(top)
	relative := strings.TrimPrefix(path.Clean(p), "/")
	if relative == "" {
		relative = "."
	}
	fd, err := openBeneath(top, relative, unix.O_PATH|unix.O_NOFOLLOW)
	return pinned(p, fd, err)
}

// At holds the entry of a held directory.
func (p *Pinned) At(name string) (*Pinned, error) {
	full := path.Join(p.Name, name)
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return nil, &fs.PathError{Op: "open", Path: full, Err: fs.ErrInvalid}
	}
	fd, err := openat(p.fd, name, unix.O_PATH|unix.O_NOFOLLOW)
	return pinned(full, fd, err)
}

func pinned(name string, fd int, err error) (*Pinned, error) {
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	p := &Pinned{Name: name, fd: fd}
	if err := unix.Fstat(fd, &p.Info); err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return p, nil
}

// openBeneath opens a relative path without following any symbolic link.
func openBeneath(dir int, relative string, flags int) (int, error) {
	for {
		fd, err := unix.Openat2(dir, relative, &unix.OpenHow{
			Flags:   uint64(flags | unix.O_CLOEXEC),
			Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_BENEATH,
		})
		switch err {
		case unix.EINTR, unix.EAGAIN: // EAGAIN: something was renamed meanwhile
			continue
		case unix.ENOSYS, unix.EPERM: // before Linux 5.6, or in a sandbox that does not know the call
			return openStepwise(dir, relative, flags)
		}
		return fd, err
	}
}

// openStepwise is openBeneath without openat2(2): one component after the other.
func openStepwise(dir int, relative string, flags int) (int, error) {
	for held := -1; ; {
		name, rest, more := strings.Cut(relative, "/")
		if name == ".." {
			return -1, unix.EXDEV
		}
		step := flags | unix.O_NOFOLLOW
		if more {
			step = unix.O_PATH | unix.O_NOFOLLOW | unix.O_DIRECTORY
		}
		fd, err := openat(dir, name, step)
		if held >= 0 {
			unix.Close(held)
		}
		if err == unix.ENOTDIR && more { // as openat2 says it of a link
			err = unix.ELOOP
		}
		if err != nil || !more {
			return fd, err
		}
		dir, held, relative = fd, fd, rest
	}
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Close lets the object go.
func (p *Pinned) Close() error { return unix.Close(p.fd) }

// Refresh reads the object's state anew.
func (p *Pinned) Refresh() error { return p.fail("stat", unix.Fstat(p.fd, &p.Info)) }

// IsRegular reports whether it is a regular file.
func (p *Pinned) IsRegular() bool { return p.Info.Mode&unix.S_IFMT == unix.S_IFREG }

// IsDir reports whether it is a directory.
func (p *Pinned) IsDir() bool { return p.Info.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsLink reports whether it is a symbolic link.
func (p *Pinned) IsLink() bool { return p.Info.Mode&unix.S_IFMT == unix.S_IFLNK }

// Open opens the object itself, for reading or writing.
func (p *Pinned) Open(flags int) (*os.File, error) {
	fd, err := unix.Open(p.magic(), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, p.fail("open", err)
	}
	return os.NewFile(uintptr(fd), p.Name), nil
}

// Chmod sets all twelve bits of the mode. A symbolic link has none.
func (p *Pinned) Chmod(mode uint32) error {
	if p.IsLink() {
		return p.fail("chmod", unix.ELOOP)
	}
	err := unix.Fchmodat(p.fd, "", mode, unix.AT_EMPTY_PATH)
	switch err {
	case unix.EOPNOTSUPP, unix.EPERM, unix.EINVAL: // fchmodat2 is of Linux 6.6
		err = unix.Chmod(p.magic(), mode)
	}
	return p.fail("chmod", err)
}

// Chown sets owner and group; -1 leaves one as it is. It clears setuid and
// setgid of a file.
func (p *Pinned) Chown(uid, gid int) error {
	return p.fail("chown", unix.Fchownat(p.fd, "", uid, gid, unix.AT_EMPTY_PATH))
}

// Unlink removes an entry of a held directory that is no directory itself.
func (p *Pinned) Unlink(name string) error {
	if err := unix.Unlinkat(p.fd, name, 0); err != nil {
		return &fs.PathError{Op: "unlink", Path: path.Join(p.Name, name), Err: err}
	}
	return nil
}

// Attribute returns an extended attribute; none is nil.
func (p *Pinned) Attribute(name string) ([]byte, error) {
	const sizeMax = 4096
	buf := make([]byte, sizeMax)
	n, err := unix.Getxattr(p.magic(), name, buf)
	if err == unix.ENODATA || err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, p.fail("getxattr", err)
	}
	return buf[:n], nil
}

// SetAttribute sets an extended attribute, or takes it away if the value is nil.
func (p *Pinned) SetAttribute(name string, value []byte) error {
	if value == nil {
		err := unix.Removexattr(p.magic(), name)
		if err == unix.ENODATA {
			err = nil
		}
		return p.fail("removexattr", err)
	}
	return p.fail("setxattr", unix.Setxattr(p.magic(), name, value, 0))
}

// magic is a name that leads to the object and nowhere else; see proc(5).
func (p *Pinned) magic() string { return "/proc/self/fd/" + strconv.Itoa(p.fd) }

func (p *Pinned) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: p.Name, Err: err}
}

// Canonical returns p without symbolic links, links of the last component
// included. A link counts only if it is root's, in a directory that nobody else
// can write to: otherwise somebody else decides what p means (a *Writable).
func (r Root) Canonical(p string) (string, error) {
	const linksMax = 40 // as in the kernel
	done, rest := "/", strings.Trim(path.Clean("/"+p), "/")
	for links := 0; rest != ""; {
		name, after, _ := strings.Cut(rest, "/")
		switch name {
		case "", ".":
			rest = after
			continue
		case "..":
			done, rest = path.Dir(done), after
			continue
		}
		next := path.Join(done, name)
		fi, err := os.Lstat(r.Path(next))
		if err != nil {
			return "", r.logicalError(err)
		}
		if fi.Mode()&fs.ModeSymlink == 0 {
			done, rest = next, after
			continue
		}
		if links++; links > linksMax {
			return "", &fs.PathError{Op: "follow", Path: p, Err: unix.ELOOP}
		}
		if err := r.rootsLink(done, next, fi); err != nil {
			return "", err
		}
		text, err := os.Readlink(r.Path(next))
		if err != nil {
			return "", r.logicalError(err)
		}
		if filepath.IsAbs(text) {
			done = "/"
		}
		rest = strings.TrimLeft(text+"/"+after, "/")
	}
	return done, nil
}

// rootsLink returns an error if anybody but root can say where a link leads.
func (r Root) rootsLink(dir, link string, fi fs.FileInfo) error {
	parent, err := os.Lstat(r.Path(dir))
	if err != nil {
		return r.logicalError(err)
	}
	if who := writer(parent); who != "" {
		return &Writable{dir, who}
	}
	if st, ok := statOf(fi); !ok || st.Uid != 0 {
		return fmt.Errorf("%s is a symbolic link that is not root's, and is not followed: %w", link, errors.ErrUnsupported)
	}
	return nil
}
