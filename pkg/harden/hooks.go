// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
)

// hookShell runs what administrators have put before a program.
const hookShell = "/bin/bash"

// hookThrough is the status of a fragment that was run to its end, so that one
// that says `exit 0` can be told from it.
const hookThrough = 113

// hooks runs the administrator's fragments in /etc/NAME_pre.d and
// /usr/local/etc/NAME_pre.d, each in a shell of its own. A fragment that exits
// ends the program with its status, as if it had been read by it; skip is then
// true, too if SKIP_SCRIPTS names the program. The folder is always the
// program's own, also in a maintainer script (defect D-12).
func hooks(ctx context.Context, env cli.Env, on system, name string) (skip bool, err error) {
	list, _ := env.Lookup("SKIP_SCRIPTS")
	if slices.Contains(strings.Fields(list), name) {
		fmt.Fprintf(env.Stdout, "INFO: Skipping %s, because SKIP_SCRIPTS includes it.\n", name)
		return true, nil
	}
	for _, dir := range []string{"/etc/" + name + "_pre.d", "/usr/local/etc/" + name + "_pre.d"} {
		files, err := on.root.ConfFiles(dir, ".conf")
		if err != nil {
			return true, err
		}
		for _, file := range files {
			if skip, err := hook(ctx, env, on, file); skip || err != nil {
				return true, err
			}
		}
	}
	return false, nil
}

func hook(ctx context.Context, env cli.Env, on system, file string) (skip bool, err error) {
	if err := on.root.Trusted(file); err != nil {
		return true, err
	}
	path := on.root.Path(file)
	shell := execx.Cmd{Path: hookShell, Args: []string{"--noprofile", "--norc", "-n", path}, Env: hookEnv(env), Stdout: env.Stdout, Stderr: env.Stderr}
	if err := shell.Run(ctx); err != nil {
		return true, fmt.Errorf("Invalid config file: '%s'", file) //lint:ignore ST1005 the original's words
	}
	// The name is an argument, and is not read as a script.
	options := []string{"--noprofile", "--norc"} // bash wants long ones first
	if trace, _ := env.Lookup("DEBDEBUG"); trace == "1" {
		options = append(options, "-x")
	}
	shell.Args = append(options, "-e", "-o", "pipefail", "-c", fmt.Sprintf(`. "$1"; exit %d`, hookThrough), hookShell, path)
	err = shell.Run(ctx)
	switch status := execx.Status(err); status {
	case hookThrough:
		return false, nil
	case 0:
		return true, nil
	case execx.StatusNotExecutable, execx.StatusNotFound:
		return true, fmt.Errorf("%s: %w", file, err)
	default:
		return true, &cli.Exit{Code: status, Err: fmt.Errorf("%s: exit status %d", file, status)}
	}
}

func hookEnv(env cli.Env) []string {
	return execx.CleanEnv(env.Environ, "SKIP_SCRIPTS", "DEBDEBUG", "DPKG_MAINTSCRIPT_PACKAGE", "DPKG_MAINTSCRIPT_NAME")
}
