// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"fmt"
	"slices"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

const (
	daemonPath   = "/usr/libexec/sdwdate/sdwdate"
	daemonAction = "sdwdate-libexec"
)

const wrapperUsage = `usage: %[1]s --status | --json | --check-config | --show-pools | --check-netvm
       %[1]s
Asks the daemon's program something, or has the daemon started.
  --version  print the version
`

// Wrapper is /usr/bin/sdwdate: what needs no privilege is done by the daemon's
// program at once; starting it by hand is advised against, and done through
// privleap.
func Wrapper(_ context.Context, env cli.Env) error { return wrapperAt(fsx.Host, execx.Replace)(env) }

func wrapperAt(root fsx.Root, replace func(path string, argv, environ []string) error) func(cli.Env) error {
	return func(env cli.Env) error {
		if len(env.Args) == 2 && (env.Args[1] == "--help" || env.Args[1] == "-h") {
			fmt.Fprintf(env.Stdout, wrapperUsage, env.Name())
			return nil
		}
		path, argv := leaprunPath, []string{leaprunPath, daemonAction}
		if harmless(env.Args[1:]) {
			path, argv = daemonPath, append([]string{daemonPath}, env.Args[1:]...)
		} else {
			fmt.Fprintln(env.Stdout, "WARNING: Starting sdwdate from command line by the user is unsupported, for more information, see:")
			fmt.Fprintln(env.Stdout, "https://www.kicksecure.com/wiki/Dev/sdwdate#sdwdate_linux_user_account")
		}
		err := replace(root.Path(path), argv, env.Environ)
		return &cli.Exit{Code: execx.Status(err), Err: fmt.Errorf("%s: %w", path, err)}
	}
}

// harmless reports whether the arguments only ask something.
func harmless(args []string) bool {
	questions := []string{"--status", "--json", "--check-config", "--show-pools", "--check-netvm"}
	return len(args) > 0 && !slices.ContainsFunc(args, func(a string) bool { return !slices.Contains(questions, a) })
}
