// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const cleanHelp = `usage: %s
Moves files that do not end in .conf out of the directories of Tor's
configuration. See tor-config-sane(8).
`

// Clean is the program torrc-d-cleaner. It is needed only where a torrc
// includes a directory, and not the files in it that end in .conf.
func Clean(_ context.Context, env cli.Env) error {
	if done, err := plain(env, cleanHelp); done {
		return err
	}
	return clean(fsx.Host, env)
}

func clean(root fsx.Root, env cli.Env) error {
	for _, dir := range []string{torrcDir, userTorrcDir} {
		if err := cleanDir(root, dir); err != nil {
			fmt.Fprintf(env.Stdout, "%s ERROR: exit_code: %d | %v\n", env.Args[0], cli.CodeFailed, err)
			return err
		}
	}
	fmt.Fprintf(env.Stdout, "%s INFO: success.\n", env.Args[0])
	return nil
}

func cleanDir(root fsx.Root, dir string) error {
	entries, err := os.ReadDir(root.Path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	backup := dir + "/backup"
	for _, e := range entries {
		name := e.Name()
		if fi, err := os.Stat(root.Path(dir + "/" + name)); err == nil && fi.IsDir() || strings.HasSuffix(name, ".conf") {
			continue
		}
		const dirMode = 0o755
		if err := root.MkdirAll(backup, dirMode); err != nil {
			return err
		}
		if err := moveInto(root, dir+"/"+name, backup); err != nil {
			return err
		}
	}
	return nil
}

// moveInto moves a file; one of the same name that is there already becomes
// NAME.~1~, or the next number that is free.
func moveInto(root fsx.Root, from, dir string) error {
	to := dir + "/" + path.Base(from)
	err := rename(root, from, to)
	for n := 1; errors.Is(err, fs.ErrExist); n++ {
		old := rename(root, to, to+".~"+strconv.Itoa(n)+"~")
		if errors.Is(old, fs.ErrExist) {
			continue
		}
		if old != nil {
			return old
		}
		err = rename(root, from, to)
	}
	return err
}

// rename replaces nothing.
func rename(root fsx.Root, from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, root.Path(from), unix.AT_FDCWD, root.Path(to), unix.RENAME_NOREPLACE)
	if err != nil {
		return &fs.PathError{Op: "move", Path: from, Err: err}
	}
	return nil
}
