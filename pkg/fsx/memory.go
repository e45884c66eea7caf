// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Memory is an anonymous file, closed on exec, with the given content, to be
// read from its begin; see memfd_create(2). The name is for /proc only.
func Memory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(content, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
