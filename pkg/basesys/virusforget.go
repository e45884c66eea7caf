// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const virusforgetHelp = `usage: %s --user NAME [--commit] [--check [--clean] [--exit-code]] [--simulate]
Keeps a copy of the files that an account's sessions begin with, and says, or
undoes, what has changed. See virusforget(8).
  --user NAME  whose
  --commit     what is there now is good
  --check      compare
  --clean      with --check: put back what was committed
  --exit-code  with --check: exit 10 if anything differs
  --simulate   with --commit or --clean: only say what would be done
  --unittest   try all this in a home made for it
  --version    print the version
`

const codeDiffers = 10

// Virusforget is the program virusforget.
func Virusforget(ctx context.Context, env cli.Env) error {
	if len(env.Args) == 3 && (env.Args[1] == taskRead || env.Args[1] == taskWrite) {
		return homeSide(env, env.Args[1], env.Args[2])
	}
	if asked(env, virusforgetHelp) {
		return nil
	}
	if err := asRoot(env); err != nil {
		return err
	}
	return (&forget{root: fsx.Host, env: env, as: asAccount}).run(ctx)
}

// forget is a run; as runs this program as an account.
type forget struct {
	root fsx.Root
	env  cli.Env
	as   asFunc

	user                                               string
	commit, check, clean, simulate, exitCode, unittest bool
	account                                            account
	store                                              store
}

func (f *forget) run(ctx context.Context) error {
	if err := f.arguments(); err != nil {
		return err
	}
	if f.unittest {
		return f.selfTest(ctx)
	}
	var ok bool
	if f.account, ok = lookup(ctx, f.root, f.user); !ok {
		return fmt.Errorf("there is no account %q", printable(f.user))
	}
	if f.account.uid == 0 {
		return errors.New("root's home is root's own: nothing there could be trusted more")
	}
	f.store = store{f.root, storeDir + "/" + f.account.name}
	if err := f.store.prepare(); err != nil {
		return err
	}
	unlock, err := f.root.Lock(ctx, f.store.dir+"/lock")
	if err != nil {
		return err
	}
	defer unlock()
	if f.commit {
		if err := f.doCommit(ctx); err != nil {
			return err
		}
	}
	if f.check {
		return f.doCheck(ctx)
	}
	return nil
}

// arguments reads the command line, in the words of the original.
func (f *forget) arguments() error {
	fail := func(text string) error {
		fmt.Fprintln(f.env.Stderr, text)
		return &cli.Exit{Code: cli.CodeFailed}
	}
	flags := map[string]*bool{"--commit": &f.commit, "--check": &f.check, "--clean": &f.clean, "--simulate": &f.simulate, "--exit-code": &f.exitCode, "--unittest": &f.unittest}
	args := f.env.Args[1:]
	for ; len(args) > 0 && args[0] != "--"; args = args[1:] {
		if flag, ok := flags[args[0]]; ok {
			*flag = true
			continue
		}
		if args[0] != "--user" {
			return fail("ERROR: unknown option: " + printable(args[0]))
		}
		if len(args) < 2 || args[1] == "" {
			return fail("ERROR: --user needs username as argument!")
		}
		f.user, args = args[1], args[1:]
	}
	if f.unittest && f.user == "" {
		f.user = "user"
	}
	switch {
	case f.user == "":
		return fail("ERROR: must set --user username")
	case !f.commit && !f.check && !f.unittest:
		return fail("ERROR: nothing to do: --commit or --check")
	case f.clean && !f.check:
		return fail("ERROR: --clean goes with --check")
	}
	return nil
}

// now reads the home as it is, into a new directory of root's.
func (f *forget) now(ctx context.Context) (objects []object, dir string, err error) {
	if dir, err = f.store.fresh(); err != nil {
		return nil, "", err
	}
	objects, err = snapshot(ctx, f.account, f.root.Path(f.account.home), dir, f.as, streams{name: f.env.Name(), err: f.env.Stderr})
	if err != nil {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return objects, dir, err
}

func (f *forget) doCommit(ctx context.Context) error {
	objects, dir, err := f.now(ctx)
	if err != nil {
		return err
	}
	if f.simulate {
		for _, o := range objects {
			fmt.Fprintf(f.env.Stdout, "would store: %s\n", f.shown(o))
		}
		return os.RemoveAll(dir)
	}
	// What is no file, directory or link cannot be stored, and would differ for
	// good.
	for _, o := range objects {
		if o.Kind == objectOther {
			f.env.Warnf("%s: neither file, directory nor link", f.shown(o))
		}
	}
	if err := f.store.commit(dir, objects); err != nil {
		return err
	}
	fmt.Fprintf(f.env.Stdout, "%d objects of %s stored in %s/backup\n", len(objects), f.account.home, f.store.dir)
	return nil
}

func (f *forget) shown(o object) string { return printable(f.account.home + "/" + string(o.Path)) }

// doCheck compares, says what differs, and, if it is to, puts it right.
func (f *forget) doCheck(ctx context.Context) error {
	good, err := f.store.manifest()
	if err != nil {
		return err
	}
	present, dir, err := f.now(ctx)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := compare(good, present)
	for _, o := range d.changed {
		fmt.Fprintf(f.env.Stderr, "Difference detected! changed file: %s backup: %s/backup/%s\n", f.shown(o), f.store.dir, o.SHA256)
	}
	for _, o := range d.missing {
		fmt.Fprintf(f.env.Stderr, "Missing file detected! missing: %s\n", f.shown(o))
	}
	for _, o := range d.extra {
		fmt.Fprintf(f.env.Stderr, "Extraneous file! %s\n", f.shown(o))
	}
	if f.clean && !d.none() {
		err = f.doClean(ctx, dir, d, present)
	}
	if err == nil && f.exitCode && !d.none() {
		err = &cli.Exit{Code: codeDiffers}
	}
	return err
}

// differences are objects as they were committed, but extra ones.
type differences struct{ changed, missing, extra []object }

func (d differences) none() bool { return len(d.changed)+len(d.missing)+len(d.extra) == 0 }

func compare(good, present []object) differences {
	now := map[string]object{}
	for _, o := range present {
		now[string(o.Path)] = o
	}
	var d differences
	for _, o := range good {
		p, ok := now[string(o.Path)]
		delete(now, string(o.Path))
		switch {
		case !ok:
			d.missing = append(d.missing, o)
		case !o.same(p):
			d.changed = append(d.changed, o)
		}
	}
	for _, o := range present {
		if _, ok := now[string(o.Path)]; ok {
			d.extra = append(d.extra, o)
		}
	}
	return d
}

// doClean sets aside what is there, and then has the account itself put back what
// was.
func (f *forget) doClean(ctx context.Context, dir string, d differences, present []object) error {
	replaced := slices.Clone(d.extra)
	for _, p := range present {
		if slices.ContainsFunc(d.changed, func(o object) bool { return string(o.Path) == string(p.Path) }) {
			replaced = append(replaced, p)
		}
	}
	if f.simulate {
		for _, o := range replaced {
			fmt.Fprintf(f.env.Stdout, "would set aside: %s\n", f.shown(o))
		}
		for _, o := range append(slices.Clone(d.changed), d.missing...) {
			fmt.Fprintf(f.env.Stdout, "would restore: %s\n", f.shown(o))
		}
		return nil
	}
	if len(replaced) > 0 {
		aside, err := f.store.setAside(dir, replaced)
		if err != nil {
			return err
		}
		for _, o := range replaced {
			fmt.Fprintf(f.env.Stdout, "set aside: %s in %s\n", f.shown(o), aside)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	sent := make(chan error, 1)
	go func() {
		err := f.sendOrders(w, d, present)
		w.Close()
		sent <- err
	}()
	err = f.as(ctx, f.account, streams{name: f.env.Name(), in: r, out: f.env.Stdout, err: f.env.Stderr}, taskWrite, f.root.Path(f.account.home))
	r.Close()
	if serr := <-sent; err == nil {
		err = serr
	}
	if err != nil {
		return err
	}
	for _, o := range append(slices.Clone(d.changed), d.missing...) {
		fmt.Fprintf(f.env.Stdout, "restored: %s\n", f.shown(o))
	}
	return nil
}

// sendOrders sends what is to be removed, the deepest first, and then what is to
// be there, directories before what is in them.
func (f *forget) sendOrders(to io.Writer, d differences, present []object) error {
	e := json.NewEncoder(to)
	for _, o := range slices.Backward(d.extra) {
		if err := e.Encode(order{Remove: true, Object: o}); err != nil {
			return err
		}
	}
	kinds := map[string]string{}
	for _, o := range present {
		kinds[string(o.Path)] = o.Kind
	}
	restore := append(slices.Clone(d.changed), d.missing...)
	slices.SortStableFunc(restore, func(a, b object) int { return slices.Compare(a.Path, b.Path) })
	for _, o := range restore {
		if k := kinds[string(o.Path)]; k != "" && k != o.Kind {
			if err := e.Encode(order{Remove: true, Object: o}); err != nil {
				return err
			}
		}
		if o.Kind == objectOther {
			continue
		}
		if err := e.Encode(order{Object: o}); err != nil {
			return err
		}
		if o.Kind != objectFile {
			continue
		}
		if err := f.sendContent(to, o); err != nil {
			return err
		}
	}
	return nil
}

func (f *forget) sendContent(to io.Writer, o object) error {
	in, err := os.Open(f.store.path("backup", filepath.Base(o.SHA256)))
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.CopyN(to, in, o.Size)
	return err
}
