// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"fmt"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
)

const (
	sudoPath        = "/usr/bin/sudo"
	askpassDefault  = "/usr/libexec/derivative-base-files/askpass-default"
	defaultPassword = "changeme"
)

const dsudoHelp = `usage: %s COMMAND [ARGUMENT]...
Runs a command by sudo with the default password, for scripts on machines that
still have it. See dsudo(8).
  --version  print the version
`

// Dsudo is the program dsudo and, by the name askpass-default, what tells sudo the
// password: that of the environment's sudo_password, or the default one.
func Dsudo(_ context.Context, env cli.Env) error { return dsudo(execx.Replace, env) }

func dsudo(replace func(path string, argv, environ []string) error, env cli.Env) error {
	if len(env.Args) == 2 && asked(env, dsudoHelp) {
		return nil
	}
	if env.Name() == "askpass-default" { // its argument is sudo's question
		password, ok := env.Lookup("sudo_password")
		if !ok || password == "" {
			password = defaultPassword
		}
		fmt.Fprintln(env.Stdout, password)
		return nil
	}
	var environ []string
	for _, e := range env.Environ {
		if !strings.HasPrefix(e, "SUDO_ASKPASS=") {
			environ = append(environ, e)
		}
	}
	err := replace(sudoPath, append([]string{sudoPath, "-A"}, env.Args[1:]...), append(environ, "SUDO_ASKPASS="+askpassDefault))
	return &cli.Exit{Code: execx.Status(err), Err: fmt.Errorf("%s: %w", sudoPath, err)}
}
