// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// sizeMax is how large a file may be that is edited.
const sizeMax = 1 << 20

// errLink says that a path cannot be trusted and has a link in it.
var errLink = errors.New("a symbolic link where others than root can write is not followed")

// edit replaces a file by what change makes of it, in one step, with owner and
// mode kept; a file that would not change is not written. A missing one is no
// error. A file in a user's home is edited with its owner's rights (defect 33).
func edit(root fsx.Root, path string, change func([]byte) []byte) (changed bool, err error) {
	if home, rest, ok := inHome(path); ok {
		return editAsOwner(root, home, rest, change)
	}
	changed, err = editIn(root.Path(path), path, change)
	if !errors.Is(err, unix.ELOOP) {
		return changed, err
	}
	real, err := resolve(root, path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return editIn(real, path, change)
}

// editIn edits the file at a path in which there is no link.
func editIn(real, path string, change func([]byte) []byte) (changed bool, err error) {
	dir, err := openWithoutLinks(unix.AT_FDCWD, filepath.Dir(real))
	if err == nil {
		defer unix.Close(dir)
		changed, err = editAt(dir, filepath.Base(real), -1, change)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return changed, err
}

// resolve follows links, as long as root alone can have put them there. The
// displaced /etc/resolv.conf is one, and stays one.
func resolve(root fsx.Root, path string) (string, error) {
	host := root.Path(path)
	real, err := filepath.EvalSymlinks(host)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	top, err := filepath.EvalSymlinks(string(root))
	if err != nil {
		return "", err
	}
	if real == filepath.Join(top, path) {
		return real, nil // no link
	}
	if err := root.Trusted(path); err != nil {
		return "", fmt.Errorf("%s: %w: %w", path, errLink, err)
	}
	if top != "/" && !strings.HasPrefix(real, top+"/") {
		return "", fmt.Errorf("%s: %w", path, errLink)
	}
	return real, nil
}

// inHome parts the path of a user's file behind the home.
func inHome(path string) (home, rest string, ok bool) {
	name, ok := strings.CutPrefix(path, "/home/")
	if !ok {
		return "", "", false
	}
	user, rest, ok := strings.Cut(name, "/")
	return "/home/" + user, rest, ok
}

// editAsOwner edits a file below a home as the home's owner would: what that
// account cannot read or write stays as it is, and no link is followed.
func editAsOwner(root fsx.Root, home, rest string, change func([]byte) []byte) (changed bool, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with its goroutine: nobody else gets its rights.
		runtime.LockOSThread()
		changed, err = editBelow(root.Path(home), rest, change)
	}()
	<-done
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if errors.Is(err, unix.ELOOP) {
		err = errLink
	}
	if err != nil {
		err = fmt.Errorf("%s/%s: %w", home, rest, err)
	}
	return changed, err
}

// editBelow gives the thread that it runs on the rights of the home's owner,
// for good.
func editBelow(home, rest string, change func([]byte) []byte) (bool, error) {
	top, err := unix.Open(home, unix.O_DIRECTORY|unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(top)
	var st unix.Stat_t
	if err := unix.Fstat(top, &st); err != nil {
		return false, err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 { // of this thread alone
		return false, fmt.Errorf("drop the groups: %w", errno)
	}
	if err := unix.Setfsgid(int(st.Gid)); err != nil {
		return false, err
	}
	if err := unix.Setfsuid(int(st.Uid)); err != nil {
		return false, err
	}
	// Failures of these two are not told: see setfsuid(2).
	if now, err := unix.SetfsuidRetUid(-1); err != nil || now != int(st.Uid) {
		return false, fmt.Errorf("take the rights of the account %d: not granted", st.Uid)
	}
	dir, err := openWithoutLinks(top, filepath.Dir(rest))
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	return editAt(dir, filepath.Base(rest), int(st.Uid), change)
}

// openWithoutLinks opens a directory, name by name, and fails with ELOOP at a
// link. openat2(2) would do it in one call, but units with RestrictSUIDSGID= do
// not have it: systemd cannot look into its arguments, and answers ENOSYS.
func openWithoutLinks(at int, path string) (int, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	start := "."
	if filepath.IsAbs(path) {
		start = "/"
	}
	dir, err := unix.Openat(at, start, flags, 0)
	if err != nil {
		return -1, err
	}
	for _, name := range strings.Split(strings.Trim(filepath.Clean(path), "/"), "/") {
		if name == "" || name == "." {
			continue
		}
		next, err := unix.Openat(dir, name, flags, 0)
		unix.Close(dir)
		if err != nil {
			return -1, err
		}
		var st unix.Stat_t
		if err = unix.Fstat(next, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			err = unix.ENOTDIR
			if st.Mode&unix.S_IFMT == unix.S_IFLNK {
				err = unix.ELOOP
			}
		}
		if name == ".." && err == nil {
			err = unix.EXDEV
		}
		if err != nil {
			unix.Close(next)
			return -1, err
		}
		dir = next
	}
	return dir, nil
}

// editAt edits a regular file in an open directory. owner is the only account
// of which the file may be; -1 is any.
func editAt(dir int, name string, owner int, change func([]byte) []byte) (changed bool, err error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return false, err
	}
	old := os.NewFile(uintptr(fd), name)
	defer old.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return false, errors.New("not a regular file")
	case owner >= 0 && int(st.Uid) != owner:
		return false, fmt.Errorf("not of the account %d, whose home it is in", owner)
	}
	text, err := io.ReadAll(io.LimitReader(old, sizeMax+1))
	if err != nil {
		return false, err
	}
	if len(text) > sizeMax {
		return false, fmt.Errorf("%w (more than %d bytes)", fsx.ErrTooLarge, sizeMax)
	}
	after := change(text)
	if bytes.Equal(text, after) {
		return false, nil
	}
	return true, replaceAt(dir, name, after, &st)
}

// replaceAt puts a new file in the place of the old one, which had the given
// owner and mode.
func replaceAt(dir int, name string, data []byte, st *unix.Stat_t) (err error) {
	temporary := "." + name + "." + rand.Text()
	fd, err := unix.Openat(dir, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temporary)
	defer func() {
		if err != nil {
			f.Close()
			_ = unix.Unlinkat(dir, temporary, 0)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	var now unix.Stat_t
	if err = unix.Fstat(fd, &now); err != nil {
		return err
	}
	if now.Uid != st.Uid || now.Gid != st.Gid {
		if err = unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err = unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return unix.Renameat(dir, temporary, dir, name)
}
