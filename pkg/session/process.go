// SPDX-License-Identifier: GPL-3.0-or-later

package session

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Adopt makes this process what fragments made of their shell by cd, umask and
// ulimit. Without a shell there is nothing to do.
func (s *Session) Adopt() error {
	if s.shell == nil {
		return nil
	}
	pid := s.shell.cmd.Process.Pid
	return errors.Join(adoptDir(pid), adoptUmask(pid), s.adoptLimits(pid))
}

func adoptDir(pid int) error {
	dir := fmt.Sprintf("/proc/%d/cwd", pid)
	theirs, err := os.Stat(dir)
	if err != nil {
		return err
	}
	ours, err := os.Stat(".")
	if err == nil && os.SameFile(theirs, ours) {
		return nil
	}
	return os.Chdir(dir)
}

func adoptUmask(pid int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	_, rest, found := bytes.Cut(status, []byte("\nUmask:\t"))
	text, _, _ := bytes.Cut(rest, []byte("\n"))
	mask, err := strconv.ParseUint(string(text), 8, 12)
	if !found || err != nil {
		return fmt.Errorf("the umask of process %d cannot be read", pid)
	}
	syscall.Umask(int(mask))
	return nil
}

// adoptLimits takes over limits that differ. The runtime has raised this
// process's own soft limit of open files, which does not count: there, only
// what has changed since the shell began does.
func (s *Session) adoptLimits(pid int) error {
	var errs []error
	for resource := range unix.RLIMIT_RTTIME + 1 {
		var theirs, ours unix.Rlimit
		if err := unix.Prlimit(pid, resource, nil, &theirs); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, unix.Getrlimit(resource, &ours))
		changed := theirs != ours
		if resource == unix.RLIMIT_NOFILE {
			changed = s.last.files != s.files || theirs.Max != ours.Max
		}
		if changed {
			errs = append(errs, unix.Setrlimit(resource, &theirs))
		}
	}
	return errors.Join(errs...)
}
