// SPDX-License-Identifier: GPL-3.0-or-later

package elfx

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// chainMax is how many interpreters execve(2) follows.
const chainMax = 5

// shell is what runs a file of which the kernel knows no format, as execvp(3)
// and shells do.
const shell = "/bin/sh"

// Chain examines the program at path and, if it is a script, what runs it: its
// interpreter, that one's own, and the program that env(1) looks up in the
// directories of path lists. A relative interpreter counts from the current
// directory, as in execve(2).
func Chain(path, pathList string) ([]File, error) {
	var out []File
	for range chainMax + 2 {
		f, err := Examine(path)
		if err != nil {
			return out, err
		}
		out = append(out, f)
		switch {
		case f.Kind == Script:
			path = f.Interpreter
			if filepath.Base(path) != "env" {
				continue
			}
			env, err := Examine(path)
			if err != nil {
				return out, err
			}
			name, clears := envTarget(f.Argument)
			env.Clears = clears
			out = append(out, env)
			if path = LookPath(name, pathList); name == "" || path == "" {
				return out, nil // env(1) will say so
			}
		case f.Kind == Other && len(out) == 1:
			path = shell
		default:
			return out, nil
		}
	}
	return out, unix.ELOOP
}

// envTarget is the program that `#!/usr/bin/env NAME` and `env -S NAME ...`
// run, and whether LD_PRELOAD may be another one there. What we do not
// understand of env's own language counts as a change.
func envTarget(argument string) (name string, clears bool) {
	words := argument
	if rest, ok := strings.CutPrefix(words, "--split-string="); ok {
		words = rest
	} else if strings.HasPrefix(words, "-") {
		var before string
		var found bool
		if before, words, found = strings.Cut(words, "S"); !found || strings.Trim(before, "-v") != "" {
			clears = true
		}
	} else {
		return words, strings.HasPrefix(words, "LD_")
	}
	clears = clears || strings.ContainsAny(words, "\\\"'$#")
	for _, w := range strings.Fields(words) {
		switch {
		case w == "-v", w == "--debug", w == "--":
		case strings.HasPrefix(w, "-"), strings.HasPrefix(w, "LD_"):
			clears = true
		case !strings.Contains(w, "="):
			return w, clears
		}
	}
	return "", clears
}

// LookPath finds an executable file as execvp(3) does: a name with a slash as
// it stands, else in the directories of pathList, of which an empty one is the
// current directory. It returns "" if there is none.
func LookPath(name, pathList string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for _, dir := range strings.Split(pathList, ":") {
		p := name
		if dir != "" {
			p = strings.TrimSuffix(dir, "/") + "/" + name
		}
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && unix.Access(p, unix.X_OK) == nil {
			return p
		}
	}
	return ""
}
