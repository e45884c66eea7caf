// SPDX-License-Identifier: GPL-3.0-or-later

// Package session sources configuration fragments as a wrapper script does
// before it execs its program, and brings back what they left behind:
// variables, associative arrays, the environment, the current directory, the
// umask, resource limits and functions.
//
// It differs from package confd, for which fragments are data: here they are a
// part of the program that is to run, see its arguments, may change its
// environment, wait, and end it.
//
// Fragments of plain assignments, which is what is shipped and what most users
// write, are read here in microseconds. As soon as one fragment has anything
// else, all are sourced by one bash.
package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"whonix-networking/pkg/fsx"
)

// Limits on what is read.
const (
	fileMax  = 1 << 20 // bytes of one fragment
	filesMax = 1000    // fragments
)

// Options say what to source, and as what.
type Options struct {
	Root fsx.Root
	Dirs []string // in order; of each the files *.conf in byte order

	Name     string   // $0
	Function string   // the function from within which fragments are sourced
	Args     []string // $1 and on
	Environ  []string // the environment, as os.Environ

	Preset map[string]string // further variables that fragments see, not exported
	Arrays []string          // associative arrays that are there, empty, from the beginning
	Names  []string          // variables that the caller wants to know besides exported ones
	Hooks  []string          // functions of which the caller wants to know whether fragments define them

	// OnlyRoot refuses fragments that others than root can change.
	OnlyRoot bool

	// Origins has the state reported after each file, so that State.Origins
	// tells also with bash which file it was. That costs a millisecond a file.
	Origins bool

	Stderr io.Writer            // what commands in fragments print, on either stream
	Warn   func(message string) // oddities of fragments, one line each
}

// Origin is where a value comes from. Line 0 means that only the file is
// known; the zero value is the environment.
type Origin struct {
	File string
	Line int
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

// State is what the fragments left behind.
type State struct {
	Vars    map[string]string // exported variables, Preset, and Names that are set
	Arrays  map[string]map[string]string
	Environ []string // what the program is to get
	Defined []string // the Hooks that fragments define

	// Origins of variables and of elements, these under NAME[KEY].
	Origins map[string]Origin

	// Why bash was needed; empty if it was not.
	Reason string
}

// Failed says that a command in a fragment failed where nothing caught it, or
// that a fragment is not bash. The shell has said on Stderr what it says.
type Failed struct {
	Origin  Origin
	Command string // the shell's BASH_COMMAND
}

// Error is one line.
func (f *Failed) Error() string { return f.Origin.String() + ": failed: " + f.Command }

// Ended says that a fragment ended the shell.
type Ended struct {
	File   string // or the function that Call called
	Status int    // what it asked for, or 128+n
	Signal int    // the signal that ended it, or 0
}

// Error is one line.
func (e *Ended) Error() string {
	return fmt.Sprintf("%s: ended with status %d", e.File, e.Status)
}

// Session are sourced fragments. Functions of theirs can be called until Close.
type Session struct {
	State
	o     *Options
	shell *shell // nil if bash was not needed

	last  *snapshot
	files string // the shell's limit of open files when it began
}

// fragment is one file.
type fragment struct {
	path  string
	text  []byte
	plain []assignment
	why   *beyond // why it is not plain
	bom   bool

	handed string // the path by which bash gets it
}

// Source sources all fragments in order. An error is a *Failed, an *Ended, or
// says what is wrong with a file. ctx ends a running shell.
func Source(ctx context.Context, o Options) (*Session, error) {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	frags, err := o.load()
	if err != nil {
		return nil, err
	}
	s := &Session{o: &o}
	for _, f := range frags {
		if f.why != nil {
			s.Reason = fmt.Sprintf("%s:%d: %s", f.path, f.why.line, f.why.what)
			if s.shell, err = o.start(ctx, frags); err != nil {
				return nil, err
			}
			return s, s.collect(frags)
		}
	}
	s.apply(frags)
	return s, nil
}

// Close ends the shell, if one runs.
func (s *Session) Close() {
	if s.shell != nil {
		s.shell.kill()
		s.shell = nil
	}
}

// Preview reads the fragments' plain assignments only, line by line, and runs
// nothing: what a login message may do. Files that cannot be read are left out.
func Preview(o Options) State {
	s := &Session{o: &o}
	o.Warn = func(string) {}
	paths, _ := o.list()
	var frags []fragment
	for _, p := range paths {
		if text, err := o.Root.ReadFile(p, fileMax); err == nil {
			frags = append(frags, fragment{path: p, plain: plainLines(withoutMark(text), o.Arrays)})
		}
	}
	s.apply(frags)
	return s.State
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

func (o *Options) load() ([]fragment, error) {
	paths, err := o.list()
	if err != nil {
		return nil, err
	}
	var out []fragment
	for _, p := range paths {
		f, err := o.loadOne(p)
		if err != nil {
			return nil, err
		}
		if f.path != "" {
			out = append(out, f)
		}
	}
	return out, nil
}

// loadOne returns no fragment for what can be passed over.
func (o *Options) loadOne(path string) (fragment, error) {
	fi, err := os.Stat(o.Root.Path(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		o.Warn(path + ": is left out: the link leads nowhere")
		return fragment{}, nil
	case err == nil && fi.IsDir():
		o.Warn(path + ": is left out: it is a directory")
		return fragment{}, nil
	}
	if o.OnlyRoot {
		if err := o.Root.Trusted(path); err != nil {
			return fragment{}, fmt.Errorf("%s: is refused: %w", path, err)
		}
	}
	text, err := o.Root.ReadFile(path, fileMax)
	if err != nil {
		return fragment{}, err
	}
	f := fragment{path: path, text: withoutMark(text)}
	if f.bom = len(f.text) != len(text); f.bom {
		o.Warn(path + ": begins with a byte-order mark, which is ignored: save it as UTF-8 without one")
	}
	if i := bytes.IndexByte(text, '\r'); i >= 0 {
		o.Warn(fmt.Sprintf("%s:%d: has a carriage return (CR), which becomes part of the value: save it with Unix line ends", path, 1+bytes.Count(text[:i], []byte("\n"))))
	}
	if f.plain, err = plain(f.text, o.Arrays); err != nil {
		errors.As(err, &f.why)
	}
	return f, nil
}

func withoutMark(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) }

// apply does what the shell would do with plain assignments.
func (s *Session) apply(frags []fragment) {
	s.State.begin(s.o)
	for _, f := range frags {
		for _, a := range f.plain {
			at := Origin{f.path, a.line}
			if a.element {
				s.Arrays[a.name][a.key] = a.value
				s.Origins[a.name+"["+a.key+"]"] = at
				continue
			}
			_, exported := lookup(s.Environ, a.name)
			if exported || a.export {
				s.Environ = setenv(s.Environ, a.name, a.value)
			}
			s.Vars[a.name] = a.value
			s.Origins[a.name] = at
		}
	}
}

func (st *State) begin(o *Options) {
	st.Vars, st.Arrays, st.Origins = map[string]string{}, map[string]map[string]string{}, map[string]Origin{}
	st.Environ = slices.Clone(o.Environ)
	for _, kv := range o.Environ {
		name, value, _ := strings.Cut(kv, "=")
		st.Vars[name] = value
	}
	for name, value := range o.Preset {
		st.Vars[name] = value
	}
	for _, name := range o.Arrays {
		st.Arrays[name] = map[string]string{}
		if value, ok := lookup(o.Environ, name); ok {
			st.Arrays[name]["0"] = value // what declare -A makes of a plain variable
		}
	}
}

// lookup finds a variable; of duplicates the last counts, as in bash.
func lookup(environ []string, name string) (string, bool) {
	for i := len(environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(environ[i], name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// setenv replaces all of a name's settings by one.
func setenv(environ []string, name, value string) []string {
	at := slices.IndexFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	if at < 0 {
		return append(environ, name+"="+value)
	}
	environ[at] = name + "=" + value
	rest := unsetenv(environ[at+1:], name)
	return environ[:at+1+len(rest)]
}

func unsetenv(environ []string, name string) []string {
	return slices.DeleteFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}
