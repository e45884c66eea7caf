// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Sockets of these daemons, which look names up for other programs, are files:
// a network namespace does not hide them. In front of each directory comes an
// empty one; nss-resolve, nscd's clients and nss-mdns then leave the question
// to DNS, which goes to our responder.
const (
	resolveDir = "/run/systemd/resolve"
	nscdDir    = "/run/nscd"
	avahiDir   = "/run/avahi-daemon"
)

// resolverConf is the resolver's configuration, resolv.conf(5). It has no
// domain to search: the name of the local one is nobody's business.
const resolverConf = "/etc/resolv.conf"

const resolverText = "# of uwt: names are resolved by Tor\nnameserver 127.0.0.1\n"

// stage is where the masks are built, before they are bound in front of what
// they hide. It is covered for that long.
const stage = "/tmp"

const maskFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// maskResolvers hides, in this process's mount namespace, what would answer
// questions for names without Tor. An error leaves some of it visible.
func maskResolvers() error {
	// First of all: nothing of this may reach the mount namespace outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("uwt", stage, "tmpfs", maskFlags, "size=1m,mode=0755"); err != nil {
		return fmt.Errorf("mount on %s: %w", stage, err)
	}
	err := buildMasks()
	for _, m := range []struct{ mask, over string }{
		{"resolve", resolveDir}, {"empty", nscdDir}, {"empty", avahiDir}, {"resolve/resolv.conf", resolverConf},
	} {
		if err == nil {
			err = cover(filepath.Join(stage, m.mask), m.over)
		}
	}
	if undo := unix.Unmount(stage, unix.MNT_DETACH); undo != nil {
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", stage, undo))
	}
	return err
}

// buildMasks makes the stage's content.
func buildMasks() error {
	for _, dir := range []string{"empty", "resolve"} {
		if err := os.Mkdir(filepath.Join(stage, dir), 0o755); err != nil {
			return err
		}
	}
	for _, file := range []string{"resolv.conf", "stub-resolv.conf"} {
		if err := os.WriteFile(filepath.Join(stage, "resolve", file), []byte(resolverText), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cover binds a mask in front of path, read-only. What is not there needs no
// mask.
func cover(mask, path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := unix.Mount(mask, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("hide %s: %w", path, err)
	}
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|maskFlags, ""); err != nil {
		return fmt.Errorf("make what hides %s read-only: %w", path, err)
	}
	return nil
}
