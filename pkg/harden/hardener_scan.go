// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// errNotDirectory is what a path below a file says: there is nothing there.
var errNotDirectory = unix.ENOTDIR

// privilegeBits are setuid and setgid.
const privilegeBits = unix.S_ISUID | unix.S_ISGID

// scan finds regular files with setuid or setgid below the given paths, and
// follows no link. It looks at every file every time: a chmod changes no time of
// the directory, so that whoever remembered the directories would miss it.
func scan(root fsx.Root, tops []string) (found []string, failures []error) {
	s := &scanner{root: root}
	s.wake.L = &s.mutex
	for _, top := range tops {
		p, err := root.Pin(top)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			s.failures = append(s.failures, err)
			continue
		}
		if p.IsDir() {
			s.open = append(s.open, top)
		} else if p.IsRegular() && p.Info.Mode&privilegeBits != 0 {
			s.found = append(s.found, top)
		}
		p.Close()
	}
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Add(1)
		go func() {
			defer wait.Done()
			s.work()
		}()
	}
	wait.Wait()
	slices.Sort(s.found)
	return s.found, s.failures
}

// scanner shares directories among its workers.
type scanner struct {
	root     fsx.Root
	mutex    sync.Mutex
	wake     sync.Cond
	open     []string // directories to be read
	busy     int      // workers that may add some
	found    []string
	failures []error
}

func (s *scanner) work() {
	buf := make([]byte, 64<<10)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for {
		for len(s.open) == 0 && s.busy > 0 {
			s.wake.Wait()
		}
		if len(s.open) == 0 {
			return
		}
		dir := s.open[len(s.open)-1]
		s.open = s.open[:len(s.open)-1]
		s.busy++
		s.mutex.Unlock()
		below, found, failures := s.read(dir, buf)
		s.mutex.Lock()
		s.busy--
		s.open = append(s.open, below...)
		s.found = append(s.found, found...)
		s.failures = append(s.failures, failures...)
		s.wake.Broadcast()
	}
}

// read reads one directory. What vanishes meanwhile is not there.
func (s *scanner) read(dir string, buf []byte) (below, found []string, failures []error) {
	p, err := s.root.Pin(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, []error{err}
	}
	defer p.Close()
	f, err := p.Open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return nil, nil, []error{err}
	}
	defer f.Close()
	fd := int(f.Fd())
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return below, found, append(failures, &fs.PathError{Op: "read", Path: dir, Err: err})
		}
		if n == 0 {
			return below, found, failures
		}
		for name, kind := range entries(buf[:n]) {
			switch isDir, privileged, err := look(fd, name, kind); {
			case err == unix.ENOENT:
			case err != nil:
				failures = append(failures, &fs.PathError{Op: "stat", Path: path.Join(dir, name), Err: err})
			case isDir:
				below = append(below, path.Join(dir, name))
			case privileged:
				found = append(found, path.Join(dir, name))
			}
		}
	}
}

// look says what an entry is, with no system call where the directory tells.
func look(dir int, name string, kind byte) (isDir, privileged bool, err error) {
	switch kind {
	case unix.DT_DIR:
		return true, false, nil
	case unix.DT_REG, unix.DT_UNKNOWN:
	default:
		return false, false, nil
	}
	var st unix.Stat_t
	for {
		err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != unix.EINTR {
			break
		}
	}
	format := st.Mode & unix.S_IFMT
	return err == nil && format == unix.S_IFDIR, err == nil && format == unix.S_IFREG && st.Mode&privilegeBits != 0, err
}

// entries iterates over what getdents64(2) has written, but for `.` and `..`.
func entries(buf []byte) func(yield func(name string, kind byte) bool) {
	const (
		lengthAt = unsafe.Offsetof(unix.Dirent{}.Reclen)
		kindAt   = unsafe.Offsetof(unix.Dirent{}.Type)
		nameAt   = unsafe.Offsetof(unix.Dirent{}.Name)
	)
	return func(yield func(string, byte) bool) {
		for len(buf) > int(nameAt) {
			length := int(binary.NativeEndian.Uint16(buf[lengthAt:]))
			if length <= int(nameAt) || length > len(buf) {
				return
			}
			name, _, _ := bytes.Cut(buf[nameAt:length], []byte{0})
			kind := buf[kindAt]
			buf = buf[length:]
			if string(name) == "." || string(name) == ".." {
				continue
			}
			if !yield(string(name), kind) {
				return
			}
		}
	}
}
