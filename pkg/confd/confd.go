// SPDX-License-Identifier: GPL-3.0-or-later

// Package confd evaluates directories of configuration fragments that are
// bash, and have been edited by users for years, into variables whose every
// part knows the file and line that set it.
//
// There are two tiers with identical results. What lies in a static subset
// (assignments, arrays, quoting, parameter expansion, conditionals, loops over
// words, functions without arguments, return, and the commands test, id -u,
// seq, qubesdb-read) is evaluated here.
// As soon as a fragment needs more, the attempt, which has no effects, is
// given up, and all fragments are evaluated by one bash process instead. A
// construct about which there is doubt is outside the subset.
package confd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mvdan.cc/sh/v3/syntax"

	"whonix-networking/pkg/fsx"
)

// Limits on what is read.
const (
	fileMax  = 1 << 20 // bytes of one fragment
	filesMax = 1000    // fragments
)

// Options say what to evaluate, and how.
type Options struct {
	Root   fsx.Root
	Dirs   []string // in order; of each the files *.conf in C-locale byte order
	Shell  Shell
	Stderr io.Writer // messages of commands in fragments

	// Environ is the environment fragments see, as os.Environ. Variables that
	// steer bash or the dynamic linker are left out of it.
	Environ []string

	// Refuse returns why fragments must not assign a variable, or define a
	// function, of that name; empty allows it.
	RefuseVariable func(name string) string
	RefuseFunction func(name string) string

	// AnyOwner allows files that others than root can write. Without it they
	// are refused: fragments are code.
	AnyOwner bool

	// Account and QubesDB answer `id -u NAME` and `qubesdb-read KEY`.
	Account func(name string) (uint32, bool)
	QubesDB func(key string) (string, bool)

	// Note names commands that are noted, not run. Where there is at least one,
	// so is everything that fragments start in the background, and fragments
	// may print, export and end all by exit.
	Note []string

	// Plain names variables of Environ that fragments find, and do not export.
	Plain []string

	// Output is where echo and printf of fragments go, if commands are noted;
	// else, and without it, that is Stderr.
	Output io.Writer

	// FileVariable, if any, has the path of the fragment that is evaluated.
	FileVariable string

	// Timeout bounds the evaluation; 0 is 30 s.
	Timeout time.Duration
}

// Command is a command that was noted.
type Command struct {
	Args       []string
	Environ    []string // NAME=VALUE that stand before it
	Exported   []string // NAME=VALUE that it gets besides the caller's environment, in no order
	Text       string   // as it is written, if that is more than one command; a shell runs it
	Dir        string   // where it is to run; empty is where the caller is
	Background bool
	Origin     Origin
}

// ExitError says that a fragment ended everything by exit.
type ExitError struct {
	Origin Origin
	Status int
}

// Error is one line.
func (e *ExitError) Error() string { return fmt.Sprintf("%s: exit %d", e.Origin, e.Status) }

// Shell are the options under which fragments are sourced, as bash(1) names
// them.
type Shell struct {
	Errexit, Nounset, Pipefail, Errtrace, Nullglob bool
}

// Origin is where something was assigned. The zero value is the environment.
type Origin struct {
	File string
	Line int // 0 where only the file is known
}

// String is FILE:LINE, or "environment".
func (o Origin) String() string {
	switch {
	case o.File == "":
		return "environment"
	case o.Line == 0:
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// Part is what one assignment contributed to a value.
type Part struct {
	Text   string
	Origin Origin
}

// Value is a variable's value; for an array that of the element 0.
type Value struct {
	Text  string
	Array []string // all elements, for arrays only
	Parts []Part   // oldest first; together they are Text

	isArray bool // an array also with one element or none
}

// Tier is the way an evaluation went.
type Tier int

// The tiers.
const (
	Native Tier = iota
	Bash
)

// Result is the outcome of an evaluation.
type Result struct {
	Vars   map[string]Value
	Tier   Tier
	Reason string // why bash was needed: FILE:LINE: what

	Commands []Command // noted ones, in order
}

// SyntaxError says that a fragment is not bash.
type SyntaxError struct {
	File     string
	Line     int
	ExitCode int    // of bash -n
	Text     string // what bash -n said, one or more lines
}

// Error is one line.
func (e *SyntaxError) Error() string {
	first, _, _ := strings.Cut(e.Text, "\n")
	return fmt.Sprintf("%s:%d: syntax error: %s", e.File, e.Line, first)
}

// EvalError says that a fragment failed, or did what none may.
type EvalError struct {
	Origin Origin
	Text   string
	Quiet  bool // the shell has already said why on standard error
	Status int  // of the command that failed; 0 if it was none
}

// Error is one line.
func (e *EvalError) Error() string { return e.Origin.String() + ": " + e.Text }

// fragment is one file, read and parsed.
type fragment struct {
	path string // as users know it
	data []byte
	file *syntax.File // nil if only bash can read it

	doubt notStatic // why the tree may differ from what bash reads; zero if not

	handed string // the path by which bash gets it
}

// Evaluate evaluates all fragments in order. The first failure ends it.
func Evaluate(ctx context.Context, o Options) (*Result, error) {
	const timeout = 30 * time.Second
	if o.Timeout == 0 {
		o.Timeout = timeout
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	o.fillIn()
	paths, err := o.list()
	if err != nil {
		return nil, err
	}
	frags, broken := o.load(ctx, paths)
	res, err := o.evaluate(ctx, frags)
	if err != nil {
		return nil, err
	}
	// Earlier fragments count first: only when they succeed is a later one
	// that cannot be read reported.
	if broken != nil {
		return nil, broken
	}
	return res, nil
}

func (o *Options) fillIn() {
	allow := func(string) string { return "" }
	if o.RefuseVariable == nil {
		o.RefuseVariable = allow
	}
	if o.RefuseFunction == nil {
		o.RefuseFunction = allow
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if o.Output == nil || len(o.Note) == 0 {
		o.Output = o.Stderr
	}
	if o.Account == nil {
		o.Account = Accounts(o.Root)
	}
	if o.QubesDB == nil {
		o.QubesDB = QubesDB(o.Root)
	}
}

func (o *Options) evaluate(ctx context.Context, frags []fragment) (*Result, error) {
	for _, f := range frags {
		if err := o.refused(f); err != nil {
			return nil, err
		}
	}
	res, err := o.native(ctx, frags)
	var beyond *notStatic
	if !errors.As(err, &beyond) {
		return res, err
	}
	res, err = o.bash(ctx, frags, beyond)
	if err != nil {
		return nil, err
	}
	res.Tier, res.Reason = Bash, beyond.Error()
	return res, nil
}

func (o *Options) list() ([]string, error) {
	var paths []string
	for _, dir := range o.Dirs {
		files, err := o.Root.ConfFiles(dir, ".conf")
		if err != nil {
			return nil, err
		}
		paths = append(paths, files...)
	}
	if len(paths) > filesMax {
		return nil, fmt.Errorf("%s: %d fragments, more than %d", strings.Join(o.Dirs, ", "), len(paths), filesMax)
	}
	return paths, nil
}

// load reads the fragments up to the first that is broken.
func (o *Options) load(ctx context.Context, paths []string) (frags []fragment, broken error) {
	for _, p := range paths {
		f, err := o.loadOne(ctx, p)
		if err != nil {
			return frags, err
		}
		frags = append(frags, f)
	}
	return frags, nil
}

func (o *Options) loadOne(ctx context.Context, path string) (fragment, error) {
	f := fragment{path: path}
	if !o.AnyOwner {
		if err := o.trusted(path); err != nil {
			return f, err
		}
	}
	data, err := o.Root.ReadFile(path, fileMax)
	if err != nil {
		return f, &EvalError{Origin: Origin{File: path}, Text: "cannot be read: " + cause(err)}
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		line := 1 + bytes.Count(data[:i], []byte("\n"))
		return f, &EvalError{Origin: Origin{File: path, Line: line}, Text: "contains a NUL byte"}
	}
	f.data = data
	if len(data) > parsedMax {
		return f, o.confirmSyntaxError(ctx, path, nil)
	}
	parser := syntax.NewParser(syntax.Variant(syntax.LangBash), syntax.KeepComments(true))
	f.file, err = parser.Parse(bytes.NewReader(data), path)
	if err != nil {
		f.file = nil
		return f, o.confirmSyntaxError(ctx, path, err)
	}
	f.doubt.origin, f.doubt.what = doubt(path, data, f.file)
	return f, nil
}

// cause is the innermost error's text, without the path that the caller names.
func cause(err error) string {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err.Error()
}

// refused finds assignments and functions that must not be, wherever they
// stand in the fragment.
func (o *Options) refused(f fragment) error {
	if f.file == nil {
		return nil
	}
	var found error
	var nodes []syntax.Node
	inner := 0 // subshells around a node: their options are their own
	note := func(pos syntax.Pos, what, why string) {
		if why != "" && found == nil {
			found = &EvalError{Origin: Origin{File: f.path, Line: int(pos.Line())}, Text: what + " is refused: " + why}
		}
	}
	syntax.Walk(f.file, func(n syntax.Node) bool {
		if n == nil { // the end of the innermost node
			switch nodes[len(nodes)-1].(type) {
			case *syntax.Subshell, *syntax.CmdSubst:
				inner--
			}
			nodes = nodes[:len(nodes)-1]
			return true
		}
		switch n := n.(type) {
		case *syntax.Assign:
			if n.Name != nil && !n.Naked {
				note(n.Pos(), "assigning "+n.Name.Value, o.RefuseVariable(n.Name.Value))
			}
		case *syntax.WordIter:
			note(n.Pos(), "assigning "+n.Name.Value, o.RefuseVariable(n.Name.Value))
		case *syntax.FuncDecl:
			note(n.Pos(), "the function "+n.Name.Value, o.RefuseFunction(n.Name.Value))
		case *syntax.Subshell, *syntax.CmdSubst:
			inner++
		case *syntax.CallExpr:
			if o.Shell.Errexit && inner == 0 && endsErrexit(n) {
				note(n.Pos(), "set +e", "it switches the shell option errexit off, under which failures are noticed; write COMMAND || true")
			}
		}
		nodes = append(nodes, n)
		return found == nil
	})
	return found
}

// endsErrexit reports `set +e`, alone, among other flags, or by its long name.
func endsErrexit(c *syntax.CallExpr) bool {
	if len(c.Args) < 2 || c.Args[0].Lit() != "set" {
		return false
	}
	for i, w := range c.Args[1:] {
		arg := w.Lit()
		if arg == "--" || arg == "" {
			return false
		}
		if strings.HasPrefix(arg, "+") && strings.Contains(arg, "e") || arg == "errexit" && c.Args[i].Lit() == "+o" {
			return true
		}
	}
	return false
}

// steering are variables that steer bash, the dynamic linker or the commands
// that fragments call. Fragments do not get them from the environment.
func steering(name string) bool {
	for _, prefix := range []string{"BASH", "LD_", "LC_", "GLIBC_", "MALLOC_", "HIST", "COMP_", "DYLD_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains(strings.Fields(`CDPATH ENV EXECIGNORE FIGNORE FUNCNEST GCONV_PATH GETCONF_DIR GLOBIGNORE
		HOSTALIASES IFS LANG LANGUAGE LOCALDOMAIN LOCPATH NIS_PATH NLSPATH PATH POSIXLY_CORRECT PROMPT_COMMAND PS4
		RES_OPTIONS RESOLV_HOST_CONF SHELLOPTS TIMEFORMAT TMOUT TMPDIR TZ TZDIR`), name)
}

// environ is the part of Environ that fragments see, by name.
func (o *Options) environ() map[string]string {
	env := map[string]string{}
	for _, kv := range o.Environ {
		name, value, ok := strings.Cut(kv, "=")
		if ok && syntax.ValidName(name) && !steering(name) && o.RefuseVariable(name) == "" {
			env[name] = value
		}
	}
	return env
}
