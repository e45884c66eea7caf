// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// keyName is the file with the key for names of shared circuits.
const keyName = "uwt-circuits.key"

// namedPassword is the password of streams that share a name. It is made with
// a key of the user's that lasts for a login: who knows the name but not the
// key, on another Workstation behind the same Gateway say, cannot join the
// circuit, and yesterday's streams cannot be told to be of today's user.
func namedPassword(root fsx.Root, name string) (string, error) {
	dir := "/run/user/" + strconv.Itoa(os.Geteuid())
	if os.Geteuid() == 0 { // has no such directory unless it is logged in
		const mode = 0o700
		dir = "/run/uwt"
		if err := root.MkdirAll(dir, mode); err != nil {
			return "", fmt.Errorf("key for shared circuits: %w", err)
		}
	}
	key, err := circuitKey(root.Path(dir))
	if err != nil {
		return "", fmt.Errorf("key for shared circuits: %w", err)
	}
	return password(key, "name "+name), nil
}

// circuitKey reads the key in dir, and makes it if there is none. The
// directory must be one that nobody else can write to.
func circuitKey(dir string) ([]byte, error) {
	fi, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !ok || !fi.IsDir() || int(st.Uid) != os.Geteuid() || fi.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s: others can write to it", dir)
	}
	path := filepath.Join(dir, keyName)
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := createKey(dir, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return readKey(path) // of two that made one, the first has made it
}

func readKey(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() || int(st.Uid) != os.Geteuid() || fi.Mode().Perm()&0o077 != 0 || fi.Size() != secretSize {
		return nil, fmt.Errorf("%s: is not a file of %d bytes that only its owner can read; remove it", path, secretSize)
	}
	key := make([]byte, secretSize)
	if _, err := f.ReadAt(key, 0); err != nil {
		return nil, err
	}
	return key, nil
}

// createKey makes the file with all of its content, or not at all; it does not
// replace one.
func createKey(dir, path string) error {
	f, err := os.CreateTemp(dir, "."+keyName+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	key := make([]byte, secretSize)
	_, _ = rand.Read(key) // never fails, see its documentation
	if _, err := f.Write(key); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}
