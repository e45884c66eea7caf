// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// Listener opens the listener of a command line. A TCP address can be had again
// at once after its use. A unix socket takes the place of one on which nobody
// listens any more, and goes when it is closed.
func (s *Socat) Listener() (*Listener, error) {
	path := s.Listen.Address
	if s.Listen.Network != "unix" || strings.HasPrefix(path, "@") {
		config := net.ListenConfig{}
		config.SetMultipathTCP(false) // of which not all options can be inherited
		l, err := config.Listen(context.Background(), s.Listen.Network, path)
		if err != nil {
			return nil, err
		}
		if err := s.queue(l); err != nil {
			l.Close()
			return nil, err
		}
		return TakeListener(l)
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

// queue sets how many connections may wait.
func (s *Socat) queue(l net.Listener) error {
	if s.Backlog == 0 {
		return nil
	}
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = unix.Listen(int(fd), s.Backlog) }); err != nil {
		return err
	}
	return listenErr
}

// vacate removes a dead socket, or whatever is there with unlink-early.
func (s *Socat) vacate(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Unlink {
		return unix.Unlink(path) // not a directory
	}
	if fi.Mode().Type() == fs.ModeSocket {
		c, err := net.Dial("unix", path)
		if errors.Is(err, unix.ECONNREFUSED) {
			return unix.Unlink(path)
		}
		if err == nil {
			c.Close()
			return fmt.Errorf("%s: somebody listens there", path)
		}
	}
	return fmt.Errorf("%s exists", path)
}

// listenUnix sets mode and owner before anybody can connect.
func (s *Socat) listenUnix(path string) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	l := newListener(fd, &net.UnixAddr{Name: path, Net: "unix"})
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind %s: %w", path, err), l.Close())
	}
	l.path = path
	if l.file, err = s.own(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	backlog := s.Backlog
	if backlog == 0 {
		backlog = unix.SOMAXCONN
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	if s.Keep {
		l.path = ""
	}
	return l, nil
}

// own gives a socket its mode and owner, and tells which file it is. Who can
// change the directory may have put another file there meanwhile: it is looked
// at without following a link, and not touched if it is no socket of ours.
func (s *Socat) own(path string) (fsx.Identity, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fsx.Identity{}, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fsx.Identity{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || int(st.Uid) != os.Geteuid() {
		return fsx.Identity{}, fmt.Errorf("%s is not the socket any more that was made there", path)
	}
	at := fsx.IdentityOf(st)
	if s.Mode != "" {
		mode, err := strconv.ParseUint(s.Mode, 8, 12)
		if err != nil {
			return at, err
		}
		err = unix.Fchmodat(fd, "", uint32(mode), unix.AT_EMPTY_PATH)
		if errors.Is(err, unix.EOPNOTSUPP) { // before Linux 6.6
			err = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), uint32(mode))
		}
		if err != nil {
			return at, fmt.Errorf("chmod %s: %w", path, err)
		}
	}
	uid, gid, err := s.owner()
	if err != nil || uid < 0 && gid < 0 {
		return at, err
	}
	if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return at, fmt.Errorf("chown %s: %w", path, err)
	}
	return at, nil
}

// owner are the ids to give to a socket; -1 leaves what is.
func (s *Socat) owner() (uid, gid int, err error) {
	uid, gid = -1, -1
	if s.User != "" {
		if uid, err = strconv.Atoi(s.User); err != nil {
			u, err := user.Lookup(s.User)
			if err != nil {
				return -1, -1, err
			}
			if uid, err = strconv.Atoi(u.Uid); err != nil {
				return -1, -1, err
			}
		}
	}
	if s.Group != "" {
		if gid, err = strconv.Atoi(s.Group); err != nil {
			g, err := user.LookupGroup(s.Group)
			if err != nil {
				return -1, -1, err
			}
			if gid, err = strconv.Atoi(g.Gid); err != nil {
				return -1, -1, err
			}
		}
	}
	return uid, gid, nil
}
