// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// A job is what is started in the background and is more than one command: a
// list, a pipeline, a loop, a subshell, a function. It stays as it is written,
// and is run by a bash of its own, in the state in which the shell would have
// started it: variables, functions, options, directory and umask.

// jobNoting is the part of the script that reports that state. The arguments
// are the place, and the positional parameters; words, if any, are the job where
// it is not what is written.
const jobNoting = `
__confd_job() {
	builtin printf 'J\0%s\0%s\0%s\0' "$1" "$PWD" "$(builtin umask)" >&9
	[[ ${#__confd_words[@]} -eq 0 ]] || builtin printf '%q ' "${__confd_words[@]}" >&9
	builtin printf '\0' >&9
	[[ $# -eq 1 ]] || builtin printf '%q ' "${@:2}" >&9
	builtin printf '\0' >&9
	{ builtin set +o; builtin shopt -p; } >&9 || builtin true
	builtin printf '\0IFS\0\0' >&9
	builtin declare -p IFS >&9 2>/dev/null || builtin true
	builtin local IFS=$'\n' __confd_x
	for __confd_x in $(builtin compgen -v); do
		case $__confd_x in __confd_* | IFS) continue ;; esac
		builtin printf '\0%s\0%s\0' "$__confd_x" "${!__confd_x-}" >&9
		builtin declare -p "$__confd_x" >&9 || builtin true
	done
	builtin printf '\0\0' >&9
	for __confd_x in $(builtin compgen -A function); do
		[[ $__confd_x != __confd_* && $__confd_noted != *" $__confd_x "* ]] || continue
		builtin declare -f "$__confd_x" >&9
		[[ $(builtin declare -pF "$__confd_x") != 'declare -f'*x* ]] || builtin printf 'builtin export -f %q\n' "$__confd_x" >&9
	done
	builtin printf '\0' >&9
}
builtin readonly -f __confd_job
`

// background is a command of a fragment that is started in the background.
type background struct {
	at   Origin
	text string // as it is written
}

// isJob reports what cannot be noted as a command with its words: functions are
// the names of those that there are.
func (o *Options) isJob(s *syntax.Stmt, functions map[string]bool) bool {
	call, simple := s.Cmd.(*syntax.CallExpr)
	if !simple || len(call.Args) == 0 || s.Negated {
		return true
	}
	if name := call.Args[0].Lit(); functions[name] && !slices.Contains(o.Note, name) {
		return true
	}
	noted := slices.ContainsFunc(call.Args, func(w *syntax.Word) bool { return slices.Contains(o.Note, w.Lit()) })
	if len(s.Redirs) > 0 && (!noted || slices.ContainsFunc(s.Redirs, matters)) {
		return true
	}
	job := false
	for _, w := range call.Args {
		syntax.Walk(w, func(n syntax.Node) bool {
			_, process := n.(*syntax.ProcSubst)
			job = job || process
			return true
		})
	}
	return job
}

// matters reports a redirection that does more than to silence a command.
func matters(r *syntax.Redirect) bool {
	switch r.Op {
	case syntax.RdrOut, syntax.AppOut, syntax.RdrAll, syntax.AppAll, syntax.ClbOut, syntax.RdrIn:
		return r.Word.Lit() != "/dev/null"
	case syntax.DplOut:
		return r.Word.Lit() != "1" && r.Word.Lit() != "2"
	}
	return true
}

// functionsOf are the names of the functions that fragments define.
func functionsOf(frags []fragment) map[string]bool {
	names := map[string]bool{}
	for _, f := range frags {
		if f.file == nil {
			continue
		}
		syntax.Walk(f.file, func(n syntax.Node) bool {
			if d, ok := n.(*syntax.FuncDecl); ok {
				names[d.Name.Value] = true
			}
			return true
		})
	}
	return names
}

// asWritten is the text of a statement in the background. The body of a
// here-document stands behind the statement, and is cut out of there.
func (f *fragment) asWritten(s *syntax.Stmt) (text string, cut []edit) {
	text = strings.TrimRight(string(f.data[s.Pos().Offset():s.Semicolon.Offset()]), " \t")
	syntax.Walk(s, func(n syntax.Node) bool {
		r, ok := n.(*syntax.Redirect)
		if !ok || r.Hdoc == nil || r.Hdoc.Pos().Offset() < s.Semicolon.Offset() {
			return true
		}
		from, to := int(r.Hdoc.Pos().Offset()), int(r.Hdoc.End().Offset())
		if end := strings.IndexByte(string(f.data[to:]), '\n'); end >= 0 { // behind the delimiter
			to += end + 1
		} else {
			to = len(f.data)
		}
		text += "\n" + strings.TrimSuffix(string(f.data[from:to]), "\n")
		cut = append(cut, edit{from, to, ""})
		return true
	})
	return text, cut
}

// job reads the report of a job.
func (c *collector) job(next func() string) {
	place, dir, umask, words, parameters, options := next(), next(), next(), next(), next(), next()
	i, err := strconv.Atoi(place)
	if err != nil || i < 0 || i >= len(c.places) {
		c.disturbed = true
		return
	}
	var state strings.Builder
	there := map[string]bool{}
	for name := next(); name != ""; name = next() {
		text, declaration := next(), next()
		there[name] = true
		if !c.private(name, text) {
			fmt.Fprintf(&state, "builtin unset -v %s\n%s", name, declaration)
		}
	}
	for name := range c.o.environ() {
		if !there[name] {
			fmt.Fprintf(&state, "builtin unset -v %s\n", name)
		}
	}
	// Options come last, or they would be for this too.
	fmt.Fprintf(&state, "%sbuiltin umask %s\n%sbuiltin set -- %s\n", next(), umask, options, parameters)
	at := c.places[i].at
	c.commands = append(c.commands, Command{
		Args:       jobArgs(at, cmp.Or(words, c.places[i].text), state.String()),
		Text:       c.places[i].text,
		Dir:        dir,
		Background: true,
		Origin:     at,
	})
}

// private reports a variable that a job's shell has of its own, or has from the
// caller as it is.
func (c *collector) private(name, text string) bool {
	switch name {
	case "IFS":
		return false
	case "_", "PWD", "SHLVL", "UID", "EUID", "PPID", "GROUPS", "DIRSTACK", "RANDOM", "SRANDOM", "EPOCHSECONDS", "EPOCHREALTIME",
		"SECONDS", "LINENO", "FUNCNAME", "PIPESTATUS", "SHELLOPTS", "HISTCMD":
		return true
	}
	_, found := c.o.environ()[name]
	base, known := c.baseline[name]
	return strings.HasPrefix(name, "BASH") || known && !found && base.text == text
}

// jobArgs run a job. It stands in the lines in which it was written, so that
// bash's own messages name them; what it leaves in the background belongs to it.
func jobArgs(at Origin, text, state string) []string {
	begin := strings.Repeat("\n", max(at.Line-1, 0))
	if begin == "" {
		begin = "; "
	}
	return []string{bashPath, "--norc", "--noprofile", "-c",
		`builtin eval "$1"` + begin + text + "\n__confd_status=$?; builtin wait; builtin exit $__confd_status", at.File, state}
}
