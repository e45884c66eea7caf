// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// torAccount owns what a Tor would own.
const torAccount = "debian-tor"

// cookie is what programs that insist on a control cookie get. It is public:
// the Gateway's filter takes any.
const cookie = "234435f8eb0540ec3bf06e7958847ba0272683d7a97f82b0190c7d76b64d0952"

// stateDir is a directory of Tor's, with the names of the cookies in it:
// Debian's, that of older tools, and Tor's own default.
type stateDir struct {
	path    string
	mode    uint32
	cookies []string
}

func stateDirs() []stateDir {
	const setgid = 0o2000
	return []stateDir{
		{"/run/tor", setgid | 0o755, []string{"control.authcookie", "control_auth_cookie"}},
		{"/var/lib/tor", setgid | 0o700, []string{"control_auth_cookie"}},
	}
}

const stateFilesHelp = `usage: state-files
Puts in place what programs look for beside a running Tor: its directories and
its control cookie. See state-files(8).
`

// StateFiles is the program state-files.
func StateFiles(_ context.Context, env cli.Env) error {
	if len(env.Args) > 1 && (env.Args[1] == "--help" || env.Args[1] == "-h") {
		fmt.Fprint(env.Stdout, stateFilesHelp)
		return nil
	}
	if len(env.Args) > 1 {
		return cli.Usagef("%q: this program takes no arguments", env.Args[1])
	}
	uid, gid, err := account(fsx.Host, torAccount)
	if err != nil {
		return err
	}
	content, err := hex.DecodeString(cookie)
	if err != nil {
		return err
	}
	for _, d := range stateDirs() {
		if err := d.prepare(fsx.Host, uid, gid, content); err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
	}
	return nil
}

// account looks up a user's numbers.
func account(root fsx.Root, name string) (uid, gid int, err error) {
	const sizeMax = 16 << 20
	data, err := root.ReadFile("/etc/passwd", sizeMax)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || f[0] != name {
			continue
		}
		uid, err = strconv.Atoi(f[2])
		if err == nil {
			gid, err = strconv.Atoi(f[3])
		}
		return uid, gid, err
	}
	return 0, 0, fmt.Errorf("there is no account %s", name)
}

// prepare makes the directory and what is in it. Everything is done by
// descriptors, and nothing by following a link: the account that owns the
// directory may have put one there (defect 39).
func (d stateDir) prepare(root fsx.Root, uid, gid int, content []byte) error {
	const parents = 0o755
	host := root.Path(d.path)
	if err := root.MkdirAll(d.path, parents); err != nil {
		return err
	}
	dir, err := unix.Open(host, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return errors.New("is no directory, or a link to one: refused")
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	for _, name := range d.cookies {
		if err := putCookie(dir, name, uid, gid, content); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := chownEntries(dir, uid, gid); err != nil {
		return err
	}
	if err := unix.Fchown(dir, uid, gid); err != nil {
		return err
	}
	return unix.Fchmod(dir, d.mode) // after the owner, which takes the set-group-ID bit away
}

// putCookie replaces a cookie by a new file.
func putCookie(dir int, name string, uid, gid int, content []byte) (err error) {
	const mode = 0o640
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	temporary := "." + name + "." + hex.EncodeToString(random)
	fd, err := unix.Openat(dir, temporary, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temporary)
	defer func() {
		f.Close()
		if err != nil {
			_ = unix.Unlinkat(dir, temporary, 0)
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return err
	}
	return unix.Renameat(dir, temporary, dir, name)
}

// chownEntries gives the account everything below a directory, links
// themselves, never what they lead to. Entries that vanish meanwhile are gone.
func chownEntries(dir, uid, gid int) error {
	again, err := unix.Openat(dir, ".", unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(again), ".")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := chownEntry(dir, name, uid, gid); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// chownEntry is for one entry and what is below it. A file of another account's
// with a second name is that account's, wherever that name is: debian-tor can
// give one to what it cannot change, unless fs.protected_hardlinks is on.
func chownEntry(dir int, name string, uid, gid int) error {
	entry, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(entry)
	var st unix.Stat_t
	if err := unix.Fstat(entry, &st); err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if int(st.Uid) != uid && !isDir && st.Nlink > 1 {
		return errors.New("has another name elsewhere: refused; remove it")
	}
	if int(st.Uid) != uid || int(st.Gid) != gid {
		if err := unix.Fchownat(entry, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if !isDir {
		return nil
	}
	below, err := unix.Openat(entry, ".", unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(below)
	return chownEntries(below, uid, gid)
}
