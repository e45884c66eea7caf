// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
)

// copier copies a tree of root's into a directory of the account that it runs as.
// Every step goes from one open directory to the next, without following a link;
// nothing that is there is overwritten. What cannot be copied is reported, and the
// rest is copied.
type copier struct {
	env    cli.Env
	skip   []string // names at the top
	failed bool
}

func (c *copier) report(path string, err error) {
	c.failed = true
	c.env.Errorf("%s: %v", printable(path), err)
}

// names lists an open directory, in order.
func names(fd int) ([]string, error) {
	copied, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(copied), "directory")
	defer d.Close()
	list, err := d.Readdirnames(-1)
	slices.Sort(list)
	return list, err
}

// dir copies what is in from into into, which messages call path.
func (c *copier) dir(from, into int, path string) {
	list, err := names(from)
	if err != nil {
		c.report(path, err)
		return
	}
	for _, name := range list {
		if slices.Contains(c.skip, name) {
			continue
		}
		sub := &copier{env: c.env}
		if err := sub.entry(from, into, name, path+"/"+name); err != nil {
			c.report(path+"/"+name, err)
		}
		c.failed = c.failed || sub.failed
	}
}

func (c *copier) entry(from, into int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.subdir(from, into, name, path, st.Mode)
	case unix.S_IFREG:
		return copyFile(from, into, name, unix.O_NOFOLLOW)
	case unix.S_IFLNK:
		return c.link(from, into, name)
	}
	return errors.New("neither file, directory nor link")
}

// subdir makes a directory; a new one whose name begins with a dot is for its
// owner only.
func (c *copier) subdir(from, into int, name, path string, mode uint32) error {
	mode &= 0o755
	if name[0] == '.' {
		mode &= 0o700
	}
	if err := unix.Mkdirat(into, name, mode); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	to, err := unix.Openat(into, name, flags, 0)
	if err != nil {
		return fmt.Errorf("is no directory: %w", err)
	}
	defer unix.Close(to)
	source, err := unix.Openat(from, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(source)
	c.dir(source, to, path)
	return nil
}

// link makes the same link.
func (c *copier) link(from, into int, name string) error {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(from, name, target)
	if err != nil {
		return err
	}
	if err = unix.Symlinkat(string(target[:n]), into, name); errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// copyFile copies a regular file, unless there is something of that name. A part
// of a file does not stay.
func copyFile(from, into int, name string, follow int) error {
	fd, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|follow, 0)
	if err != nil {
		return err
	}
	source := os.NewFile(uintptr(fd), name)
	defer source.Close()
	fi, err := source.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return errors.New("no regular file")
	}
	fd, err = unix.Openat(into, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(fi.Mode().Perm()))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(fd), name)
	_, err = io.Copy(to, source)
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = unix.Unlinkat(into, name, 0)
	}
	return err
}
