// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

const clockJumpHelp = `usage: sdwdate-clock-jump
Makes sdwdate start afresh: its next correction of the clock is a jump.
 -h, --help      show this text
     --version   show the version
`

// systemctlLimit bounds one call.
const systemctlLimit = 90 * time.Second

// ClockJump is the program sdwdate-clock-jump.
func ClockJump(ctx context.Context, env cli.Env) error {
	switch args := env.Args[1:]; {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, err := io.WriteString(env.Stdout, clockJumpHelp)
		return err
	case len(args) > 0:
		return cli.WithHint(cli.Usagef("unknown argument %q", args[0]), "%s --help", env.Name())
	}
	return clockJump(ctx, env, fsx.Host, os.Geteuid())
}

// clockJump takes away what says that the clock is set, asks for a jump and
// restarts the daemon: that also when something before went wrong, or the
// firewall would stay shut (D29).
func clockJump(ctx context.Context, env cli.Env, root fsx.Root, euid int) error {
	if euid != 0 {
		fmt.Fprintf(env.Stdout, "%s: ERROR: Must be run as root (sudo)!\n", env.Args[0])
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return together(forgetCertificate(root), askForJump(root), systemctl(ctx, env, root, "--no-block", "restart", "sdwdate"))
}

// forgetCertificate lets root's anondate-set believe a certificate once more.
func forgetCertificate(root fsx.Root) error {
	f, err := openFolder(root, anondateDir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.close()
	return f.remove(fileCertificate)
}

// askForJump does so in the folder of the status.
func askForJump(root fsx.Root) error {
	f, err := openStatus(root)
	if err != nil {
		return err
	}
	defer f.close()
	return together(f.remove(fileCertificate), f.remove(fileFirstSuccess), f.create(fileJumpOnce))
}

// systemctl runs it with its output where ours goes.
func systemctl(ctx context.Context, env cli.Env, root fsx.Root, args ...string) error {
	path, err := execx.Find(root, "systemctl")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, systemctlLimit)
	defer cancel()
	return execx.Cmd{Path: path, Args: append([]string{"--no-pager"}, args...), Stdout: env.Stdout, Stderr: env.Stderr}.Run(ctx)
}

// together is all errors in one line.
func together(errs ...error) error {
	var all error
	for _, err := range errs {
		switch {
		case all == nil:
			all = err
		case err != nil:
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}
