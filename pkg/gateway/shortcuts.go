// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

const shortcutsHelp = `usage: %s
An entry of the desktop's menu. Call gateway-shortcuts by the name of one: nyx,
reloadtor, restarttor, stoptor, tordata, torrc, torrcexamples.
See gateway-shortcuts(8).
`

// windowTime is how long a terminal stays open after its program has ended.
const windowTime = 24 * time.Hour

// shortcuts are the desktop's menu entries with their ways to the system.
type shortcuts struct {
	root fsx.Root
	env  cli.Env
	hold time.Duration
}

// Shortcuts is the program gateway-shortcuts.
func Shortcuts(ctx context.Context, env cli.Env) error {
	return (&shortcuts{fsx.Host, env, windowTime}).run(ctx)
}

func (s *shortcuts) run(ctx context.Context) error {
	if done, err := plain(s.env, shortcutsHelp); done {
		return err
	}
	switch s.env.Name() {
	case "nyx":
		return s.inWindow(ctx, func() error { return s.child(ctx, "nyx") })
	case "reloadtor":
		return s.inWindow(ctx, func() error { return s.reload(ctx) })
	case "restarttor":
		return s.inWindow(ctx, func() error { return s.action(ctx, "restart-tor") })
	case "stoptor":
		return s.inWindow(ctx, func() error { return s.action(ctx, "stop-tor") })
	case "tordata":
		return s.asAdministrator(ctx, "lxqt-sudo", "env", "XDG_CURRENT_DESKTOP=X-Generic", "xdg-open", "/var/lib/tor")
	case "torrc":
		return s.asAdministrator(ctx, "gsudoedit", userTorrcDir+"/50_user.conf")
	case "torrcexamples":
		return s.child(ctx, "xdg-open", templateDir+"/torrc.examples")
	}
	return cli.WithHint(cli.Usagef("call it by one of its names"), "%s --help", s.env.Name())
}

// reload has Tor read its configuration again, or starts it.
func (s *shortcuts) reload(ctx context.Context) error {
	quiet := *s
	quiet.env.Stdout, quiet.env.Stderr = nil, nil
	if quiet.child(ctx, "leaprun", "tor-status") == nil {
		return s.action(ctx, "reload-tor")
	}
	return s.action(ctx, "restart-tor")
}

// action has something done to Tor, and shows what became of it. The status of
// a Tor that was stopped is no failure.
func (s *shortcuts) action(ctx context.Context, name string) error {
	err := s.child(ctx, "leaprun", name)
	_ = s.child(ctx, "leaprun", "tor-status")
	return err
}

// inWindow keeps what a program has shown to be read.
func (s *shortcuts) inWindow(ctx context.Context, run func() error) error {
	const motdMax = 64 << 10
	if motd, err := s.root.ReadFile("/etc/motd", motdMax); err == nil {
		_, _ = s.env.Stdout.Write(motd)
	}
	failed := run()
	if failed != nil {
		s.env.Errorf("%v", failed)
		failed = &cli.Exit{Code: cli.CodeFailed}
	}
	fmt.Fprintln(s.env.Stdout, "Feel free to close this window, or press Enter.")
	enter := make(chan struct{})
	go func() { // ends with the program, if nobody presses a key
		defer close(enter)
		_, _ = bufio.NewReader(s.env.Stdin).ReadString('\n')
	}()
	select {
	case <-enter:
	case <-ctx.Done():
	case <-time.After(s.hold):
	}
	return failed
}

// asAdministrator runs what asks for a password. On systems where only the
// session sysmaint may, sudo is there and cannot be run.
func (s *shortcuts) asAdministrator(ctx context.Context, name string, args ...string) error {
	path, err := execx.Find(s.root, "sudo")
	if err != nil || unix.Access(path, unix.X_OK) != nil {
		fmt.Fprintln(s.env.Stderr, "ERROR: sudo unavailable. Boot into sysmaint session?")
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return s.child(ctx, name, args...)
}

// child runs a program of the system's.
func (s *shortcuts) child(ctx context.Context, name string, args ...string) error {
	path, err := execx.Find(s.root, name)
	if err != nil {
		return err
	}
	return execx.Cmd{Path: path, Args: args, Env: s.env.Environ, Stdin: s.env.Stdin, Stdout: s.env.Stdout, Stderr: s.env.Stderr}.Run(ctx)
}
