// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// collectInterval is how often sockets that the program has closed are let go.
const collectInterval = time.Second

// registry is the sockets that ModeValue has made and may still have to bind:
// our duplicates, by the name that proc_pid_fd(5) gives them in every process.
type registry struct {
	mu      sync.Mutex
	sockets map[string]*heldSocket
}

// heldSocket is a duplicate of a socket of the program.
type heldSocket struct {
	fd    int
	kind  int // SOCK_STREAM or SOCK_DGRAM
	owner int // process that made it, where it is looked for first
}

func newRegistry() *registry { return &registry{sockets: map[string]*heldSocket{}} }

// add takes over a socket and returns its name.
func (r *registry) add(s heldSocket) (string, error) {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", s.fd))
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sockets[name] = &s
	return name, nil
}

// take returns a duplicate of a socket that the caller closes, and what kind it
// is; ok is false when the socket is not one of ours.
func (r *registry) take(name string) (fd, kind int, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sockets[name]
	if s == nil {
		return -1, 0, false, nil
	}
	fd, err = unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, s.kind, true, err
}

// drop closes our duplicate.
func (r *registry) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropLocked(name)
}

func (r *registry) dropLocked(name string) {
	if s := r.sockets[name]; s != nil {
		unix.Close(s.fd)
		delete(r.sockets, name)
	}
}

// collectBound drops sockets that hold a port although the program has closed
// them, but for the one named: else a program that looks for a free port by
// binding and closing would not get the port it has found.
func (r *registry) collectBound(except string) {
	r.collect(func(name string, s *heldSocket) bool {
		done, err := bound(s.fd)
		return name != except && (done || err != nil)
	})
}

// collect drops the sockets of which among says so and which no process has.
func (r *registry) collect(among func(string, *heldSocket) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lost := map[string]bool{}
	for name, s := range r.sockets {
		if among(name, s) && !has(s.owner, name) {
			lost[name] = true
		}
	}
	if len(lost) == 0 {
		return
	}
	// Not where it was made: a child may have inherited it, or another
	// process may have been sent it.
	keepInUse(lost)
	for name := range lost {
		r.dropLocked(name)
	}
}

// has reports whether a process has a descriptor of the name. A process whose
// descriptors may not be listed counts as having it while it lives.
func has(pid int, name string) bool {
	found := false
	err := eachDescriptor(pid, func(link string) { found = found || link == name })
	return found || os.IsPermission(err)
}

// keepInUse takes the names away that some process has, besides this one.
func keepInUse(names map[string]bool) {
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		clear(names)
		return
	}
	own := os.Getpid()
	for _, path := range paths {
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d", &pid); err != nil || pid == own || len(names) == 0 {
			continue
		}
		_ = eachDescriptor(pid, func(link string) { delete(names, link) }) // others' are not ours
	}
}

func eachDescriptor(pid int, f func(link string)) error {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if link, err := os.Readlink(dir + "/" + e.Name()); err == nil && strings.HasPrefix(link, "socket:") {
			f(link)
		}
	}
	return nil
}

// close lets all sockets go: the program has ended, and the next one may want
// the same port at once.
func (r *registry) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.sockets {
		r.dropLocked(name)
	}
}

// collectRegularly collects in a goroutine of its own, until the function that
// it returns is called, which waits for its end.
func (r *registry) collectRegularly(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		ticker := time.NewTicker(collectInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				r.collect(func(string, *heldSocket) bool { return true })
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		done.Wait()
	}
}
