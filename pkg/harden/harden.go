// SPDX-License-Identifier: GPL-3.0-or-later

// Package harden has the programs of security-misc that act on files, mounts
// and processes of the machine. Each reads its settings, decides in a pure
// function what is to be done, and does it on objects that it holds by a
// descriptor, so that no name can be made to mean something else meanwhile.
package harden

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// system is what the programs act on: the host in production, a directory in
// tests.
type system struct {
	root       fsx.Root
	privileged bool // whether we are root
}

func host() system { return system{root: fsx.Host, privileged: os.Geteuid() == 0} }

// textMax bounds what is read as a configuration or state file.
const textMax = 4 << 20

// Modes of directories and files that the programs make.
const (
	dirMode  = 0o755
	fileMode = 0o644
)

// modeBits are the bits that chmod(2) sets.
const modeBits = 0o7777

// usage parses options and answers --help and --version. It returns what is left of the
// command line, and whether the program is done.
func usage(env cli.Env, name, text string, options *pflag.FlagSet) (args []string, done bool, err error) {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	flags.Usage = func() {}
	if options != nil {
		flags.AddFlagSet(options)
	}
	help := flags.BoolP("help", "h", false, "")
	version := flags.Bool("version", false, "")
	if err := flags.Parse(env.Args[min(1, len(env.Args)):]); err != nil {
		return nil, true, err
	}
	switch {
	case *help:
		fmt.Fprint(env.Stdout, text)
		return nil, true, nil
	case *version:
		fmt.Fprintf(env.Stdout, "%s (whonix-networking) %s\n", name, cli.Version)
		return nil, true, nil
	}
	return flags.Args(), false, nil
}

// noArguments is usage for programs that take none.
func noArguments(env cli.Env, name, text string) (done bool, err error) {
	args, done, err := usage(env, name, text, nil)
	if err != nil {
		return true, cli.Usagef("%v", err)
	}
	if !done && len(args) > 0 {
		return true, cli.Usagef("%q: this program takes no arguments", args[0])
	}
	return done, nil
}
