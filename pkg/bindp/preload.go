// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"context"
	"fmt"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/elfx"
)

// libraryPath is where the preload library is installed.
const libraryPath = "/usr/lib/libindp.so"

// preload becomes the program with the preload library, as the last resort:
// reason says why nothing better works.
func (l *launch) preload(ctx context.Context, reason error) error {
	library := libraryPath
	if v, _ := l.env.Lookup(variableLibrary); v != "" {
		library = v
	}
	failed := func(err error) error {
		return refuse(cli.WithHint(fmt.Errorf("no mode works here: %w; preload: %w (ptrace_scope %s)", reason, err, ptraceScope()),
			"--mode=none runs the program as it is"))
	}
	pathList, _ := l.env.Lookup("PATH")
	if err := preloadable(l.path, library, pathList); err != nil {
		return failed(err)
	}
	value, _ := l.env.Lookup("LD_PRELOAD")
	value = strings.TrimLeft(value+" "+library, " ")
	return l.replace(ctx, setVariables(l.env.Environ, "LD_PRELOAD="+value))
}

// preloadable reports, as an error, why the library would not change the
// program, which would run without a word.
func preloadable(path, library, pathList string) error {
	lib, err := elfx.Examine(library)
	if err != nil {
		return err
	}
	chain, err := elfx.Chain(path, pathList)
	if err != nil {
		return err
	}
	for i, f := range chain {
		if f.Kind == elfx.Other && i == 0 {
			continue // run by the shell, which comes next
		}
		if why := f.Unreached(lib); why != "" {
			return fmt.Errorf("%s ignores LD_PRELOAD (%s)", f.Path, why)
		}
	}
	return nil
}
