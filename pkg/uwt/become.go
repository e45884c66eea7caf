// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/elfx"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/whonix"
)

// become runs the program: bound to an address, or with a made-up time, or
// isolated, or none of these, as is set for it.
func (w *wrapper) become(ctx context.Context) error {
	if w.set.bound(w.parent) {
		if done, err := w.becomeBound(); done {
			return err
		}
		return w.plainly(w.environ(), w.env.Args[1:])
	}
	args, isolated, err := w.personality(ctx)
	if err != nil {
		return err
	}
	time, err := w.madeUpTime(ctx)
	if err != nil {
		return err
	}
	torsocks := words(w.set.or("torsocks_bin", "torsocks"))
	if !isolated {
		torsocks = nil
	}
	uwtexec := words(w.set.or("uwtexec_bin", uwtexecPath))
	env := w.environ()
	if time != "" {
		w.tellRealTime()
	}
	if len(torsocks) > 0 {
		lib, known := w.library(torsocks)
		if handled, err := w.unreached(ctx, lib, args); handled {
			return err
		}
		if known && time == "" && len(uwtexec) == 1 && uwtexec[0] == uwtexecPath {
			return w.plainly(preloaded(env, lib), args)
		}
	}
	if len(torsocks) == 0 && time == "" && len(uwtexec) == 1 && uwtexec[0] == uwtexecPath {
		return w.plainly(env, args)
	}
	var chain []string
	if time != "" {
		chain = append(chain, "faketime", time)
	}
	chain = append(append(chain, torsocks...), uwtexec...)
	return w.chained(append(chain, args...))
}

// personality is what particular programs need besides: their arguments, and
// whether torsocks is to isolate them.
func (w *wrapper) personality(ctx context.Context) (args []string, isolated bool, err error) {
	args = w.env.Args[1:]
	isolated = w.set.isolated(w.parent)
	passthrough := w.set.Vars[varPassthrough] == "1"
	if passthrough {
		w.trace("%s is set", varPassthrough)
	}
	if ownWrapper(w.parent) {
		switch base(w.parent) {
		case "ricochet":
			w.ricochet()
		case "curl":
			if !isolated || passthrough {
				return args, false, nil
			}
			args, err = w.curl(ctx, args)
			return args, false, err
		case "dnf-3":
			if !isolated || passthrough {
				return args, false, nil
			}
			args, err = w.dnf(ctx, args)
			return args, false, err
		}
	}
	return args, isolated && !passthrough, nil
}

// ricochet would start a Tor of its own if it were not told where one is, and
// cannot use a unix socket.
func (w *wrapper) ricochet() {
	w.setEnv("TOR_CONTROL_HOST", "127.0.0.1")
	w.setEnv("TOR_CONTROL_PORT", whonix.BrowserControlPortText)
}

// madeUpTime is faketime's first argument; empty if the program sees the real
// time.
func (w *wrapper) madeUpTime(ctx context.Context) (string, error) {
	on, own := w.set.timePrivate(w.parent)
	if !on {
		return "", nil
	}
	folder := filepath.Join(w.set.Vars["HOME"], ".timeprivacy")
	if own {
		folder = filepath.Join(folder, base(w.parent)) // one for each (U7)
	}
	if w.set.Vars["HOME"] == "" {
		w.env.Errorf("time privacy needs HOME, which is not set")
		return "", w.bug("time_privacy -f " + folder)
	}
	text, err := nextTime(ctx, timeRequest{folder: folder, now: w.env.Now(), increment: 1})
	if err != nil {
		w.env.Errorf("%v", err)
		return "", w.bug("time_privacy -f " + folder)
	}
	w.trace("the time is to be %s", text)
	return text, nil
}

// tellRealTime says so of a program that faketime's library does not hold.
func (w *wrapper) tellRealTime() {
	if file, why := unreachable(w.program(), w.set.Vars["PATH"], preloadable("")); why != "" {
		w.env.Warnf("'%s' ignores LD_PRELOAD (%s: %s): it sees the real time", w.program(), file, why)
	}
}

// plainly executes the program with nothing between.
func (w *wrapper) plainly(env, args []string) error {
	return w.replace(w.program(), append([]string{w.zeroarg}, args...), env)
}

// chained executes the first word, which is to execute the next ones, as the
// original does. uwtexec at the end gives the program its name.
func (w *wrapper) chained(argv []string) error {
	env := withEnv(w.environ(), varZeroarg, w.zeroarg)
	if w.warned != "" {
		env = withEnv(env, varWarned, w.warned)
	}
	path := elfx.LookPath(argv[0], w.set.Vars["PATH"])
	if path == "" {
		fmt.Fprintf(w.env.Stderr, "uwtwrapper: exec: %s: not found\n", argv[0])
		return &cli.Exit{Code: execx.StatusNotFound}
	}
	return w.replace(path, argv, env)
}

// replace executes a file in the place of this process. It returns when that
// failed, with the shell's status.
func (w *wrapper) replace(path string, argv, env []string) error {
	w.trace("exec %s %q", path, argv)
	return replace(path, argv, env)
}

// shellPath runs files of which the kernel knows no format.
const shellPath = "/bin/sh"

func replace(path string, argv, env []string) error {
	err := execx.Replace(path, argv, env)
	if errors.Is(err, unix.ENOEXEC) && execx.IsScript(path) {
		err = execx.Replace(shellPath, append([]string{shellPath, path}, argv[1:]...), env)
	}
	fi, statErr := os.Stat(path)
	switch {
	case statErr == nil && fi.IsDir():
		err = fmt.Errorf("%s: is a directory", path)
	case statErr == nil && errors.Is(err, unix.ENOENT):
		return &cli.Exit{Code: execx.StatusNotFound, Err: fmt.Errorf("%s: cannot execute: required file not found", path)}
	}
	code := execx.StatusNotExecutable
	if errors.Is(err, unix.ENOENT) {
		code = execx.StatusNotFound
	}
	return &cli.Exit{Code: code, Err: err}
}

// preloaded puts the library into LD_PRELOAD as torsocks(1) does.
func preloaded(environ []string, lib string) []string {
	old := ""
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, varPreload+"="); ok {
			old = v
		}
	}
	between := func(r rune) bool { return r == ':' || r == ' ' } // see ld.so(8)
	switch {
	case slices.Contains(strings.FieldsFunc(old, between), lib):
		return environ
	case old == "":
		return withEnv(environ, varPreload, lib)
	}
	return withEnv(environ, varPreload, lib+":"+old)
}
