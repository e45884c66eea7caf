// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// displacedLinks are files that are links to those of our packages beside them.
// Scripts of Qubes have replaced them by files of their own.
func displacedLinks() []string {
	return []string{"/etc/resolv.conf.whonix", "/etc/hostname.anondist", "/etc/hosts.anondist"}
}

// repairLinks puts back the links that are none any more; what was there is kept
// beside them. A link to somewhere else is somebody's wish.
func repairLinks(root fsx.Root, env cli.Env) error {
	var all error
	for _, target := range displacedLinks() {
		if root.IsFile(target) {
			all = errors.Join(all, repairLink(root, env, target))
		}
	}
	return all
}

func repairLink(root fsx.Root, env cli.Env, target string) error {
	path := target[:len(target)-len(filepath.Ext(target))]
	kept, temporary := path+".replaced", path+".new"
	fi, err := os.Lstat(root.Path(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case fi.Mode()&fs.ModeSymlink != 0:
		return nil
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%s is neither a file nor a link: remove it", path)
	default:
		if err := clearImmutable(root.Path(path)); err != nil {
			return fmt.Errorf("%s: clear the immutable flag: %w", path, err)
		}
		if err := root.Remove(kept); err != nil {
			return err
		}
		// The name never vanishes.
		if err := unix.Linkat(unix.AT_FDCWD, root.Path(path), unix.AT_FDCWD, root.Path(kept), 0); err != nil {
			return fmt.Errorf("keep %s as %s: %w", path, kept, err)
		}
	}
	if err := root.Remove(temporary); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Base(target), root.Path(temporary)); err != nil {
		return err
	}
	if err := os.Rename(root.Path(temporary), root.Path(path)); err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	fmt.Fprintf(env.Stdout, "INFO: %s is a link to %s again\n", path, filepath.Base(target))
	return nil
}

// clearImmutable lets a file be replaced. Not every file system has the flag.
func clearImmutable(host string) error {
	const immutable = 0x10 // FS_IMMUTABLE_FL of linux/fs.h
	fd, err := unix.Open(host, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutable == 0 {
		return nil
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^immutable)
}
