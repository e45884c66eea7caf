// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"context"
	"fmt"
	"os"

	"whonix-networking/pkg/cli"
)

const lockdownUsage = `usage: permission-lockdown [--help | --version]

Takes the access of others from each directory in /home, once for each: what the
user allows afterwards stays allowed.
`

const (
	lockdownState = "/var/lib/security-misc/permission-lockdown"
	lockdownOld   = "/var/cache/security-misc/state-files" // a cache may be purged
	placeholder   = "placeholder"                          // of the package there, no user's (defect D-22)
	homes         = "/home"
	othersBits    = 0o007
)

// PermissionLockdown is the program permission-lockdown.
func PermissionLockdown(ctx context.Context, env cli.Env) error {
	return permissionLockdown(ctx, env, host())
}

func permissionLockdown(_ context.Context, env cli.Env, on system) error {
	if done, err := noArguments(env, "permission-lockdown", lockdownUsage); done || err != nil {
		return err
	}
	dir, err := on.root.Canonical(homes)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(on.root.Path(dir))
	if err != nil {
		return err
	}
	if err := on.root.MkdirAll(lockdownState, dirMode); err != nil {
		return err
	}
	failed := false
	for _, e := range entries {
		name := e.Name()
		if name[0] == '.' || on.root.IsFile(lockdownState+"/"+name) || name != placeholder && on.root.IsFile(lockdownOld+"/"+name) {
			continue
		}
		if err := lockHome(env, on, dir, name); err != nil {
			failed = true
			fmt.Fprintf(env.Stderr, "%s: ERROR: '%s': %v\n", env.Args[0], printable(homes+"/"+name), err)
		}
	}
	if failed {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

// lockHome treats one entry, and remembers it when that worked.
func lockHome(env cli.Env, on system, dir, name string) error {
	parent, err := on.root.Pin(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	home, err := parent.At(name)
	if err != nil {
		return err
	}
	defer home.Close()
	if !home.IsDir() {
		return nil
	}
	fmt.Fprintf(env.Stdout, "%s: chmod o-rwx \"%s\"\n", env.Args[0], printable(homes+"/"+name))
	if err := home.Chmod(home.Info.Mode & modeBits &^ othersBits); err != nil {
		return err
	}
	return on.root.Touch(lockdownState+"/"+name, fileMode)
}
