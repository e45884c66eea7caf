// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const skelHelp = `usage: %s [force]
Copies /etc/skel into a home that was there before its first login, once. See
first-boot-skel(8).
  force      once more
  --version  print the version
`

const (
	skelDir        = "/etc/skel"
	skelUserFile   = "/etc/anon-base-files/user"
	skelState      = "/var/lib/anon-base-files"
	skelState2020  = "/var/cache/anon-base-files"
	templateMarker = "/run/qubes/this-is-templatevm"
	skelIntoFlag   = "--into" // of the child, which runs as the account
)

// Skel is the program first-boot-skel.
func Skel(ctx context.Context, env cli.Env) error {
	if len(env.Args) == 3 && env.Args[1] == skelIntoFlag {
		return skelInto(fsx.Host, env, env.Args[2])
	}
	return (&skel{root: fsx.Host, env: env, as: asAccount}).run(ctx)
}

// skel is a run; as runs this program as an account.
type skel struct {
	root fsx.Root
	env  cli.Env
	as   func(ctx context.Context, a account, io streams, args ...string) error
}

func (s *skel) run(ctx context.Context) error {
	if asked(s.env, skelHelp) {
		return nil
	}
	args := s.env.Args[1:]
	if len(args) > 1 || len(args) == 1 && args[0] != "force" {
		return cli.Usagef("takes no argument but force: %q", args)
	}
	name := "first-boot-skel.done"
	if s.root.Exists(templateMarker) {
		name = "first-boot-skel.TemplateVM.done"
	}
	done, done2020 := skelState+"/"+name, skelState2020+"/"+name
	if len(args) == 1 {
		if err := errors.Join(s.root.Remove(done), s.root.Remove(done2020)); err != nil {
			return err
		}
	}
	if s.root.Exists(done) || s.root.Exists(done2020) {
		return nil
	}
	a, err := s.account(ctx)
	if err != nil || a.name == "" {
		return err
	}
	if !isDir(s.root, a.home) || !isDir(s.root, skelDir) {
		return nil // its first login makes it
	}
	// What could not be copied has been reported; it would be no better at the
	// next start (defect D-24).
	if err := s.as(ctx, a, streams{name: s.env.Name(), out: s.env.Stdout, err: s.env.Stderr}, skelIntoFlag, s.root.Path(a.home)); err != nil {
		s.env.Warnf("%s: not all was copied", a.home)
	}
	if err := s.root.MkdirAll(skelState, 0o755); err != nil {
		return err
	}
	return s.root.WriteAtomic(done, nil, 0o644)
}

// account is whose home is filled. An account that is not there is no error: it
// may come.
func (s *skel) account(ctx context.Context) (account, error) {
	name := "user"
	if data, err := s.root.ReadFile(skelUserFile, fileMax); err == nil {
		name = strings.TrimSpace(string(data))
		if !plainName(name) {
			return account{}, fmt.Errorf("%s: no name of an account: %q", skelUserFile, printable(name))
		}
	}
	a, ok := lookup(ctx, s.root, name)
	if !ok {
		return account{}, nil
	}
	if a.uid == 0 {
		return a, fmt.Errorf("the account %s is root: its home is left alone", name)
	}
	return a, nil
}

func isDir(root fsx.Root, path string) bool {
	fi, err := os.Stat(root.Path(path))
	return err == nil && fi.IsDir()
}

// skelInto is the child: it is the account already.
func skelInto(root fsx.Root, env cli.Env, home string) error {
	if os.Geteuid() == 0 {
		return cli.Usagef("%s is for what this program starts", skelIntoFlag)
	}
	unix.Umask(0o022)
	from, err := unix.Open(root.Path(skelDir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", skelDir, err)
	}
	defer unix.Close(from)
	into, err := unix.Open(home, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", home, err)
	}
	defer unix.Close(into)
	c := &copier{env: env, skip: []string{bashrc, bashrcWhonix, bashrcOriginal}}
	c.top(from, into, home)
	if err := fillBashrc(from, into); err != nil {
		c.report(home+"/"+bashrc, err)
	}
	if c.failed {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

// top copies as dir does, but a link at the top becomes the file that it leads to,
// as ever.
func (c *copier) top(from, into int, path string) {
	list, err := names(from)
	if err != nil {
		c.report(path, err)
		return
	}
	links := []string{}
	for _, name := range list {
		var st unix.Stat_t
		if unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			links = append(links, name)
		}
	}
	known := len(c.skip)
	c.skip = append(c.skip, links...)
	c.dir(from, into, path)
	for _, name := range links {
		if name == bashrc || name == bashrcWhonix || name == bashrcOriginal {
			continue
		}
		if err := copyFile(from, into, name, 0); err != nil {
			c.report(path+"/"+name, err)
		}
	}
	c.skip = c.skip[:known]
}

const (
	bashrc         = ".bashrc"
	bashrcWhonix   = ".bashrc.whonix"
	bashrcOriginal = ".bashrc.whonix-orig"
)

// fillBashrc makes ~/.bashrc if there is none, and replaces it if it is
// Debian's: what a user has changed stays.
func fillBashrc(from, into int) error {
	whonix, err := readAt(from, bashrcWhonix, 0)
	hasWhonix := err == nil
	plain, err := readAt(from, bashrc, 0)
	hasPlain := err == nil
	original, err := readAt(from, bashrcOriginal, 0)
	hasOriginal := err == nil
	first := whonix
	if !hasWhonix {
		first = plain
	}
	own, err := readAt(into, bashrc, unix.O_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		if hasWhonix || hasPlain {
			return writeAt(into, bashrc, first, 0o644)
		}
		return nil
	case err != nil:
		return err
	case hasWhonix && hasPlain && hasOriginal && bytes.Equal(own, original):
		return writeAt(into, bashrc, whonix, 0o644)
	}
	return nil
}

// readAt reads a small regular file of an open directory.
func readAt(dir int, name string, follow int) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|follow, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("no regular file"))
	}
	return io.ReadAll(io.LimitReader(f, fileMax))
}

// writeAt puts a file into an open directory, whole or not at all.
func writeAt(dir int, name string, data []byte, mode uint32) error {
	temporary := "." + name + ".new~"
	if err := unix.Unlinkat(dir, temporary, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	fd, err := unix.Openat(dir, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temporary)
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = unix.Renameat(dir, temporary, dir, name)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, temporary, 0)
	}
	return err
}
