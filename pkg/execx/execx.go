// SPDX-License-Identifier: GPL-3.0-or-later

// Package execx starts other programs: found in trusted places only, with an
// environment that cannot steer them, and with a shell's exit statuses.
package execx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// SearchPath are the directories, in order, in which Find looks. The caller's
// PATH never counts: a program that runs as root is not to be hijacked (D32).
const SearchPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// Statuses a shell gives for a command that could not be run; see POSIX
// XCU 2.8.2.
const (
	StatusNotExecutable = 126
	StatusNotFound      = 127
)

// ErrNotFound says that Find found no such program.
var ErrNotFound = errors.New("program not found")

// Find returns the full path of the executable file name in SearchPath.
func Find(root fsx.Root, name string) (string, error) {
	for _, dir := range strings.Split(SearchPath, ":") {
		p := root.Path(dir + "/" + name)
		fi, err := os.Stat(p)
		if err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: %s (looked in %s)", ErrNotFound, name, SearchPath)
}

// CleanEnv is the environment children get: a fixed PATH and the C locale in
// UTF-8, besides the named variables passed on from the caller's.
func CleanEnv(environ []string, pass ...string) []string {
	env := []string{"PATH=" + SearchPath, "LC_ALL=C.UTF-8"}
	for _, kv := range environ {
		key, _, ok := strings.Cut(kv, "=")
		for _, p := range pass {
			if ok && key == p {
				env = append(env, kv)
			}
		}
	}
	return env
}

// killDelay is how long a child whose context ended may take to end by itself
// after SIGTERM before it is killed.
const killDelay = 2 * time.Second

// Cmd is one child process.
type Cmd struct {
	Path   string   // full path
	Args   []string // without the program's own name
	Env    []string // exactly the child's environment; nil means CleanEnv(nil)
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Run runs the child to its end. A child that ended with a status other than 0
// is a *StatusError; one that could not be started is any other error. When
// ctx ends the child gets SIGTERM, then SIGKILL.
func (c Cmd) Run(ctx context.Context) error {
	r, err := c.Start(ctx)
	if err != nil {
		return err
	}
	return r.Wait()
}

// Running is a child that was started.
type Running struct{ cmd *exec.Cmd }

// Start starts the child; the caller must Wait.
func (c Cmd) Start(ctx context.Context) (*Running, error) {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env = c.Env
	if cmd.Env == nil {
		cmd.Env = CleanEnv(nil)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = killDelay
	return &Running{cmd}, cmd.Start()
}

// Wait returns how the child ended, as Run does.
func (r *Running) Wait() error {
	err := r.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &StatusError{Path: r.cmd.Path, Status: status(exit)}
	}
	return err
}

// StatusError says that a child ended with a status other than 0.
type StatusError struct {
	Path   string
	Status int // as a shell gives it: 128+n for signal n
}

// Error names program and status.
func (e *StatusError) Error() string {
	if e.Status > 128 {
		return fmt.Sprintf("%s: ended by signal %d (%s)", e.Path, e.Status-128, unix.SignalName(unix.Signal(e.Status-128)))
	}
	return fmt.Sprintf("%s: exit status %d", e.Path, e.Status)
}

// Status is the status a shell would report for err, the result of Run.
func Status(err error) int {
	var se *StatusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &se):
		return se.Status
	case errors.Is(err, unix.ENOENT), errors.Is(err, ErrNotFound):
		return StatusNotFound
	default:
		return StatusNotExecutable
	}
}

func status(exit *exec.ExitError) int {
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}
