// SPDX-License-Identifier: GPL-3.0-or-later

package onionauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/torrc"
)

const installHelp = `usage: %s
Installs the key of an onion service's client, a file that ends in
.auth_private. Settings come from the environment: sourcefile, client and others.
See anon-server-to-client-install(8).
`

func (s *system) install(ctx context.Context) error {
	if done, err := s.plain(installHelp); done {
		return err
	}
	if !s.isRoot() {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	i, err := newInstallation(s.env)
	if err != nil {
		return s.fail(err)
	}
	return s.fail(s.put(ctx, i))
}

// put installs the key; a failed step takes back what those before have done.
func (s *system) put(ctx context.Context, i *installation) (err error) {
	if err := i.find(s.root); err != nil {
		return err
	}
	if err := s.torRuns(ctx, i.unit); err != nil {
		return err
	}
	text, err := s.source(i.source)
	if err != nil {
		return err
	}
	if !s.root.Exists(i.torDir) {
		return sentence(fmt.Sprintf("tor_dir '%s' does not exist!", i.torDir))
	}
	if err := s.confDir(i.confDir); err != nil {
		return err
	}
	dir, err := openFolder(s.root, i.dir, i.account)
	if err != nil {
		return err
	}
	defer dir.close()
	if err := dir.private(); err != nil {
		return err
	}
	name := filepath.Base(i.target)
	old, oldErr := dir.read(name)
	if dir.has(name) && !i.force && (oldErr != nil || string(old) != text) {
		return fmt.Errorf("%s is there, and differs; to replace it say force=1", i.target)
	}
	if err := dir.write(name, text); err != nil {
		return err
	}
	undo := func() error { return nil }
	defer func() {
		if err == nil {
			return
		}
		if oldErr == nil {
			err = errors.Join(err, dir.write(name, string(old)))
		} else {
			dir.remove(name)
		}
		err = errors.Join(err, undo())
	}()
	s.say("INFO: Installed \".auth_private\" file (private key) '%s' to '%s'.", i.source, i.target)
	if undo, err = s.announce(i); err != nil {
		return err
	}
	s.say("INFO: Reloading Tor to activate \".auth_private\" file (private key).")
	if err := s.reload(ctx, i.unit); err != nil {
		return err
	}
	s.say("INFO: Success.")
	return nil
}

// announce tells Tor of the directory, unless its configuration does already:
// said twice, Tor warns at every start (defect 30).
func (s *system) announce(i *installation) (undo func() error, err error) {
	undo = func() error { return nil }
	for _, dir := range []string{"/etc/torrc.d", i.confDir} {
		files, err := s.root.ConfFiles(dir, ".conf")
		if err != nil {
			return undo, err
		}
		for _, f := range files {
			data, err := s.root.ReadFile(f, confMax)
			if err != nil {
				continue // Tor will say so
			}
			lines, _ := torrc.Parse(f, data)
			for _, l := range lines {
				if option, _ := torrc.Name(l.Key); option == "ClientOnionAuthDir" && filepath.Clean(l.Value) == i.dir {
					return undo, nil
				}
			}
		}
	}
	back, err := s.replaceConf(i.conf, fmt.Sprintf("# Made by %s.\nClientOnionAuthDir %s\n", s.env.Name(), i.dir))
	if err != nil {
		return undo, err
	}
	s.say("INFO: Created torconffile '%s'.", i.conf)
	return back, nil
}

// source reads the file that the client was given. It is a user's: it may be
// no file at all, or a link to one of root's.
func (s *system) source(path string) (string, error) {
	fd, err := unix.Open(s.root.Path(path), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		fmt.Fprintf(s.env.Stderr, "ERROR: sourcefile '%s' does not exist!\n", path)
		return "", &cli.Exit{Code: cli.CodeFailed}
	}
	if errors.Is(err, unix.ELOOP) {
		err = errors.New("is a link")
	}
	if err != nil {
		return "", fmt.Errorf("sourcefile '%s': %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return "", fmt.Errorf("sourcefile '%s': is no regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, lineMax))
	if err == nil {
		err = checkClientLine(string(data))
	}
	if err != nil {
		return "", fmt.Errorf("sourcefile '%s': %w", path, err)
	}
	return string(data), nil
}
