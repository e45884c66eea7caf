// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/whonix"
)

// watched is a running watcher, whose anondate-set writes into a fifo each time.
type watched struct {
	*sleeper
	w     *anondateWatcher
	runs  *os.File
	lines bytes.Buffer // standard error
	done  chan error
	end   func() error
}

func newWatched(t *testing.T, script string) *watched {
	t.Helper()
	m := &watched{sleeper: newSleeper(t)}
	fifo := m.root.Path("/runs")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.runs, err = os.OpenFile(fifo, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.runs.Close() })
	m.program(t, "anondate-set", fmt.Sprintf("echo \"$LC_TIME $TZ\" > '%s'\n%s", fifo, script))
	start := time.Now()
	m.w = &anondateWatcher{
		env: cli.Env{Args: []string{"watcher"}, Stdout: &m.out, Stderr: &m.lines}, root: m.root,
		every: 50 * time.Millisecond, limit: time.Minute, now: func() time.Duration { return time.Since(start) },
	}
	return m
}

func (m *watched) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m.done = make(chan error, 1)
	go func() { m.done <- m.w.run(ctx) }()
	m.end = func() error { cancel(); return <-m.done }
	t.Cleanup(cancel)
}

// ran waits for a run.
func (m *watched) ran(t *testing.T) {
	t.Helper()
	if err := m.runs.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len("C UTC\n"))
	if n, err := m.runs.Read(buf); err != nil || string(buf[:n]) != "C UTC\n" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
}

// TestWatcher: a request that is there at the start, one that is created, one
// that is moved there; each runs once, and is gone.
func TestWatcher(t *testing.T) {
	m := newWatched(t, "")
	m.file(t, statusDir+"/request_anondate-set", "")
	m.start(t)
	m.ran(t)
	m.file(t, statusDir+"/request_anondate-set", "")
	m.ran(t)
	m.file(t, statusDir+"/.new", "")
	if err := os.Rename(m.root.Path(statusDir+"/.new"), m.root.Path(statusDir+"/request_anondate-set")); err != nil {
		t.Fatal(err)
	}
	m.ran(t)
	m.file(t, statusDir+"/something_else", "")
	if err := m.end(); err != nil {
		t.Error(err)
	}
	if calls := m.calls(t); len(calls) != 3 || m.exists(fileAnondateAsked) || m.lines.Len() != 0 {
		t.Errorf("%q, %s", calls, &m.lines)
	}
}

// TestWatcherRate: requests that come too early wait, together; one that comes
// while another is served is not lost.
func TestWatcherRate(t *testing.T) {
	m := newWatched(t, `[ -e "$calls.second" ] || { : > "$calls.second"; : > '`+"REQUEST"+`'; }`)
	text, err := os.ReadFile(m.root.Path("/usr/bin/anondate-set"))
	if err != nil {
		t.Fatal(err)
	}
	m.file(t, "/usr/bin/anondate-set", strings.ReplaceAll(string(text), "REQUEST", m.root.Path(statusDir+"/request_anondate-set")))
	m.w.every = time.Second
	m.file(t, statusDir+"/request_anondate-set", "")
	begin := time.Now()
	m.start(t)
	m.ran(t)
	m.ran(t) // asked for by the first
	if passed := time.Since(begin); passed < m.w.every {
		t.Errorf("the second run came after %v", passed)
	}
	if err := m.end(); err != nil {
		t.Error(err)
	}
	if calls := m.calls(t); len(calls) != 2 {
		t.Errorf("%q", calls)
	}
}

// TestWatcherFailures: what becomes of anondate-set is its own affair, and so is
// what else is in the folder (D31).
func TestWatcherFailures(t *testing.T) {
	m := newWatched(t, "exit 1")
	m.file(t, statusDir+"/of-root", "") // a file of somebody else
	m.start(t)
	for range 2 {
		m.file(t, statusDir+"/request_anondate-set", "")
		m.ran(t)
	}
	if err := m.end(); err != nil || m.lines.Len() != 0 {
		t.Errorf("%v, %s", err, &m.lines)
	}
}

// TestWatcherWithoutAnondate: its absence is said, and the request goes.
func TestWatcherWithoutAnondate(t *testing.T) {
	m := newWatched(t, "")
	os.Remove(m.root.Path("/usr/bin/anondate-set"))
	m.file(t, statusDir+"/request_anondate-set", "")
	m.serve(t)
	if !strings.Contains(m.lines.String(), "program not found: anondate-set") || m.exists(fileAnondateAsked) {
		t.Errorf("%s", &m.lines)
	}
}

// serve serves one request, without the watcher.
func (m *watched) serve(t *testing.T) {
	t.Helper()
	var err error
	if m.w.status, err = openStatus(m.root); err != nil {
		t.Fatal(err)
	}
	defer m.w.status.close()
	m.w.serve(context.Background())
}

// TestWatcherLimit: a run that does not end is ended.
func TestWatcherLimit(t *testing.T) {
	m := newWatched(t, "exec sleep 1000")
	m.w.limit = 100 * time.Millisecond
	m.serve(t)
	if !strings.Contains(m.lines.String(), "anondate-set: ended after 100ms") {
		t.Errorf("%s", &m.lines)
	}
}

// TestWatcherFolderReplaced: it ends, for the service manager to start it anew.
func TestWatcherFolderReplaced(t *testing.T) {
	m := newWatched(t, "")
	m.file(t, statusDir+"/request_anondate-set", "")
	m.start(t)
	m.ran(t) // so it watches
	if err := os.Rename(m.root.Path(statusDir), m.root.Path("/run/old")); err != nil {
		t.Fatal(err)
	}
	if err := <-m.done; err == nil || err.Error() != "/run/sdwdate was replaced" {
		t.Errorf("%v", err)
	}
}

// TestWatcherOnWorkstation: its Tor is elsewhere; nothing is done.
func TestWatcherOnWorkstation(t *testing.T) {
	m := newWatched(t, "")
	m.file(t, whonix.WorkstationMarker, "")
	m.file(t, statusDir+"/request_anondate-set", "")
	m.start(t)
	if err := m.end(); err != nil || m.calls(t) != nil || !m.exists(fileAnondateAsked) {
		t.Errorf("%v", err)
	}
}
