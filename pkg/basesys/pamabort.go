// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"fmt"
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const abortHelp = `usage: %s [--deny-if]
Says why an account whose password is locked cannot log in. See
pam-abort-on-locked-password(8).
  --deny-if  exit 0 where the login is to be refused, else 1
  --version  print the version
`

// codeRootLocked says that root's password is locked, as it is by default.
// 2 and 3 were the original's for what is no reason to refuse a login (D-16).
const codeRootLocked = 4

// Abort is the program pam-abort-on-locked-password.
func Abort(ctx context.Context, env cli.Env) error { return abort(ctx, fsx.Host, os.Geteuid(), env) }

func abort(ctx context.Context, root fsx.Root, euid int, env cli.Env) error {
	denyIf, done, err := denyIfOnly(env, abortHelp)
	if done {
		return err
	}
	deny := rootLocked(ctx, root, euid, env)
	switch {
	case denyIf && !deny:
		return &cli.Exit{Code: 1}
	case !denyIf && deny:
		return &cli.Exit{Code: codeRootLocked}
	}
	return nil
}

// denyIfOnly reads the command line of helpers that have this one option.
func denyIfOnly(env cli.Env, help string) (denyIf, done bool, err error) {
	if askedBare(env, help) {
		return false, true, nil
	}
	for _, a := range env.Args[1:] {
		if a != "--deny-if" {
			// Not 0: with --deny-if that would keep everybody out.
			return false, true, &cli.Exit{Code: 1, Err: fmt.Errorf("unknown argument: %q", a)}
		}
		denyIf = true
	}
	return denyIf, false, nil
}

// rootLocked says what is to be said, and reports whether the account is root,
// locked, on a system where that is the default. Whoever is not root cannot know,
// and who is asked about an account that is none says nothing: which accounts
// there are is nobody's business (defect D-16).
func rootLocked(ctx context.Context, root fsx.Root, euid int, env cli.Env) bool {
	user, _ := env.Lookup("PAM_USER")
	if euid != 0 {
		return false
	}
	if state, ok := passwordOf(ctx, root, user); !ok || state != passwordLocked {
		return false
	}
	if remote, _ := env.Lookup("PAM_RHOST"); remote != "" {
		return user == "root" && marked(root)
	}
	fmt.Fprintf(env.Stdout, "%s: INFO: Password for user \"%s\" is locked.\n", env.Args[0], printable(user))
	if user != "root" || !marked(root) {
		return false
	}
	fmt.Fprintf(env.Stderr, "%s: ERROR: root account is locked by default. See:\nhttps://www.kicksecure.com/wiki/root\n\n", env.Args[0])
	return true
}

// marked reports whether this is a system of the family.
func marked(root fsx.Root) bool {
	return root.Exists("/usr/share/whonix/marker") || root.Exists("/usr/share/kicksecure/marker") || root.Exists("/usr/share/anon-dist/marker")
}
