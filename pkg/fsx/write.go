// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// MkdirAll creates p and its missing parents with the given mode, whatever the
// umask. Existing directories keep theirs.
func (r Root) MkdirAll(p string, mode fs.FileMode) error {
	host := r.Path(p)
	if fi, err := os.Stat(host); err == nil {
		if !fi.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: p, Err: unix.ENOTDIR}
		}
		return nil
	}
	if parent := filepath.Dir(p); parent != p {
		if err := r.MkdirAll(parent, mode); err != nil {
			return err
		}
	}
	err := os.Mkdir(host, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return r.logicalError(err)
	}
	return r.logicalError(os.Chmod(host, mode))
}

// WriteAtomic replaces p by a file with the given content and mode: a
// temporary file beside it, fsync, rename. Either the old or the new content
// is there, never a part.
func (r Root) WriteAtomic(p string, data []byte, mode fs.FileMode) error {
	const self = -1
	return r.WriteAtomicAs(p, data, mode, self, self)
}

// WriteAtomicAs is WriteAtomic for a file that belongs to somebody else. An
// owner or group of -1 is the process's own.
func (r Root) WriteAtomicAs(p string, data []byte, mode fs.FileMode, uid, gid int) (err error) {
	host := r.Path(p)
	f, err := os.CreateTemp(filepath.Dir(host), "."+filepath.Base(host)+".*")
	if err != nil {
		return r.logicalError(err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = r.logicalError(err)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if uid != -1 || gid != -1 { // services may not be allowed to ask for nothing
		if err = f.Chown(uid, gid); err != nil {
			return err
		}
	}
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), host)
}

// SyncDir makes the entries of a directory last over a power cut; see fsync(2).
func (r Root) SyncDir(p string) error {
	f, err := os.OpenFile(r.Path(p), os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return r.logicalError(err)
	}
	defer f.Close()
	return r.logicalError(f.Sync())
}

// Touch creates p as an empty file with the given mode, or sets its
// modification time. It does not follow a symbolic link.
func (r Root) Touch(p string, mode fs.FileMode) error {
	f, err := os.OpenFile(r.Path(p), os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
	if err != nil {
		return r.logicalError(err)
	}
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return r.logicalError(err)
	}
	return unix.Futimes(int(f.Fd()), nil)
}

// Remove deletes the file p; a missing one is no error.
func (r Root) Remove(p string) error {
	if err := os.Remove(r.Path(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r.logicalError(err)
	}
	return nil
}

// lockPoll is how often a waiting Lock looks again; flock(2) cannot be
// interrupted by a context.
const lockPoll = 5 * time.Millisecond

// Lock takes an exclusive flock(2) on p, creating it (0600) if missing, and
// waits for it until ctx ends. The returned function lets it go.
func (r Root) Lock(ctx context.Context, p string) (unlock func(), err error) {
	f, err := os.OpenFile(r.Path(p), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, r.logicalError(err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", p, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: held by another run: %w", p, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}
