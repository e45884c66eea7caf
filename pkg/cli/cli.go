// SPDX-License-Identifier: GPL-3.0-or-later

// Package cli is the thin shell around every program of the suite: the
// environment a run function gets, how its error becomes an exit code, and the
// one voice in which new messages speak.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes of programs whose original has none of its own.
const (
	CodeOK     = 0 // done
	CodeFailed = 1 // the work failed
	CodeUsage  = 2 // the command line was wrong
)

// Version is the suite's version. The linker sets it from CHANGELOG.md; a
// plain `go build` leaves the value below.
var Version = "unreleased"

// Env is everything a program may read from or write to its caller. Only main
// takes it from the process; tests build their own.
type Env struct {
	Args    []string // Args[0] is the name the program was called by
	Environ []string // KEY=VALUE, as os.Environ
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Now     func() time.Time
}

// OS is the environment of the running process.
func OS() Env {
	return Env{
		Args:    os.Args,
		Environ: os.Environ(),
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Now:     time.Now,
	}
}

// Name is the base name the program was called by; programs with several
// names choose their role by it.
func (e Env) Name() string {
	if len(e.Args) == 0 || e.Args[0] == "" {
		return "unknown"
	}
	return filepath.Base(e.Args[0])
}

// Lookup returns the value of an environment variable and whether it is set.
// Of duplicates the last counts, as in a shell.
func (e Env) Lookup(key string) (string, bool) {
	for i := len(e.Environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(e.Environ[i], key+"="); ok {
			return v, true
		}
	}
	return "", false
}

// Errorf prints one line `NAME: error: TEXT` on standard error.
func (e Env) Errorf(format string, args ...any) { e.say("error", format, args...) }

// Warnf prints one line `NAME: warning: TEXT` on standard error.
func (e Env) Warnf(format string, args ...any) { e.say("warning", format, args...) }

// Hintf prints one line `NAME: hint: TEXT` on standard error.
func (e Env) Hintf(format string, args ...any) { e.say("hint", format, args...) }

func (e Env) say(kind, format string, args ...any) {
	fmt.Fprintf(e.Stderr, "%s: %s: %s\n", e.Name(), kind, fmt.Sprintf(format, args...))
}

// Exit is an error with the exit code it asks for. With a nil Err nothing is
// printed: the program has already said what its contract makes it say.
type Exit struct {
	Code int
	Err  error
}

// Error returns the text of the wrapped error, or names the code.
func (x *Exit) Error() string {
	if x.Err != nil {
		return x.Err.Error()
	}
	return fmt.Sprintf("exit status %d", x.Code)
}

// Unwrap returns the wrapped error.
func (x *Exit) Unwrap() error { return x.Err }

// Usagef is an error that ends the program with CodeUsage.
func Usagef(format string, args ...any) error {
	return &Exit{Code: CodeUsage, Err: fmt.Errorf(format, args...)}
}

// Code maps the result of a run function to an exit code.
func Code(err error) int {
	var exit *Exit
	switch {
	case err == nil:
		return CodeOK
	case errors.As(err, &exit):
		return exit.Code
	default:
		return CodeFailed
	}
}

// Run calls run and reports its error in the common voice. It returns the exit
// code. `--version` is answered here, alike for all programs, when it is the
// only argument.
func Run(ctx context.Context, env Env, run func(context.Context, Env) error) int {
	if len(env.Args) == 2 && env.Args[1] == "--version" {
		fmt.Fprintf(env.Stdout, "%s (whonix-networking) %s\n", env.Name(), Version)
		return CodeOK
	}
	return report(env, run(ctx, env))
}

// Direct runs a program that becomes another one, and may have been called by
// any name: it speaks as name, reads `--version` itself
// where that is meant for it, and signals act as they did on its caller.
func Direct(name string, run func(context.Context, Env) error) int {
	env := OS()
	env.Args = append([]string{name}, env.Args[min(1, len(env.Args)):]...)
	return report(env, run(context.Background(), env))
}

// Bare runs a program that reads `--version` itself, by whatever name it was
// called, and takes its signals itself.
func Bare(run func(context.Context, Env) error) int {
	env := OS()
	return report(env, run(context.Background(), env))
}

func report(env Env, err error) int {
	var exit *Exit
	if err != nil && (!errors.As(err, &exit) || exit.Err != nil) {
		env.Errorf("%v", err)
		var hinted *Hinted
		if errors.As(err, &hinted) {
			env.Hintf("%s", hinted.Hint)
		}
	}
	return Code(err)
}

// Main runs a program with the process's own environment and returns its exit
// code. The context ends on SIGINT and SIGTERM.
func Main(run func(context.Context, Env) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	return Run(ctx, OS(), run)
}

// Hinted is an error together with what the user can do about it.
type Hinted struct {
	Err  error
	Hint string
}

// Error returns the text of the wrapped error.
func (h *Hinted) Error() string { return h.Err.Error() }

// Unwrap returns the wrapped error.
func (h *Hinted) Unwrap() error { return h.Err }

// WithHint attaches a hint, printed on its own line after the error.
func WithHint(err error, format string, args ...any) error {
	return &Hinted{Err: err, Hint: fmt.Sprintf(format, args...)}
}
