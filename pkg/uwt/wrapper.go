// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/elfx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/session"
)

// Exit codes of the wrapper's own complaints.
const (
	codeRefused = 255 // nesting, or no parent
	codeFailed  = 1
)

// wrapper is one run of uwtwrapper, from the name under which it was started
// to the program it becomes.
type wrapper struct {
	env     cli.Env
	session *session.Session
	set     settings

	parent  string // the wrapped program's path, without .anondist
	real    string // what will be executed, if not parent.anondist-orig
	zeroarg string
	warned  string // the program if it is to run although torsocks cannot hold it
	counter int

	counting bool // the native nesting protection is in force
	verbose  bool
	scripted bool // parent comes from a script's environment
}

// Wrapper is the program uwtwrapper. It returns only when the program could not
// be run.
func Wrapper(ctx context.Context, env cli.Env) error {
	if err := dropPrivileges(); err != nil {
		return err
	}
	exported, _ := env.Lookup(varParent)
	w := &wrapper{env: env, counting: true}
	w.parent, w.scripted = parentOf(executedAs(), exported)
	if !w.scripted {
		// A wrapper that was started by its own name owes nothing to the one
		// that started the program above it (U2).
		w.env.Environ = withEnv(without(env.Environ, varZeroarg), varParent, w.parent)
	}
	w.setVerbose()
	w.trace("wrapper for %q, called with %q", w.parent, env.Args[1:])
	err := w.run(ctx)
	if w.session != nil {
		w.session.Close()
	}
	return err
}

// dropPrivileges does what bash does when it finds itself setuid: the dynamic
// linker would ignore LD_PRELOAD, and the program would not be isolated.
func dropPrivileges() error {
	uid, gid := os.Getuid(), os.Getgid()
	if os.Getegid() != gid {
		if err := syscall.Setresgid(gid, gid, gid); err != nil {
			return fmt.Errorf("setresgid: %w", err)
		}
	}
	if os.Geteuid() != uid {
		if err := syscall.Setresuid(uid, uid, uid); err != nil {
			return fmt.Errorf("setresuid: %w", err)
		}
	}
	return nil
}

func (w *wrapper) run(ctx context.Context) error {
	if err := w.configure(ctx); err != nil {
		return err
	}
	if w.parent == "" && len(w.env.Args) > 1 {
		if done, err := w.help(); done {
			return err
		}
	}
	if err := w.nest(); err != nil {
		return err
	}
	if err := w.resolve(ctx); err != nil {
		return err
	}
	if err := w.sane(); err != nil {
		return err
	}
	if err := w.session.Adopt(); err != nil {
		return fmt.Errorf("cannot do as the configuration says: %w", err)
	}
	w.session.Close()
	if err := w.trusted(); err != nil {
		return err
	}
	return w.become(ctx)
}

// trusted keeps an environment that names any path, or one that is another
// file in each directory, from having it run as root. What the kernel says
// about the name is another matter: who chose that could run the file as well.
func (w *wrapper) trusted() error {
	if !w.scripted || os.Geteuid() != 0 {
		return nil
	}
	program, err := filepath.Abs(w.program())
	if err == nil {
		err = fsx.Host.Trusted(program)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // nothing to run is complained about elsewhere
		return &cli.Exit{Code: codeFailed, Err: fmt.Errorf("%s=%s: refusing to run it as root: %w", varParent, w.parent, err)}
	}
	return nil
}

// configure sources the fragments.
func (w *wrapper) configure(ctx context.Context) error {
	s, err := session.Source(ctx, session.Options{
		Root: fsx.Host, Dirs: fragmentDirs(), Name: wrapperPath, Function: "source_config_folder",
		Args: w.env.Args[1:], Environ: w.env.Environ, Arrays: arrays(), Names: names(), Hooks: hooks(),
		Preset: map[string]string{"SCRIPTNAME": base(wrapperPath)}, OnlyRoot: os.Geteuid() == 0,
		Stderr: w.env.Stderr, Warn: func(m string) { w.env.Warnf("%s", m) },
	})
	if err != nil {
		return w.configurationFailed(err)
	}
	w.session, w.set = s, settings{&s.State}
	w.parent = w.set.Vars[varParent]
	if s.Reason != "" {
		w.trace("the configuration needed bash: %s", s.Reason)
	}
	for _, name := range ignoredHooks() {
		if w.defines(name) {
			w.env.Warnf("the configuration redefines the function %s, which is no longer called", name)
		}
	}
	return nil
}

// configurationFailed ends as the configuration wants it, or as the original
// does when it finds a mistake.
func (w *wrapper) configurationFailed(err error) error {
	var failed *session.Failed
	var ended *session.Ended
	switch {
	case errors.As(err, &failed):
		w.env.Errorf("%v", failed)
		return w.bug(failed.Command)
	case errors.As(err, &ended) && ended.Signal != 0:
		return dieOf(syscall.Signal(ended.Signal))
	case errors.As(err, &ended):
		fmt.Fprintf(w.env.Stderr, "uwtwrapper: '%s' ended execution of '%s' with exit status %d.\n", ended.File, w.parent, ended.Status)
		// Status 0 would tell the caller that the program did its work (U9).
		return &cli.Exit{Code: max(ended.Status, codeFailed)}
	}
	return &cli.Exit{Code: codeFailed, Err: err}
}

// dieOf ends this process by a signal that ended a part of it.
func dieOf(sig syscall.Signal) error {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Kill(os.Getpid(), sig)
	return &cli.Exit{Code: 128 + int(sig)}
}

// call calls a function of the configuration in place of a step of ours.
func (w *wrapper) call(function string) error {
	w.trace("calling %s of the configuration", function)
	if err := w.session.Call(function, map[string]string{varParent: w.parent, varZeroarg: w.zeroarg}); err != nil {
		return w.configurationFailed(err)
	}
	w.parent = w.set.Vars[varParent]
	return nil
}

// nest counts how many wrappers stand above each other.
func (w *wrapper) nest() error {
	if w.defines(hookNesting) {
		w.counting = false
		return w.call(hookNesting)
	}
	w.counter = w.number(varCounter, 0)
	return w.nestOne()
}

func (w *wrapper) nestOne() error {
	if !w.counting {
		return nil
	}
	const nestingMax = 10
	w.counter++
	w.setEnv(varCounter, strconv.Itoa(w.counter))
	if limit := w.number(varMax, nestingMax); w.counter >= limit {
		fmt.Fprintf(w.env.Stderr, "%s uwt wrapper ERROR: More than uwtwrapper_counter '%d' nested executions (uwtwrapper_max: '%d').\n", w.scriptName(), w.counter, limit)
		return &cli.Exit{Code: codeRefused}
	}
	return nil
}

// number is a variable's decimal number. It is never an expression (U1).
func (w *wrapper) number(name string, otherwise int) int {
	text := w.set.Vars[name]
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		w.env.Warnf("%s=%q is no decimal number; %d counts", name, text, otherwise)
		return otherwise
	}
	return int(n)
}

// linksMax bounds links where the configuration has switched the nesting
// protection off.
const linksMax = 40

// resolve finds the wrapped program behind links and other wrappers.
func (w *wrapper) resolve(ctx context.Context) error {
	if w.set.Vars[varLogLevel] == "" {
		w.setEnv(varLogLevel, "1")
	} else {
		w.setEnv(varLogLevel, w.set.Vars[varLogLevel])
	}
	w.parent = trimSuffix(w.parent)
	w.zeroarg = w.set.or(varZeroarg, w.parent)
	for range linksMax {
		s := follow(w.parent)
		w.real = s.real
		if s.next == "" {
			w.trace("the program of %q is %q", w.parent, w.program())
			return w.alternatives()
		}
		w.trace("%q leads to the wrapper of %q", w.parent, s.next)
		w.parent = trimSuffix(s.next)
		if err := w.again(ctx); err != nil {
			return err
		}
	}
	return &cli.Exit{Code: 126, Err: fmt.Errorf("'%s': too many links from wrapper to wrapper", w.parent)}
}

// again is what another wrapper does when it starts. Plain configuration says
// the same to all programs; other is asked again.
func (w *wrapper) again(ctx context.Context) error {
	if w.session.Reason != "" {
		// The environment of a next wrapper is that of the one before it.
		w.env.Environ = withEnv(withEnv(w.set.Environ, varParent, w.parent), varZeroarg, w.zeroarg)
		w.session.Close()
		if err := w.configure(ctx); err != nil {
			return err
		}
		if w.defines(hookNesting) {
			w.counting = false
			return w.call(hookNesting)
		}
	}
	return w.nestOne()
}

// alternatives is for programs of which only what alternatives(8) chose is
// wrapped.
func (w *wrapper) alternatives() error {
	if w.defines(hookAlternatives) {
		return w.call(hookAlternatives)
	}
	if w.real != "" || w.parent == "" || exists(w.program()) {
		return nil
	}
	link := filepath.Join(alternativesDir, base(w.parent))
	if target, ok := linkTarget(link); ok && exists(link) {
		w.parent = target
	}
	return nil
}

// program is the path that will be executed.
func (w *wrapper) program() string {
	if w.real != "" {
		return w.real
	}
	return w.parent + originalSuffix
}

// sane checks that there is a program.
func (w *wrapper) sane() error {
	if w.defines(hookSanity) {
		return w.call(hookSanity)
	}
	if w.parent == "" {
		fmt.Fprintf(w.env.Stderr, "ERROR: You are not supposed to run '%s' manually from the command line.\nSee:\n%s --help\n", wrapperPath, wrapperPath)
		return &cli.Exit{Code: codeRefused}
	}
	program := w.program()
	if !exists(program) {
		return w.missing(program)
	}
	if unix.Access(program, unix.X_OK) != nil {
		fmt.Fprintf(w.env.Stderr, "%s uwt wrapper ERROR: file '%s' is not executable.\n", w.scriptName(), program)
		return &cli.Exit{Code: codeFailed}
	}
	return nil
}

// missing hands over to command-not-found where there is one.
func (w *wrapper) missing(program string) error {
	const helper = "command-not-found"
	if path := elfx.LookPath(helper, w.set.Vars["PATH"]); path != "" {
		return w.replace(path, []string{helper, "--ignore-installed", base(w.parent)}, w.environ())
	}
	fmt.Fprintf(w.env.Stderr, missingText, w.scriptName(), program, w.parent, base(w.parent))
	return &cli.Exit{Code: codeFailed}
}
