// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torrc"
)

// torrcFiles are the files that Tor's configuration is read from.
type torrcFiles struct{ root fsx.Root }

// Read returns a file's content.
func (f torrcFiles) Read(path string) ([]byte, error) { return f.root.ReadFile(path, configMax) }

// Match lists what a pattern matches.
func (f torrcFiles) Match(pattern string) ([]string, error) {
	paths, err := filepath.Glob(f.root.Path(pattern))
	for i, p := range paths {
		paths[i] = f.root.Logical(p)
	}
	return paths, err
}

// Dir lists a directory's regular files.
func (f torrcFiles) Dir(path string) ([]string, error) {
	return f.entries(path, func(mode fs.FileMode) bool { return mode.IsRegular() })
}

// folders lists a directory's directories, which Tor does not enter.
func (f torrcFiles) folders(path string) []string {
	list, err := f.entries(path, fs.FileMode.IsDir)
	if err != nil {
		return nil
	}
	return list
}

func (f torrcFiles) entries(path string, want func(fs.FileMode) bool) ([]string, error) {
	fi, err := os.Stat(f.root.Path(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fs.ErrNotExist
	case err != nil:
		return nil, err
	case !fi.IsDir():
		return nil, fs.ErrInvalid
	}
	entries, err := os.ReadDir(f.root.Path(path))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		if fi, err := os.Stat(f.root.Path(name)); err == nil && want(fi.Mode()) {
			out = append(out, name)
		}
	}
	return out, nil
}

var _ torrc.Files = torrcFiles{}
