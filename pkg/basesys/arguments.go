// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"whonix-networking/pkg/cli"
)

// fileMax bounds what is read of one file of configuration.
const fileMax = 1 << 20

// asked answers a call for help.
func asked(env cli.Env, help string) bool {
	if !slices.Contains(env.Args[1:], "--help") && !slices.Contains(env.Args[1:], "-h") {
		return false
	}
	fmt.Fprintf(env.Stdout, help, env.Name())
	return true
}

// askedBare also answers a call for the version: for programs that PAM starts at
// every login, to which cli.Main's watch for signals would add a thread.
func askedBare(env cli.Env, help string) bool {
	if len(env.Args) == 2 && env.Args[1] == "--version" {
		fmt.Fprintf(env.Stdout, "%s (whonix-networking) %s\n", env.Name(), cli.Version)
		return true
	}
	return asked(env, help)
}

// none is for programs without arguments: it answers a call for help, and
// refuses the rest.
func none(env cli.Env, help string) (done bool, err error) {
	if asked(env, help) {
		return true, nil
	}
	if len(env.Args) > 1 {
		return true, cli.Usagef("takes no arguments: %q", env.Args[1])
	}
	return false, nil
}

// asRoot ends programs that others than root have called, in the words of the
// original.
func asRoot(env cli.Env) error {
	if os.Geteuid() == 0 {
		return nil
	}
	fmt.Fprintf(env.Stderr, "ERROR: must be run as root! sudo %s\n", env.Args[0])
	return &cli.Exit{Code: cli.CodeFailed}
}

// printable takes out what could steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
