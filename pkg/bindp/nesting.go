// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// procFileMax is more than any file below /proc that is read here has, in
// bytes.
const procFileMax = 16 << 10

// readProc reads a file below /proc. A longer one is an error.
func readProc(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, procFileMax+1))
	if err != nil {
		return "", err
	}
	if len(data) > procFileMax {
		return "", fmt.Errorf("%s is longer than %d bytes", path, procFileMax)
	}
	return string(data), nil
}

// identity names a process so that no later one can be taken for it: its
// number, a colon, and when it was started. A process that has ended and only
// waits for its parent to notice is none.
func identity(pid int) (string, error) {
	stat, err := readProc(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The program's name, in parentheses, can contain anything.
	const state, startTime = 0, 19 // fields 3 and 22; behind the name comes field 3
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	switch {
	case len(fields) <= startTime:
		return "", fmt.Errorf("/proc/%d/stat has %d fields behind the name", pid, len(fields))
	case fields[state] == "Z" || fields[state] == "X":
		return "", fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	return fmt.Sprintf("%d:%s", pid, fields[startTime]), nil
}

// alive reports whether the helper that the marker names lives.
func alive(marker string) bool {
	number, _, _ := strings.Cut(marker, ":")
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 0 {
		return false
	}
	now, err := identity(pid)
	if err != nil || now != marker {
		return false
	}
	comm, err := readProc(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && strings.TrimSpace(comm) == HelperName
}
