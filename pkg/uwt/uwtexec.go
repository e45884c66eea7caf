// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"fmt"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
)

const uwtexecHelp = `usage: uwtexec is started by uwtwrapper, behind programs that cannot pass on a
name; nobody runs it by hand. It executes $uwtwrapper_parent.anondist-orig under
the name $uwtwrapper_zeroarg. See uwtexec(8).
`

// Exec is the program uwtexec.
func Exec(ctx context.Context, env cli.Env) error {
	parent, _ := env.Lookup(varParent)
	if parent == "" {
		return execHelp(env)
	}
	program := trimSuffix(parent) + originalSuffix
	if preload, _ := env.Lookup(varPreload); preloadsOurs(preload) {
		passthrough, _ := env.Lookup(varPassthrough)
		pathList, _ := env.Lookup("PATH")
		file, why := unreachable(program, pathList, preloadable(""))
		warned, _ := env.Lookup(varWarned)
		if why != "" && passthrough != "1" && warned != program {
			fmt.Fprintf(env.Stderr, "uwtexec: ERROR: '%s' ignores LD_PRELOAD (%s); refusing to run it unisolated.\n", file, why)
			return &cli.Exit{Code: execx.StatusNotExecutable}
		}
	}
	zeroarg, _ := env.Lookup(varZeroarg)
	if zeroarg == "" {
		zeroarg = parent
	}
	return replace(program, append([]string{zeroarg}, env.Args[1:]...), without(without(env.Environ, varZeroarg), varWarned))
}

// execHelp answers a call by hand.
func execHelp(env cli.Env) error {
	if len(env.Args) > 1 {
		switch env.Args[1] {
		case "-h", "--help":
			fmt.Fprint(env.Stdout, uwtexecHelp)
			return nil
		case "--version":
			fmt.Fprintf(env.Stdout, "uwtexec (whonix-networking) %s\n", cli.Version)
			return nil
		}
	}
	return &cli.Exit{Code: execx.StatusNotFound, Err: fmt.Errorf("%s is not set: uwtexec is started by uwtwrapper, not by hand", varParent)}
}

// preloadsOurs reports whether LD_PRELOAD is to isolate or to bind.
func preloadsOurs(preload string) bool {
	return strings.Contains(preload, "libtorsocks") || strings.Contains(preload, "libindp")
}
