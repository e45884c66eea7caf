// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"whonix-networking/pkg/fsx"
)

// fileMode is the mode of new configuration files.
const fileMode = 0o644

// replace gives a file of root's new content, unless it has it already: the
// mode and the owner stay, and a link stays one. Only directories that nobody
// but root can change may be on the way.
func replace(root fsx.Root, path string, data []byte) (err error) {
	path, err = followed(root, path)
	if err != nil {
		return err
	}
	if err := root.Trusted(filepath.Dir(path)); err != nil {
		return err
	}
	fi, err := os.Lstat(root.Path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return named(path, root.WriteAtomic(path, data, fileMode))
	}
	if err != nil {
		return err
	}
	old, err := root.ReadFile(path, configMax)
	if err != nil {
		return err
	}
	if bytes.Equal(old, data) {
		return nil
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner is not known", path)
	}
	return named(path, root.WriteAtomicAs(path, data, fi.Mode().Perm(), int(st.Uid), int(st.Gid)))
}

// named says which file was to be written: the error may be about a temporary
// one beside it.
func named(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}

// followed is what a path leads to by links below root, which need not be
// there: a package's link may be in place before its target is.
func followed(root fsx.Root, path string) (string, error) {
	const linksMax = 8
	for range linksMax {
		text, err := os.Readlink(root.Path(path))
		if err != nil {
			return path, nil // no link, or nothing
		}
		if !strings.HasPrefix(text, "/") {
			text = filepath.Join(filepath.Dir(path), text)
		}
		if text == "/dev/null" {
			return "", fmt.Errorf("%s is a link to /dev/null: remove it", path)
		}
		path = filepath.Clean(text)
	}
	return "", fmt.Errorf("%s: too many links", path)
}
