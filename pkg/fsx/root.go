// SPDX-License-Identifier: GPL-3.0-or-later

// Package fsx is rooted file access: every path a program reads or writes is
// named as on the running system and resolved below a Root, which is the host
// in production and a temporary directory in tests. No environment variable or
// argument can choose the Root.
package fsx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is the directory that stands for `/`.
type Root string

// Host is the running system's own root.
const Host Root = "/"

// ErrTooLarge says that a file is larger than its reader allows.
var ErrTooLarge = errors.New("file too large")

// Path returns where the absolute path p lies on the host.
func (r Root) Path(p string) string { return filepath.Join(string(r), p) }

// Logical is the reverse of Path: the path as messages show it.
func (r Root) Logical(host string) string {
	if r == Host {
		return host
	}
	if rel, ok := strings.CutPrefix(host, filepath.Clean(string(r))); ok && strings.HasPrefix(rel, "/") {
		return rel
	}
	return host
}

// Exists reports whether p leads to something, of whatever type.
func (r Root) Exists(p string) bool {
	_, err := os.Stat(r.Path(p))
	return err == nil
}

// IsFile reports whether p leads to a regular file.
func (r Root) IsFile(p string) bool {
	fi, err := os.Stat(r.Path(p))
	return err == nil && fi.Mode().IsRegular()
}

// ReadFile reads the whole of p, which must be a regular file of at most limit
// bytes. A longer one yields ErrTooLarge.
func (r Root) ReadFile(p string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(r.Path(p), os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, r.logicalError(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, r.logicalError(err)
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: p, Err: errors.New("not a regular file")}
	}
	// What it says its size is spares the growing; it may be wrong, as in /proc.
	data := bytes.NewBuffer(make([]byte, 0, min(fi.Size(), limit)+bytes.MinRead))
	if _, err := data.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, r.logicalError(err)
	}
	if int64(data.Len()) > limit {
		return nil, &fs.PathError{Op: "read", Path: p, Err: fmt.Errorf("%w (more than %d bytes)", ErrTooLarge, limit)}
	}
	return data.Bytes(), nil
}

// ConfFiles lists dir's entries that end in suffix and do not begin with a
// dot, as full logical paths in C-locale byte order: what the shell's
// `dir/*suffix` expands to with nullglob. A missing directory has none.
func (r Root) ConfFiles(dir, suffix string) ([]string, error) {
	entries, err := os.ReadDir(r.Path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, r.logicalError(err)
	}
	var out []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, suffix) && !strings.HasPrefix(name, ".") {
			out = append(out, filepath.Join(dir, name))
		}
	}
	slices.Sort(out)
	return out, nil
}

// logicalError rewrites the path of a PathError to the one users know.
func (r Root) logicalError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return &fs.PathError{Op: pe.Op, Path: r.Logical(pe.Path), Err: pe.Err}
	}
	return err
}
