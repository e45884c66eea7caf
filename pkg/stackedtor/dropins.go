// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/fsx"
)

// dropInDirs are the directories of drop-ins, in order.
func dropInDirs() []string {
	const name = "/anon-ws-disable-stacked-tor.d"
	return []string{"/etc" + name, "/rw" + name, "/usr/local/etc" + name}
}

// evaluation says how drop-ins are to be evaluated.
type evaluation struct {
	root    fsx.Root
	dirs    []string
	environ []string          // the caller's
	set     map[string]string // variables that drop-ins find
	output  io.Writer
	stderr  io.Writer

	anyOwner bool                            // the files are no system's: a package's
	qubesdb  func(key string) (string, bool) // answers drop-ins; nil asks Qubes
}

// dropIns evaluates all drop-ins in one shell state. What they would start is
// noted, not started.
func (e evaluation) dropIns(ctx context.Context) (*confd.Result, error) {
	if err := e.readable(); err != nil {
		return nil, err
	}
	environ := append([]string{}, e.environ...)
	plain := []string{"bash_n_exit_code", "bash_n_output", "i"}
	for name, value := range e.set {
		environ = append(environ, name+"="+value)
		if _, exported := (cli.Env{Environ: e.environ}).Lookup(name); !exported {
			plain = append(plain, name)
		}
	}
	environ = append(environ, "bash_n_exit_code=0", "bash_n_output=")
	res, err := confd.Evaluate(ctx, confd.Options{
		Root: e.root, Dirs: e.dirs, Shell: confd.Shell{Errexit: true, Nullglob: true}, Stderr: e.stderr, Output: e.output,
		Environ: environ, Plain: plain, Note: []string{"socat"}, FileVariable: "i", AnyOwner: e.anyOwner, QubesDB: e.qubesdb,
	})
	var broken *confd.SyntaxError
	var exit *confd.ExitError
	var failed *confd.EvalError
	switch {
	case errors.As(err, &broken):
		return nil, e.invalid(broken.File, broken.ExitCode, broken.Text)
	case errors.As(err, &exit):
		return nil, &cli.Exit{Code: exit.Status, Err: fmt.Errorf("%s ended everything with exit %d", exit.Origin, exit.Status)}
	case errors.As(err, &failed):
		return nil, &cli.Exit{Code: max(failed.Status, cli.CodeFailed), Err: failed}
	}
	return res, err
}

// readable finds what is no file that could be read, with the status that bash
// would give it.
func (e evaluation) readable() error {
	const notReadable, notFound = 126, 127
	for _, dir := range e.dirs {
		files, err := e.root.ConfFiles(dir, ".conf")
		if err != nil {
			return err
		}
		for _, p := range files {
			fi, err := os.Stat(e.root.Path(p))
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return e.invalid(p, notFound, p+": No such file or directory")
			case err == nil && fi.IsDir():
				return e.invalid(p, notReadable, p+": Is a directory")
			}
			f, err := os.Open(e.root.Path(p))
			if errors.Is(err, fs.ErrPermission) {
				return e.invalid(p, notReadable, p+": Permission denied")
			}
			if err == nil {
				f.Close()
			}
		}
	}
	return nil
}

// invalid reports a drop-in in the words that users know.
func (e evaluation) invalid(path string, status int, diagnostics string) error {
	fmt.Fprintf(e.stderr, "Invalid config file: %s\nbash_n_exit_code: %d\nbash_n_output:\n%s\n", path, status, diagnostics)
	return &cli.Exit{Code: cli.CodeFailed}
}
