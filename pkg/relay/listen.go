// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Listener opens the listener of a command line. A TCP address can be had again
// at once after its use. A unix socket takes the place of one on which nobody
// listens any more, and goes when it is closed.
func (s *Socat) Listener() (net.Listener, error) {
	if s.Listen.Network != "unix" {
		return net.Listen(s.Listen.Network, s.Listen.Address)
	}
	path := s.Listen.Address
	if strings.HasPrefix(path, "@") {
		return net.Listen("unix", path)
	}
	const dirMode = 0o755
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, err
	}
	if err := s.vacate(path); err != nil {
		return nil, err
	}
	return s.listenUnix(path)
}

// vacate removes a dead socket, or whatever is there with unlink-early.
func (s *Socat) vacate(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || s.Unlink {
		return errors.Join(err, os.Remove(path))
	}
	if fi.Mode().Type() == fs.ModeSocket {
		c, err := net.Dial("unix", path)
		if errors.Is(err, unix.ECONNREFUSED) {
			return os.Remove(path)
		}
		if err == nil {
			c.Close()
			return fmt.Errorf("%s: somebody listens there", path)
		}
	}
	return fmt.Errorf("%s exists", path)
}

// listenUnix sets mode and owner before anybody can connect.
func (s *Socat) listenUnix(path string) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, fmt.Errorf("bind %s: %w", path, err)
	}
	fail := func(err error) (net.Listener, error) { return nil, errors.Join(err, os.Remove(path)) }
	if err := s.own(path); err != nil {
		return fail(err)
	}
	backlog := s.Backlog
	if backlog == 0 {
		backlog = unix.SOMAXCONN
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return fail(fmt.Errorf("listen on %s: %w", path, err))
	}
	l, err := net.FileListener(f)
	if err != nil {
		return fail(err)
	}
	return &unlinking{l, path}, nil
}

// own gives a socket its mode and owner.
func (s *Socat) own(path string) error {
	if s.Mode != "" {
		mode, err := strconv.ParseUint(s.Mode, 8, 12)
		if err != nil {
			return err
		}
		if err := unix.Chmod(path, uint32(mode)); err != nil {
			return fmt.Errorf("chmod %s: %w", path, err)
		}
	}
	uid, gid := -1, -1
	if s.User != "" {
		u, err := user.Lookup(s.User)
		if err != nil {
			return err
		}
		if uid, err = strconv.Atoi(u.Uid); err != nil {
			return err
		}
	}
	if s.Group != "" {
		g, err := user.LookupGroup(s.Group)
		if err != nil {
			return err
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return err
		}
	}
	if uid < 0 && gid < 0 {
		return nil
	}
	return os.Lchown(path, uid, gid)
}

// unlinking removes the socket's path when it is closed.
type unlinking struct {
	net.Listener
	path string
}

func (u *unlinking) Close() error {
	return errors.Join(os.Remove(u.path), u.Listener.Close())
}
