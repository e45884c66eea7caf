// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// place is a name in a directory that is open. Who names it may not be trusted,
// nor who can write there: links on the way count only if root or the user
// itself made them, and one at the name itself is never followed.
type place struct {
	dir  *os.File
	path string
	name string
}

const (
	linksMax  = 40 // as in the kernel
	parentsAs = 0o755
)

// openPlace opens the directory of an absolute path; with create what is missing
// of it is made.
func openPlace(path string, create bool) (*place, error) {
	path = filepath.Clean(path)
	if !filepath.IsAbs(path) || path == "/" {
		return nil, fmt.Errorf("%s: names no file", path)
	}
	dir, err := openWay(filepath.Dir(path), create)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &place{dir, path, filepath.Base(path)}, nil
}

func (p *place) close()  { p.dir.Close() }
func (p *place) fd() int { return int(p.dir.Fd()) }

// proc is a path to the same, however long the real one is.
func (p *place) proc() string { return fmt.Sprintf("/proc/self/fd/%d/%s", p.fd(), p.name) }

// openWay opens a directory, step by step.
func openWay(path string, create bool) (*os.File, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	at, err := unix.Open("/", flags, 0)
	if err != nil {
		return nil, err
	}
	defer func() { unix.Close(at) }()
	rest := strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next, err := unix.Openat(at, name, flags, 0)
		if errors.Is(err, unix.ENOENT) && create {
			if err := unix.Mkdirat(at, name, parentsAs); err != nil && !errors.Is(err, unix.EEXIST) {
				return nil, err
			}
			next, err = unix.Openat(at, name, flags, 0)
		}
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			target, ok := ownLink(at, name)
			if links++; !ok || links > linksMax {
				return nil, fmt.Errorf("%s: %w, or a link of somebody else", name, unix.ENOTDIR)
			}
			rest = append(strings.Split(target, "/"), rest...)
			if !strings.HasPrefix(target, "/") {
				continue
			}
			next, err = unix.Open("/", flags, 0)
		}
		if err != nil {
			return nil, err
		}
		unix.Close(at)
		at = next
	}
	fd, err := unix.FcntlInt(uintptr(at), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// ownLink reads a link that root or the user has made.
func ownLink(dir int, name string) (string, bool) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return "", false
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	return string(target[:max(n, 0)]), err == nil && n > 0
}

// stat returns the type of what is there, 0 for nothing.
func (p *place) stat() (st unix.Stat_t, kind uint32, err error) {
	err = unix.Fstatat(p.fd(), p.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return st, 0, nil
	}
	return st, st.Mode & unix.S_IFMT, err
}

// dead reports a socket on which nobody listens.
func (p *place) dead() bool {
	c, err := net.Dial("unix", p.proc())
	if err == nil {
		c.Close()
	}
	return errors.Is(err, unix.ECONNREFUSED)
}

// start reads the begin of a regular file.
func (p *place) start() ([]byte, error) {
	const enough = 64
	fd, err := unix.Openat(p.fd(), p.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), p.path)
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, enough))
}

// free refuses a name at which there is something that may not be replaced: links
// and dead sockets may, and files that ours takes for its like.
func (p *place) free(ours func(start []byte) bool) error {
	_, kind, err := p.stat()
	if err != nil {
		return fmt.Errorf("%s: %w", p.path, err)
	}
	switch {
	case kind == 0, kind == unix.S_IFLNK, kind == unix.S_IFSOCK && p.dead():
		return nil
	case kind == unix.S_IFREG && ours != nil:
		if start, err := p.start(); err == nil && ours(start) {
			return nil
		}
	}
	return fmt.Errorf("%s exists, and is not replaced", p.path)
}

// temporary is a name beside the place that is not taken.
func (p *place) temporary() (string, error) {
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	return "." + hex.EncodeToString(random), nil
}

// link puts a symbolic link there, and returns how to take it away again.
func (p *place) link(target string, ours func([]byte) bool) (undo func(), err error) {
	if err := p.free(ours); err != nil {
		return nil, err
	}
	name, err := p.temporary()
	if err != nil {
		return nil, err
	}
	if err := unix.Symlinkat(target, p.fd(), name); err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	if err := unix.Renameat(p.fd(), name, p.fd(), p.name); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", p.path, err), unix.Unlinkat(p.fd(), name, 0))
	}
	return func() {
		is := make([]byte, unix.PathMax)
		if n, err := unix.Readlinkat(p.fd(), p.name, is); err == nil && string(is[:n]) == target {
			_ = unix.Unlinkat(p.fd(), p.name, 0) // nothing left to do if that fails
		}
	}, nil
}

// put writes a file there, whole or not at all, and returns how to take it away
// again.
func (p *place) put(content []byte, mode uint32, ours func([]byte) bool) (undo func(), err error) {
	if err := p.free(ours); err != nil {
		return nil, err
	}
	name, err := p.temporary()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(p.fd(), name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(content)
	err = errors.Join(err, unix.Fchmod(fd, mode), f.Close())
	if err == nil {
		err = unix.Renameat(p.fd(), name, p.fd(), p.name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", p.path, err), unix.Unlinkat(p.fd(), name, 0))
	}
	return p.removal()
}

// removal returns how to take away what is there now, and nothing else.
func (p *place) removal() (func(), error) {
	st, _, err := p.stat()
	if err != nil {
		return nil, err
	}
	file := fsx.IdentityOf(st)
	return func() {
		if file.IsAt(p.fd(), p.name) {
			_ = unix.Unlinkat(p.fd(), p.name, 0) // nothing left to do if that fails
		}
	}, nil
}

// makeDir makes a directory with its parents.
func makeDir(path string, mode uint32) error {
	p, err := openPlace(path, true)
	if err != nil {
		return err
	}
	defer p.close()
	err = unix.Mkdirat(p.fd(), p.name, mode)
	if errors.Is(err, unix.EEXIST) {
		var there *os.File
		if there, err = openWay(path, false); err == nil {
			there.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// appendTo opens a log, which is made if it is missing. What is there and is no
// log is left alone where root could do harm.
func (p *place) appendTo() (*os.File, error) {
	const mode = 0o640
	if os.Geteuid() == 0 {
		if _, kind, err := p.stat(); err == nil && kind == unix.S_IFREG {
			if start, err := p.start(); err != nil || !likeLog(start) {
				return nil, fmt.Errorf("%s exists, and is no log", p.path)
			}
		}
	}
	fd, err := unix.Openat(p.fd(), p.name, unix.O_CREAT|unix.O_APPEND|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if kind := st.Mode & unix.S_IFMT; err != nil || kind != unix.S_IFREG && kind != unix.S_IFCHR {
		unix.Close(fd)
		return nil, errors.Join(fmt.Errorf("%s: is no file", p.path), err)
	}
	return os.NewFile(uintptr(fd), p.path), nil
}

// likeLog reports the begin of a log of Tor: a month, or nothing.
func likeLog(start []byte) bool {
	const months = "JanFebMarAprMayJunJulAugSepOctNovDec"
	return len(start) == 0 || len(start) > 4 && start[3] == ' ' && bytes.Index([]byte(months), start[:3])%3 == 0
}
