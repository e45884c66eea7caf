// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const excludeDir = "/etc/security-misc/faillock-exclude.d"

const onlyIfHelp = `usage: %s
Tells PAM by its exit status which service asks. See pam-only-if(8).
  --version  print the version
`

// OnlyIf is the program pam-only-if, by the names pam_only_if_login,
// pam_only_if_su and pam_faillock_not_if_x: silent, without arguments that count.
// PAM skips a line of its stack when it succeeds.
func OnlyIf(_ context.Context, env cli.Env) error { return onlyIf(fsx.Host, env) }

func onlyIf(root fsx.Root, env cli.Env) error {
	service, _ := env.Lookup("PAM_SERVICE")
	var skip bool
	switch name := env.Name(); name {
	case "pam_only_if_login":
		skip = service != "login"
	case "pam_only_if_su":
		skip = service != "su"
	case "pam_faillock_not_if_x":
		skip = uncounted(root, service)
	default:
		if askedBare(env, onlyIfHelp) {
			return nil
		}
		return cli.WithHint(cli.Usagef("called as %q", name), "it is pam_only_if_login, pam_only_if_su or pam_faillock_not_if_x")
	}
	if len(env.Args) == 2 && askedBare(env, onlyIfHelp) || skip {
		return nil
	}
	return &cli.Exit{Code: 1}
}

// uncounted reports whether wrong passwords of a service lock nobody: else
// anybody on the network could lock an account. Services of the administrator's
// stand one a line in excludeDir.
func uncounted(root fsx.Root, service string) bool {
	switch service {
	case "":
		return false
	case "dovecot", "sshd":
		return true
	}
	files, err := root.ConfFiles(excludeDir, ".conf")
	if err != nil {
		return false
	}
	for _, f := range files {
		if root.Trusted(f) != nil {
			continue
		}
		data, err := root.ReadFile(f, fileMax)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) == service {
				return true
			}
		}
	}
	return false
}
