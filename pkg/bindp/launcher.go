// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
)

// Run is the program bindp-launcher. It becomes the program it is given, and
// returns only when it cannot. Under the name HelperName it is the helper.
func Run(ctx context.Context, env cli.Env) error {
	if env.Name() == HelperName {
		return runHelper(ctx, env)
	}
	o, err := parseOptions(env)
	if errors.Is(err, errHelp) {
		return nil
	}
	if err != nil {
		return refuse(cli.WithHint(err, "%s --help", env.Name()))
	}
	settings, err := settingsFrom(env)
	if err != nil {
		return err
	}
	path, err := findProgram(env, o.program)
	if err != nil {
		return err
	}
	l := launch{env: env, options: o, settings: settings, path: path}
	return l.run(ctx)
}

func refuse(err error) error { return &cli.Exit{Code: codeRefused, Err: err} }

// settingsFrom reads the settings and complains, in the words that users know,
// once for all processes of the program (B8).
func settingsFrom(env cli.Env) (Settings, error) {
	lookup := func(variable string) string {
		v, _ := env.Lookup(variable)
		return v
	}
	settings, ignored, err := ParseSettings(lookup)
	for _, i := range ignored {
		fmt.Fprintln(env.Stderr, i)
	}
	if err != nil {
		fmt.Fprintln(env.Stderr, err)
		return Settings{}, &cli.Exit{Code: codeRefused}
	}
	return settings, nil
}

// findProgram finds the program as execvp(3) does, in the caller's own PATH:
// the launcher has no privilege that the caller has not.
func findProgram(env cli.Env, name string) (string, error) {
	failed := func(code int, err error) error {
		return &cli.Exit{Code: code, Err: fmt.Errorf("%s: %w", name, err)}
	}
	if strings.Contains(name, "/") {
		return name, nil
	}
	path, ok := env.Lookup("PATH")
	if !ok {
		path = "/bin:/usr/bin"
	}
	denied := false
	for _, dir := range strings.Split(path, ":") {
		candidate := cmp.Or(dir, ".") + "/" + name
		switch err := unix.Access(candidate, unix.X_OK); {
		case err == nil:
			if fi, err := os.Stat(candidate); err == nil && fi.Mode().IsRegular() {
				return candidate, nil
			}
			denied = true
		case errors.Is(err, unix.EACCES):
			denied = true
		}
	}
	if denied {
		return "", failed(execx.StatusNotExecutable, unix.EACCES)
	}
	return "", failed(execx.StatusNotFound, execx.ErrNotFound)
}

// launch is one run of a program.
type launch struct {
	env      cli.Env
	options  options
	settings Settings
	path     string
}

func (l *launch) run(ctx context.Context) error {
	if l.settings.Nothing() || l.options.mode == ModeNone {
		return l.replace(ctx, l.env.Environ)
	}
	if l.options.mode == ModePreload {
		return l.preload(ctx, errors.New("asked for"))
	}
	return l.filtered(ctx)
}

// replace becomes the program.
func (l *launch) replace(ctx context.Context, environ []string) error {
	if ctx.Err() != nil {
		return &cli.Exit{Code: 128 + int(unix.SIGINT), Err: ctx.Err()}
	}
	argv := l.options.argv()
	err := execx.Replace(l.path, argv, environ)
	if errors.Is(err, syscall.ENOEXEC) && execx.IsScript(l.path) {
		// A script without an interpreter line is the shell's, see execvp(3).
		err = execx.Replace("/bin/sh", append([]string{argv[0], l.path}, argv[1:]...), environ)
	}
	code := execx.StatusNotExecutable
	if errors.Is(err, unix.ENOENT) {
		code = execx.StatusNotFound
	}
	return &cli.Exit{Code: code, Err: err}
}

// setVariables returns the environment with variables set.
func setVariables(environ []string, variables ...string) []string {
	var env []string
	for _, kv := range environ {
		key, _, _ := strings.Cut(kv, "=")
		replaced := false
		for _, v := range variables {
			name, _, _ := strings.Cut(v, "=")
			replaced = replaced || name == key
		}
		if !replaced {
			env = append(env, kv)
		}
	}
	return append(env, variables...)
}
