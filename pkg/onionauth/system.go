// SPDX-License-Identifier: GPL-3.0-or-later

package onionauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

const confMode = 0o644

// confMax is more than any file of Tor's configuration should have.
const confMax = 4 << 20

// system is where a program works, and how it runs others: a command's words
// in, what it printed out.
type system struct {
	root fsx.Root
	env  cli.Env
	euid int
	run  func(ctx context.Context, argv []string) (string, error)
}

// execute runs a program found in trusted places, with a clean environment.
func execute(ctx context.Context, argv []string) (string, error) {
	if len(argv) == 0 {
		return "", errors.New("no command")
	}
	path := argv[0]
	var err error
	if filepath.IsAbs(path) {
		err = fsx.Host.Trusted(path)
	} else {
		path, err = execx.Find(fsx.Host, path)
	}
	if err != nil {
		return "", err
	}
	const patience = 90 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out bytes.Buffer
	err = execx.Cmd{Path: path, Args: argv[1:], Env: execx.CleanEnv(nil), Stdout: &out, Stderr: &out}.Run(ctx)
	return strings.TrimSpace(out.String()), err
}

func (s *system) say(format string, args ...any) { fmt.Fprintf(s.env.Stdout, format+"\n", args...) }

// fail prints the one line of a failure.
func (s *system) fail(err error) error {
	if err == nil {
		return nil
	}
	var quiet *cli.Exit
	if !errors.As(err, &quiet) {
		s.say("ERROR: %v", err)
	}
	return &cli.Exit{Code: cli.CodeFailed}
}

func (s *system) isRoot() bool {
	if s.euid == 0 {
		return true
	}
	s.say("ERROR: This must be run as root (sudo)!")
	s.say("INFO: You can start %s by entering...", s.env.Name())
	s.say("      sudo %s", s.env.Name())
	return false
}

// sentence is an error that people know as it is.
type sentence string

func (e sentence) Error() string { return string(e) }

const errNotRunning = sentence("Tor is not running. Start Tor first.")

// torRuns reports whether Tor's unit is active.
func (s *system) torRuns(ctx context.Context, u unit) error {
	if _, err := s.run(ctx, u.running); err != nil {
		var status *execx.StatusError
		if errors.As(err, &status) {
			return errNotRunning
		}
		return fmt.Errorf("is Tor running: %w", err)
	}
	return nil
}

func (s *system) reload(ctx context.Context, u unit) error {
	if said, err := s.run(ctx, u.reload); err != nil {
		return fmt.Errorf("reload Tor: %s: %w: %s", strings.Join(u.reload, " "), err, said)
	}
	return nil
}

// confDir checks the directory of Tor's configuration.
func (s *system) confDir(dir string) error {
	if err := s.root.Trusted(dir); err != nil {
		return fmt.Errorf("torconfdir: %w", err)
	}
	_, err := s.root.ConfFiles(dir, ".conf")
	return err
}

// replaceConf writes a part of Tor's configuration, and returns what brings
// back what was before.
func (s *system) replaceConf(path, text string) (undo func() error, err error) {
	old, err := s.root.ReadFile(path, confMax)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		undo = func() error { return s.root.Remove(path) }
	case err != nil:
		return nil, err
	case string(old) == text:
		return func() error { return nil }, nil
	default:
		undo = func() error { return s.root.WriteAtomic(path, old, confMode) }
	}
	return undo, s.root.WriteAtomic(path, []byte(text), confMode)
}
