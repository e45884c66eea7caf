// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/session"
)

const showHelp = `usage: uwt-settings-show [--verbose]
Says whether wrapped programs are stream-isolated. See uwt-settings-show(1).
`

// Show is the program uwt-settings-show. It runs at login, and therefore reads
// the plain assignments of the configuration only (U17).
func Show(_ context.Context, env cli.Env) error {
	flags := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	verbose := flags.BoolP("verbose", "v", false, "one line more for each program that differs")
	flags.Usage = func() { fmt.Fprint(env.Stdout, showHelp, flags.FlagUsages()) }
	if err := parse(flags, env); err != nil {
		return err
	}
	state := session.Preview(session.Options{Root: fsx.Host, Dirs: fragmentDirs(), Environ: env.Environ, Arrays: arrays()})
	set := settings{&state}
	passthrough, _ := env.Lookup(varPassthrough)
	if set.or("uwtwrapper_global", "1") == "1" && passthrough != "1" {
		fmt.Fprintln(env.Stdout, "uwt INFO: Stream isolation for some applications enabled. uwt / torsocks will be automatically prepended to some commands. What is that? See:")
		fmt.Fprintln(env.Stdout, "uwt INFO: https://www.whonix.org/wiki/Stream_Isolation/Easy")
	} else {
		fmt.Fprintln(env.Stdout, "uwt INFO: disabled.")
	}
	if !*verbose {
		return nil
	}
	global := set.Vars["uwtwrapper_global"] != "0"
	for _, program := range slices.Sorted(maps.Keys(set.Arrays[arraySwitch])) {
		if on := set.isolated(program); on != global {
			fmt.Fprintf(env.Stdout, "uwt INFO: %s: %s (%s)\n", program, enabled(on), set.Origins[arraySwitch+"["+program+"]"])
		}
	}
	return nil
}

func enabled(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

// parse reads a command line that has options only.
func parse(flags *pflag.FlagSet, env cli.Env) error {
	err := flags.Parse(env.Args[1:])
	switch {
	case err == pflag.ErrHelp:
		return &cli.Exit{}
	case err != nil:
		return cli.Usagef("%w", err)
	case flags.NArg() > 0:
		return cli.Usagef("%s: this program takes no arguments", flags.Arg(0))
	}
	return nil
}
