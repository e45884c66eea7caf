// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const systemMapUsage = `usage: remove-system-map [--help | --version]

Deletes the symbol tables of kernels, System.map*, which help to exploit them.
Fragments of the administrator's in /etc/remove-system.map_pre.d/*.conf are run
before.
`

// systemMapGlobs are where symbol tables lie, in this order.
func systemMapGlobs() []string {
	return []string{"/boot/System.map*", "/usr/src/*/System.map*", "/lib/modules/*/*/System.map*", "/System.map*", "/usr/lib/modules/*/System.map*", "/usr/lib/debug/boot/System.map*"}
}

// RemoveSystemMap is the program remove-system.map.
func RemoveSystemMap(ctx context.Context, env cli.Env) error {
	return removeSystemMap(ctx, env, host())
}

func removeSystemMap(ctx context.Context, env cli.Env, on system) error {
	if done, err := noArguments(env, "remove-system-map", systemMapUsage); done || err != nil {
		return err
	}
	if skip, err := hooks(ctx, env, on, "remove-system.map"); skip || err != nil {
		return err
	}
	var matches []string
	for _, glob := range systemMapGlobs() {
		matches = append(matches, expand(on.root, glob)...)
	}
	if len(matches) == 0 {
		return nil
	}
	fmt.Fprintln(env.Stdout, "INFO: Deleting system.map files...")
	seen, failed := map[string]bool{}, false
	for _, file := range matches {
		if err := ctx.Err(); err != nil {
			return err
		}
		dir, err := on.root.Canonical(path.Dir(file))
		if err == nil {
			real := path.Join(dir, path.Base(file))
			if seen[real] {
				continue
			}
			seen[real] = true
			err = wipe(on.root, dir, path.Base(file))
		}
		switch {
		case err == nil:
			fmt.Fprintf(env.Stdout, "INFO: removed '%s'\n", printable(file))
		case errors.Is(err, unix.EROFS):
			fmt.Fprintf(env.Stdout, "NOTE: Cannot delete '%s' - read-only. For details, see: https://www.kicksecure.com/wiki/security-misc#system_map\n", printable(file))
		case errors.Is(err, errNotPlain):
			failed = true
			fmt.Fprintf(env.Stdout, "ERROR: not a plain file, skipped '%s'\n", printable(file))
		default:
			failed = true
			fmt.Fprintf(env.Stderr, "ERROR: Cannot delete '%s': %v\n", printable(file), err)
		}
	}
	if failed {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	fmt.Fprintln(env.Stdout, "INFO: Done. Success.")
	return nil
}

// errNotPlain says that something else would be changed with the file (D-11).
var errNotPlain = errors.New("not a plain file")

// wipe overwrites a file with zeros, and removes its name.
func wipe(root fsx.Root, dir, name string) error {
	parent, err := root.Pin(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	p, err := parent.At(name)
	if err != nil {
		return err
	}
	defer p.Close()
	if !p.IsRegular() || p.Info.Nlink != 1 {
		return errNotPlain
	}
	f, err := p.Open(os.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < p.Info.Size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), p.Info.Size-at)], at); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return parent.Unlink(name)
}

// expand lists what a pattern matches, as a shell with nullglob does. What
// cannot be read matches nothing.
func expand(root fsx.Root, glob string) []string {
	found := []string{"/"}
	for component := range strings.SplitSeq(strings.TrimPrefix(glob, "/"), "/") {
		var next []string
		for _, dir := range found {
			if !strings.Contains(component, "*") {
				next = append(next, path.Join(dir, component))
				continue
			}
			list, err := os.ReadDir(root.Path(dir))
			if err != nil {
				continue
			}
			for _, e := range list {
				if ok, err := path.Match(component, e.Name()); ok && err == nil && e.Name()[0] != '.' {
					next = append(next, path.Join(dir, e.Name()))
				}
			}
		}
		found = next
	}
	return slices.DeleteFunc(found, func(p string) bool {
		_, err := os.Lstat(root.Path(p))
		return errors.Is(err, fs.ErrNotExist)
	})
}
