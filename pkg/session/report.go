// SPDX-License-Identifier: GPL-3.0-or-later

package session

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// errReport says that the report is not what the script writes.
var errReport = errors.New("a fragment interferes with the report of variables")

// fieldMax bounds one field of the report, and statesMax the fields of a state.
const (
	fieldMax = 16 << 20
	stateMax = 1 << 20
)

// field reads one NUL-terminated field.
func (sh *shell) field() (string, error) {
	var b []byte
	for {
		part, err := sh.from.ReadSlice(0)
		b = append(b, part...)
		switch {
		case err == nil:
			return string(b[:len(b)-1]), nil
		case len(b) > fieldMax:
			return "", errReport
		case errors.Is(err, io.EOF):
			return "", io.EOF
		}
	}
}

func (sh *shell) fields(n int) ([]string, error) {
	out := make([]string, n)
	for i := range out {
		var err error
		if out[i], err = sh.field(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// snapshot is one recState.
type snapshot struct {
	file           string
	files          string // the soft limit of open files
	exported, vars map[string]string
	elements       map[string]map[string]string
	hooks          []string
}

func (sh *shell) snapshot() (*snapshot, error) {
	now := &snapshot{exported: map[string]string{}, vars: map[string]string{}, elements: map[string]map[string]string{}}
	var err error
	if now.files, err = sh.field(); err != nil {
		return nil, err
	}
	for range stateMax {
		kind, err := sh.field()
		if err != nil {
			return nil, err
		}
		width, known := map[string]int{"x": 2, "v": 2, "a": 3, "h": 1, ".": 1}[kind]
		if !known {
			return nil, errReport
		}
		f, err := sh.fields(width)
		if err != nil {
			return nil, err
		}
		switch kind {
		case "x":
			now.exported[f[0]] = f[1]
		case "v":
			now.vars[f[0]] = f[1]
		case "a":
			if now.elements[f[0]] == nil {
				now.elements[f[0]] = map[string]string{}
			}
			now.elements[f[0]][f[1]] = f[2]
		case "h":
			now.hooks = append(now.hooks, f[0])
		case ".":
			now.file = f[0]
			return now, nil
		}
	}
	return nil, errReport
}

// collect reads the report about all fragments.
func (s *Session) collect(frags []fragment) error {
	s.State.begin(s.o)
	states := 2
	if s.o.Origins {
		states += len(frags)
	}
	err := s.next(states, bashPath, frags)
	if err != nil {
		s.Close()
	}
	return err
}

// next reads reports up to the given number of states, and takes them over.
// file is what runs at the beginning.
func (s *Session) next(states int, file string, frags []fragment) error {
	var failed *Failed
	for states > 0 {
		kind, err := s.shell.field()
		if err != nil {
			return s.ended(file, failed)
		}
		switch kind {
		case recFile:
			file, err = s.shell.field()
			file = s.logical(file, frags)
		case recFail:
			var f []string
			if f, err = s.shell.fields(3); err == nil {
				line, _ := strconv.Atoi(f[1])
				failed = &Failed{Origin: Origin{s.logical(f[0], frags), line}, Command: f[2]}
			}
		case recState:
			var now *snapshot
			if now, err = s.shell.snapshot(); err == nil {
				s.take(now, frags)
			}
			states--
		default:
			err = errReport
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// logical is a fragment's path as users know it.
func (s *Session) logical(path string, frags []fragment) string {
	for _, f := range frags {
		if f.handed == path {
			return f.path
		}
	}
	return s.o.Root.Logical(path)
}

// ended explains a shell that went before its report was complete.
func (s *Session) ended(file string, failed *Failed) error {
	err := s.shell.end()
	s.shell = nil
	if failed != nil {
		return failed
	}
	e := &Ended{File: file}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		e.Status = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = int(ws.Signal())
			e.Status = 128 + e.Signal
		}
	}
	return e
}

// take makes State what a snapshot says, and finds out what has changed since
// the last one.
func (s *Session) take(now *snapshot, frags []fragment) {
	if s.last == nil {
		s.files = now.files
		s.last = now
		return
	}
	s.environment(now)
	at := s.logical(now.file, frags)
	for name, value := range now.vars {
		if old, ok := s.last.vars[name]; !ok || old != value {
			s.Origins[name] = s.place(at, frags, name, "")
		}
	}
	for name, elements := range now.elements {
		for key, value := range elements {
			if old, ok := s.last.elements[name][key]; !ok || old != value {
				s.Origins[name+"["+key+"]"] = s.place(at, frags, name, key)
			}
		}
	}
	s.Vars = maps.Clone(now.exported)
	maps.Copy(s.Vars, now.vars)
	for _, name := range s.o.Arrays {
		s.Arrays[name] = now.elements[name]
	}
	s.Defined = now.hooks
	s.last = now
}

// environment brings what was exported, changed and unset into the environment
// that the program is to get. What bash was not given stays as it was.
func (s *Session) environment(now *snapshot) {
	for _, name := range slices.Sorted(maps.Keys(now.exported)) {
		value := now.exported[name]
		if old, ok := s.last.exported[name]; (!ok || old != value) && !ofShell(name) {
			s.Environ = setenv(s.Environ, name, value)
		}
	}
	for name := range s.last.exported {
		if _, ok := now.exported[name]; !ok && !ofShell(name) {
			s.Environ = unsetenv(s.Environ, name)
		}
	}
}

// ofShell reports what a shell exports about itself.
func ofShell(name string) bool { return name == "_" || name == "SHLVL" }

// place is the last line of the file that assigns plainly, or else names, what
// has changed in it. Without Options.Origins the file is not known.
func (s *Session) place(file string, frags []fragment, name, key string) Origin {
	i := slices.IndexFunc(frags, func(f fragment) bool { return f.path == file })
	if !s.o.Origins || i < 0 {
		return Origin{File: strings.Join(s.o.Dirs, ", ")}
	}
	at := Origin{File: file}
	number, exact := 0, false
	for line := range strings.Lines(string(frags[i].text)) {
		number++
		_, after, found := strings.Cut(line, name)
		if !found || !strings.Contains(after, "=") || strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		if named := strings.Contains(after, key); named || !exact {
			at.Line, exact = number, named
		}
	}
	return at
}
