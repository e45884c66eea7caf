// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"fmt"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const setupHelp = `usage: qubes-whonixsetup
Tells the user of a template in Qubes that there is no updates proxy behind Tor. See
qubes-whonixsetup(1).
`

// What shows a message to the user, and where its text is.
const (
	alertProgram  = "/usr/libexec/msgcollector/alert"
	alertSection  = "update"
	alertMessages = "/usr/lib/qubes-whonix/messages.yaml"
)

// WhonixSetup is the program qubes-whonixsetup, which sessions start.
func WhonixSetup(ctx context.Context, env cli.Env) error {
	const patience, each = 120 * time.Second, time.Second
	if done, err := alone(env, setupHelp); done {
		return err
	}
	return whonixSetup(ctx, fsx.Host, env, patience, each)
}

// whonixSetup waits for the verdict of torified-updates-proxy-check, and alerts
// the user if it is not that there is a proxy behind Tor.
func whonixSetup(ctx context.Context, root fsx.Root, env cli.Env, patience, each time.Duration) error {
	if !whonix.Detect(root).Template {
		return nil
	}
	limit := time.After(patience)
	for waiting := true; waiting && !root.Exists(checkDone); {
		select {
		case <-ctx.Done():
			return &cli.Exit{Code: cli.CodeFailed}
		case <-limit:
			waiting = false
		case <-time.After(each):
		}
	}
	if root.Exists(secureProxy) {
		return nil
	}
	// The session's own environment: it says where its display is.
	err := execx.Cmd{Path: root.Path(alertProgram), Args: []string{alertSection, alertMessages}, Env: env.Environ, Stdout: env.Stdout, Stderr: env.Stderr}.Run(ctx)
	if err != nil {
		return cli.WithHint(fmt.Errorf("there is no updates proxy behind Tor, and it cannot be shown: %w", err), "start sys-whonix; then: sudo systemctl restart qubes-whonix-torified-updates-proxy-check")
	}
	return nil
}
