// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
)

// What root and the account that it has become say to each other: a line of JSON
// for each object, and then the content of a file.

// The child's tasks.
const (
	taskRead  = "--read-home"
	taskWrite = "--write-home"
)

// order is a line to the child that writes.
type order struct {
	Remove bool   `json:"remove"`
	Object object `json:"object"`
}

// homeSide is the child: the account already, in its home.
func homeSide(env cli.Env, task, dir string) error {
	if os.Geteuid() == 0 {
		return cli.Usagef("%s is for what this program starts", task)
	}
	home, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	defer unix.Close(home)
	if task == taskRead {
		return sendHome(home, env.Stdout)
	}
	unix.Umask(0)
	return takeOrders(home, env.Stdin)
}

// sendHome writes all that is watched.
func sendHome(home int, to io.Writer) error {
	out := bufio.NewWriterSize(to, 1<<16)
	e := json.NewEncoder(out)
	w := &walker{visit: func(o object, content *os.File) error {
		if err := e.Encode(o); err != nil || content == nil {
			return err
		}
		n, err := io.Copy(out, io.LimitReader(content, o.Size))
		if err == nil && n < o.Size {
			err = errors.New("became shorter while it was read")
		}
		return err
	}}
	if err := w.home(home); err != nil {
		return err
	}
	// The end is a line of its own: what stops in between is not taken for a
	// home without the rest.
	if err := e.Encode(object{Kind: objectEnd}); err != nil {
		return err
	}
	return out.Flush()
}

const objectEnd = "end"

// lineMax bounds a line about an object.
const lineMax = 1 << 16

// readLine reads a line of JSON. What is behind it stays unread.
func readLine(r *bufio.Reader, v any) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// takeOrders removes and restores. The first failure ends it.
func takeOrders(home int, from io.Reader) error {
	in := bufio.NewReaderSize(from, lineMax)
	for {
		var o order
		if err := readLine(in, &o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		p := string(o.Object.Path)
		if !isWatched(p) {
			return fmt.Errorf("%q is not watched", p)
		}
		mode := uint32(0)
		if !o.Remove {
			mode = 0o700
		}
		parent, err := openBelow(home, path.Dir(p), mode)
		if errors.Is(err, unix.ENOENT) && o.Remove {
			continue
		}
		if err == nil {
			if o.Remove {
				err = removeAt(parent, path.Base(p), 0)
			} else {
				err = restoreAt(parent, path.Base(p), o.Object, in)
			}
			unix.Close(parent)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", printable(p), err)
		}
	}
}

// removeAt removes an object, a directory with all that is in it.
func removeAt(parent int, name string, depth int) error {
	if depth > depthMax {
		return errors.New("too deep")
	}
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	list, err := names(fd)
	if err != nil {
		return err
	}
	for _, n := range list {
		if err := removeAt(fd, n, depth+1); err != nil {
			return err
		}
	}
	return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
}

// restoreAt puts an object in the place of what is there.
func restoreAt(parent int, name string, o object, content io.Reader) error {
	switch o.Kind {
	case objectDir:
		if err := unix.Mkdirat(parent, name, o.Mode); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fchmod(fd, o.Mode)
	case objectLink:
		if err := removeAt(parent, name, 0); err != nil {
			return err
		}
		return unix.Symlinkat(string(o.Target), parent, name)
	case objectFile:
		return restoreFile(parent, name, o, content)
	}
	return fmt.Errorf("a %s cannot be restored", o.Kind)
}

// restoreFile writes beside the place, and renames: either the old or the new file
// is there.
func restoreFile(parent int, name string, o object, content io.Reader) error {
	const temporary = ".virusforget.new~"
	if err := removeAt(parent, temporary, 0); err != nil {
		return err
	}
	fd, err := unix.Openat(parent, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temporary)
	_, err = io.CopyN(f, content, o.Size)
	if err == nil {
		err = unix.Fchmod(fd, o.Mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		if err = unix.Renameat(parent, temporary, parent, name); errors.Is(err, unix.EISDIR) {
			if err = removeAt(parent, name, 0); err == nil {
				err = unix.Renameat(parent, temporary, parent, name)
			}
		}
	}
	if err != nil {
		_ = unix.Unlinkat(parent, temporary, 0)
	}
	return err
}
