// SPDX-License-Identifier: GPL-3.0-or-later

package onionauth

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// Modes of what holds keys (defect 27).
const (
	keyMode    = 0o600
	folderMode = 0o700
)

// lineMax is more than any file that is read here should have.
const lineMax = 4096

// folder is an open directory in which an account may change things while root
// works in it: nothing is reached by a path, and no link is followed.
type folder struct {
	fd   int
	path string
	account
}

// openFolder opens a directory, and makes what is missing of it, for the
// account alone.
func openFolder(root fsx.Root, path string, a account) (*folder, error) {
	const flags = unix.O_DIRECTORY | unix.O_RDONLY | unix.O_CLOEXEC
	fd, err := unix.Open(root.Path("/"), flags, 0)
	if err != nil {
		return nil, fmt.Errorf("/: %w", err)
	}
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		made := unix.Mkdirat(fd, name, folderMode)
		next, err := -1, made
		if made == nil || errors.Is(made, unix.EEXIST) {
			next, err = unix.Openat(fd, name, flags|unix.O_NOFOLLOW, 0)
		}
		unix.Close(fd)
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			err = errors.New("is no directory, or a link to one: refused")
		}
		if err == nil && made == nil {
			err = errors.Join(unix.Fchown(next, a.uid, a.gid), unix.Fchmod(next, folderMode))
		}
		if err != nil {
			if next >= 0 {
				unix.Close(next)
			}
			return nil, fmt.Errorf("%s: %s: %w", path, name, err)
		}
		fd = next
	}
	return &folder{fd: fd, path: path, account: a}, nil
}

func (f *folder) close() { unix.Close(f.fd) }

// private takes the directory from everybody but the account.
func (f *folder) private() error {
	return errors.Join(unix.Fchown(f.fd, f.uid, f.gid), unix.Fchmod(f.fd, folderMode))
}

// read reads a file of the directory, if it is one.
func (f *folder) read(name string) ([]byte, error) {
	fd, err := unix.Openat(f.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.path + "/" + name, Err: err}
	}
	file := os.NewFile(uintptr(fd), f.path+"/"+name)
	defer file.Close()
	if fi, err := file.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s/%s is no regular file", f.path, name)
	}
	data, err := io.ReadAll(io.LimitReader(file, lineMax+1))
	if err == nil && len(data) > lineMax {
		err = fmt.Errorf("%s/%s: more than %d bytes", f.path, name, lineMax)
	}
	return data, err
}

func (f *folder) has(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(f.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// write makes a file of the account's, or replaces it, at once.
func (f *folder) write(name, text string) error {
	if old, err := f.read(name); err == nil && bytes.Equal(old, []byte(text)) {
		return f.own(name)
	}
	var random [8]byte
	_, _ = rand.Read(random[:])
	temporary := "." + name + "." + hex.EncodeToString(random[:])
	fd, err := unix.Openat(f.fd, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, keyMode)
	if err != nil {
		return &os.PathError{Op: "create", Path: f.path + "/" + name, Err: err}
	}
	file := os.NewFile(uintptr(fd), f.path+"/"+name)
	_, err = file.WriteString(text)
	err = errors.Join(err, file.Chown(f.uid, f.gid), file.Chmod(keyMode), file.Sync(), file.Close())
	if err == nil {
		err = unix.Renameat(f.fd, temporary, f.fd, name)
	}
	if err != nil {
		_ = unix.Unlinkat(f.fd, temporary, 0)
		return fmt.Errorf("%s/%s: %w", f.path, name, err)
	}
	return nil
}

// own gives a file the owner and the mode that it should have.
func (f *folder) own(name string) error {
	fd, err := unix.Openat(f.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return errors.Join(unix.Fchown(fd, f.uid, f.gid), unix.Fchmod(fd, keyMode))
}

func (f *folder) remove(name string) { _ = unix.Unlinkat(f.fd, name, 0) }

// find looks the account up.
func (a *account) find(root fsx.Root) (err error) {
	if a.uid, err = root.Number("/etc/passwd", a.user); err != nil {
		return err
	}
	a.gid, err = root.Number("/etc/group", a.group)
	return err
}
