// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"fmt"
	"slices"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const blockHelp = `usage: %s [--deny-if]
Refuses logins without a password to accounts that can become root, on systems
with an account for maintenance. See block-unsafe-logins(8).
  --deny-if  exit 0 where the login is to be refused, else 1
  --version  print the version
`

// splitPackage is what makes a system have an account for maintenance.
const splitPackage = "/var/lib/dpkg/info/user-sysmaint-split.list"

// BlockLogins is the program block-unsafe-logins.
func BlockLogins(ctx context.Context, env cli.Env) error { return blockLogins(ctx, fsx.Host, env) }

func blockLogins(ctx context.Context, root fsx.Root, env cli.Env) error {
	denyIf, done, err := denyIfOnly(env, blockHelp)
	if done {
		return err
	}
	why := unsafeLogin(ctx, root, env)
	if why != "" {
		fmt.Fprintf(env.Stdout, "ERROR: Rejecting %s\n", why)
	}
	if denyIf != (why != "") { // refused without the option, or let in with it
		return &cli.Exit{Code: 1}
	}
	return nil
}

// unsafeLogin is why a login is refused; empty if it is not.
func unsafeLogin(ctx context.Context, root fsx.Root, env cli.Env) string {
	user, _ := env.Lookup("PAM_USER")
	service, _ := env.Lookup("PAM_SERVICE")
	if user == "" || service == "" || !root.Exists(splitPackage) {
		return ""
	}
	if sysmaintSession(root) {
		if user != "sysmaint" {
			return fmt.Sprintf("non-sysmaint account '%s' in sysmaint session!", printable(user))
		}
		return ""
	}
	if user == "sysmaint" {
		return "sysmaint account in user session!"
	}
	if slices.Contains([]string{"login", "greetd", "sshd", "swaylock"}, service) {
		return ""
	}
	a, ok := lookup(ctx, root, user)
	if !ok {
		return ""
	}
	sensitive := a.uid == 0 || member(ctx, root, a, "sudo") || member(ctx, root, a, "root") || member(ctx, root, a, "sysmaint")
	if state, ok := passwordOf(ctx, root, user); sensitive && ok && state == passwordNone {
		return fmt.Sprintf("passwordless sensitive account '%s'!", printable(user))
	}
	return ""
}
