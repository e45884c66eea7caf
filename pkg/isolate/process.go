// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// identity tells a process from every other one since boot.
type identity struct {
	pid     int
	started uint64 // in clock ticks since boot
}

// inhabitants are the processes of a network namespace. The supervisor, which
// owns the user namespace around it, may read about all of them, whatever
// account they have taken.
type inhabitants struct {
	dev, ino uint64 // of the network namespace

	mu     sync.Mutex
	recent []int // processes that connected last, most recent first
}

// newInhabitants is for the namespace that the descriptor stands for.
func newInhabitants(ns *os.File) (*inhabitants, error) {
	fi, err := ns.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.New("the namespace has no number")
	}
	return &inhabitants{dev: uint64(st.Dev), ino: st.Ino}, nil
}

// has reports whether a process is in the namespace. Of one whose first thread
// has ended the others are asked.
func (i *inhabitants) has(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	is, err := i.is(dir + "/ns/net")
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return is
	}
	for thread := range numbered(dir + "/task") {
		if is, err := i.is(dir + "/task/" + strconv.Itoa(thread) + "/ns/net"); err == nil {
			return is
		}
	}
	return false
}

func (i *inhabitants) is(path string) (bool, error) {
	var st syscall.Stat_t
	err := syscall.Stat(path, &st)
	return err == nil && uint64(st.Dev) == i.dev && st.Ino == i.ino, err
}

// any reports whether there is a process in the namespace.
func (i *inhabitants) any() bool {
	for pid := range numbered("/proc") {
		if i.has(pid) {
			return true
		}
	}
	return false
}

// owner finds a process that has the socket of a number open: of those that
// connected last first, as it will most often be one of them.
func (i *inhabitants) owner(inode uint32) (identity, bool) {
	link := fmt.Sprintf("socket:[%d]", inode)
	for _, pid := range i.known() {
		if i.has(pid) && holds(pid, link) {
			return i.identify(pid)
		}
	}
	for pid := range numbered("/proc") {
		if i.has(pid) && holds(pid, link) {
			return i.identify(pid)
		}
	}
	return identity{}, false
}

// known is a copy of recent.
func (i *inhabitants) known() []int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]int(nil), i.recent...)
}

// identify notes that a process has connected, and tells who it is.
func (i *inhabitants) identify(pid int) (identity, bool) {
	const recentMax = 8
	started, err := startTime(pid)
	if err != nil {
		return identity{}, false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	list := []int{pid}
	for _, p := range i.recent {
		if p != pid && len(list) < recentMax {
			list = append(list, p)
		}
	}
	i.recent = list
	return identity{pid, started}, true
}

// holds reports whether a process has a descriptor that leads to link.
func holds(pid int, link string) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	for fd := range numbered(dir) {
		if to, err := os.Readlink(dir + strconv.Itoa(fd)); err == nil && to == link {
			return true
		}
	}
	return false
}

// startTime is the 22nd field of /proc/PID/stat, see proc(5). The second one
// is in brackets and may hold anything.
func startTime(pid int) (uint64, error) {
	const statMax, after = 4096, 19
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, statMax))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) <= after {
		return 0, errors.New("unexpected form of /proc/PID/stat")
	}
	return strconv.ParseUint(string(fields[after]), 10, 64)
}

// numbered yields the entries of a directory that are numbers. What cannot be
// read has none: the process is gone, or none of ours.
func numbered(dir string) iter.Seq[int] {
	return func(yield func(int) bool) {
		f, err := os.Open(dir)
		if err != nil {
			return
		}
		defer f.Close()
		const portion = 256
		for {
			entries, err := f.Readdirnames(portion)
			for _, e := range entries {
				if n, convErr := strconv.Atoi(e); convErr == nil && !yield(n) {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
}
