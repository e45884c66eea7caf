// SPDX-License-Identifier: GPL-3.0-or-later

package execx

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// IsScript reports whether a file of which the kernel knows no format (ENOEXEC)
// may be a script for the shell: not if there is a NUL in its first line, as
// bash(1) decides. A program of another machine is none.
func IsScript(path string) bool {
	const looked = 256
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	start := make([]byte, looked)
	n, err := io.ReadFull(f, start)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false
	}
	line, _, _ := bytes.Cut(start[:n], []byte("\n"))
	return bytes.IndexByte(line, 0) < 0
}
