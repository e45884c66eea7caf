// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is what is asked about the one that makes a call.
type process struct {
	group     int    // the process, of which the caller is a thread
	fsuid     int    // account that the kernel checks
	effective uint64 // capabilities
	user, net string // namespaces, as proc_pid_ns(5) names them; empty: may not be asked
	label     string // of the security module; empty: none
}

// readProcess asks about the process of a thread.
func readProcess(tid int) (process, error) {
	status, err := readProc(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return process{}, err
	}
	p, err := parseStatus(status)
	if err != nil {
		return process{}, fmt.Errorf("/proc/%d/status: %w", tid, err)
	}
	p.user, _ = os.Readlink(fmt.Sprintf("/proc/%d/ns/user", tid))
	p.net, _ = os.Readlink(fmt.Sprintf("/proc/%d/ns/net", tid))
	p.label = readLabel(tid)
	return p, nil
}

// readLabel is the security module's label; empty without a module.
func readLabel(tid int) string {
	label, err := readProc(fmt.Sprintf("/proc/%d/attr/current", tid))
	if err != nil {
		return ""
	}
	return strings.TrimRight(label, "\n\x00")
}

var errMissing = errors.New("a field is missing")

// parseStatus reads a file /proc/PID/status.
func parseStatus(status string) (p process, err error) {
	found := 0
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch {
		case key == "Tgid" && len(fields) == 1:
			p.group, err = strconv.Atoi(fields[0])
		case key == "Uid" && len(fields) == 4: // real, effective, saved, file system
			p.fsuid, err = strconv.Atoi(fields[3])
		case key == "CapEff" && len(fields) == 1:
			p.effective, err = strconv.ParseUint(fields[0], 16, 64)
		default:
			continue
		}
		if err != nil {
			return process{}, err
		}
		found++
	}
	if found != 3 {
		return process{}, errMissing
	}
	return p, nil
}

// pidfdThread is PIDFD_THREAD of <linux/pidfd.h>.
const pidfdThread = unix.O_EXCL

// duplicate returns a duplicate of a thread's descriptor. EPERM: it is not
// permitted.
func duplicate(tid, fd int) (int, error) {
	thread, err := unix.PidfdOpen(tid, pidfdThread)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.9
		thread, err = openGroup(tid)
	}
	if err != nil {
		return -1, fmt.Errorf("open thread %d: %w", tid, err)
	}
	defer unix.Close(thread)
	return unix.PidfdGetfd(thread, fd, 0)
}

// openGroup opens the process of a thread.
func openGroup(tid int) (int, error) {
	status, err := readProc(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return -1, err
	}
	p, err := parseStatus(status)
	if err != nil {
		return -1, err
	}
	return unix.PidfdOpen(p.group, 0)
}

// readMemory fills data from a thread's memory, once. EFAULT: part of it is
// not there; EPERM: it is not permitted.
func readMemory(tid int, address uintptr, data []byte) error {
	local := []unix.Iovec{{Base: &data[0], Len: uint64(len(data))}}
	remote := []unix.RemoteIovec{{Base: address, Len: len(data)}}
	n, err := unix.ProcessVMReadv(tid, local, remote, 0)
	if err != nil {
		return err
	}
	if n != len(data) {
		return unix.EFAULT
	}
	return nil
}
