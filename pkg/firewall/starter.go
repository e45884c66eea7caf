// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// windowTime is how long reloadfirewall keeps its window open to be read.
const windowTime = 24 * time.Hour

// starter starts the firewall's tools from the desktop, as the user who sits
// there.
type starter struct {
	root fsx.Root
	env  cli.Env
	hold time.Duration
}

// Starter is the program whonix-firewall-starter, with the names
// reloadfirewall, firewall30default and firewall50user.
func Starter(ctx context.Context, env cli.Env) error {
	return (&starter{root: fsx.Host, env: env, hold: windowTime}).run(ctx)
}

func (s *starter) run(ctx context.Context) error {
	tools := map[string]func(context.Context) error{
		"reloadfirewall":    s.reload,
		"firewall30default": s.editDefaults,
		"firewall50user":    func(ctx context.Context) error { return s.edit(ctx, configDirs()[0]+"/50_user.conf") },
	}
	tool, known := tools[s.env.Name()]
	switch args := s.env.Args[1:]; {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, err := fmt.Fprintf(s.env.Stdout, "usage: %s\n"+starterUsage, s.env.Name())
		return err
	case len(args) > 0:
		return cli.WithHint(cli.Usagef("unknown argument %q", args[0]), "%s --help", s.env.Name())
	case !known:
		return cli.WithHint(cli.Usagef("call it by one of its names"), "%s --help", s.env.Name())
	}
	return tool(ctx)
}

const starterUsage = `By its name it is one of
    reloadfirewall       load the firewall again
    firewall30default    edit the distribution's firewall settings
    firewall50user       edit the user's firewall settings
 -h, --help      show this text
     --version   show the version
`

// reload loads the firewall, says how that went, and leaves time to read it.
func (s *starter) reload(ctx context.Context) error {
	const motdMax = 64 << 10
	if motd, err := s.root.ReadFile("/etc/motd", motdMax); err == nil { // D33
		_, _ = s.env.Stdout.Write(motd)
	}
	err := s.child(ctx, "sudo", "--", firewallProgram)
	status := execx.Status(err)
	if err == nil {
		fmt.Fprintln(s.env.Stdout, "OK: Whonix firewall reload completed successfully.")
	} else {
		fmt.Fprintf(s.env.Stderr, "ERROR: Whonix firewall reload failed with exit code '%d'!\n", status)
	}
	fmt.Fprintln(s.env.Stdout, "You can close this window.")
	select {
	case <-ctx.Done():
	case <-time.After(s.hold):
	}
	if status != 0 {
		return &cli.Exit{Code: status}
	}
	return nil
}

// editDefaults opens the distribution's settings for this machine's role.
func (s *starter) editDefaults(ctx context.Context) error {
	name, ok := map[whonix.Role]string{
		whonix.Gateway:     "gateway",
		whonix.Workstation: "workstation",
		whonix.Host:        "host",
	}[whonix.Detect(s.root).Role]
	if err := s.sudoAvailable(ctx); err != nil {
		return err
	}
	if !ok {
		fmt.Fprintln(s.env.Stderr, "ERROR: Running system does not appear to be Whonix-Gateway, Whonix-Workstation, or Whonix-Host!")
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return s.edit(ctx, configDirs()[0]+"/30_whonix_"+name+"_default.conf")
}

func (s *starter) edit(ctx context.Context, file string) error {
	if err := s.sudoAvailable(ctx); err != nil {
		return err
	}
	err := s.child(ctx, "gsudoedit", file)
	var status *execx.StatusError
	switch {
	case errors.As(err, &status):
		return &cli.Exit{Code: status.Status} // the editor has said why
	case err != nil:
		return &cli.Exit{Code: execx.Status(err), Err: err}
	}
	return nil
}

// sudoAvailable checks that the caller may run sudo(8): in some sessions its
// permission is taken away.
func (s *starter) sudoAvailable(ctx context.Context) error {
	const text = "ERROR: sudo unavailable. Boot into sysmaint session?"
	path, err := execx.Find(s.root, "sudo")
	if err == nil && unix.Access(path, unix.X_OK) == nil {
		return nil
	}
	fmt.Fprintln(s.env.Stderr, text)
	const window = "/usr/libexec/msgcollector/generic_gui_message"
	if s.root.IsFile(window) {
		_ = s.exec(ctx, s.root.Path(window), "error", "sudo unavailable", text, "", "ok") // also said above
	}
	return &cli.Exit{Code: cli.CodeFailed}
}

func (s *starter) child(ctx context.Context, name string, args ...string) error {
	path, err := execx.Find(s.root, name)
	if err != nil {
		return err
	}
	return s.exec(ctx, path, args...)
}

// exec runs a program with the caller's own environment, which it needs to
// reach the desktop.
func (s *starter) exec(ctx context.Context, path string, args ...string) error {
	return execx.Cmd{Path: path, Args: args, Env: s.env.Environ, Stdin: s.env.Stdin, Stdout: s.env.Stdout, Stderr: s.env.Stderr}.Run(ctx)
}
