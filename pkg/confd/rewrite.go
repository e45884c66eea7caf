// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// noting is the part of the script that notes commands. Words of a rewritten
// command are expanded between the two functions, without file name patterns.
func (o *Options) noting() string {
	if len(o.Note) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(jobNoting)
	fmt.Fprintf(&b, "builtin readonly __confd_noted=' %s '\n", strings.Join(o.Note, " "))
	b.WriteString(`
__confd_plain() { __confd_glob=; [[ $- == *f* ]] || __confd_glob=1; builtin set -f; }
__confd_note() {
	[[ -z ${__confd_glob-} ]] || builtin set +f
	if [[ $1 != @* && $# -gt 1 ]]; then
		case $(builtin type -t -- "$2") in function | builtin | keyword)
			[[ $__confd_noted == *" $2 "* ]] || { builtin local __confd_words; __confd_words=("${@:2}"); __confd_job "$1"; builtin return; } ;;
		esac
	fi
	builtin printf 'N\0%s\0%s\0%s\0' "$1" "$PWD" "$(($# - 1))" >&9
	[[ $# -eq 1 ]] || builtin printf '%s\0' "${@:2}" >&9
	builtin local IFS=$'\n' __confd_x
	for __confd_x in $(builtin compgen -e); do
		builtin printf '%s\0%s\0' "$__confd_x" "${!__confd_x-}" >&9
	done
	builtin printf '\0' >&9
}
builtin readonly -f __confd_plain __confd_note
`)
	for _, name := range o.Plain {
		fmt.Fprintf(&b, "builtin export -n %s\n", name)
	}
	for _, name := range o.Note {
		fmt.Fprintf(&b, "%[1]s() { __confd_glob=; __confd_note \"@${BASH_LINENO[0]}\" %[1]s \"$@\"; }\n", name)
	}
	return b.String()
}

// firstExtra is the descriptor of the first file behind the report's.
const firstExtra = 10

// rewrite hands fragments over in which what is started in the background is
// noted instead.
func (o *Options) rewrite(frags []fragment) (places []background, extra []*os.File, err error) {
	if len(o.Note) == 0 {
		return nil, nil, nil
	}
	functions := functionsOf(frags)
	for i := range frags {
		f := &frags[i]
		if f.file == nil {
			return nil, extra, &EvalError{Origin: Origin{File: f.path}, Text: "cannot be read well enough to see what it starts: write it plainer"}
		}
		text, err := f.rewritten(&places, func(s *syntax.Stmt) bool { return o.isJob(s, functions) })
		if err != nil {
			return nil, extra, err
		}
		if text == nil {
			continue
		}
		file, err := fsx.Memory("fragment", text)
		if err != nil {
			return nil, extra, err
		}
		f.handed = fmt.Sprintf("/dev/fd/%d", firstExtra+len(extra))
		extra = append(extra, file)
	}
	return places, extra, nil
}

// edit replaces text[from:to].
type edit struct {
	from, to int
	text     string
}

// rewritten is the fragment's text with its background commands noted; nil if
// it has none. What a job has in the background is its own.
func (f *fragment) rewritten(places *[]background, isJob func(*syntax.Stmt) bool) ([]byte, error) {
	var edits []edit
	var bad error
	syntax.Walk(f.file, func(n syntax.Node) bool {
		if n, ok := n.(*syntax.CoprocClause); ok {
			bad = errors.Join(bad, &EvalError{Origin: Origin{f.path, int(n.Pos().Line())}, Text: "a coprocess cannot be had here: put it into a script of its own"})
			return false
		}
		s, ok := n.(*syntax.Stmt)
		if !ok || !s.Background {
			return true
		}
		at := Origin{f.path, int(s.Pos().Line())}
		begin, end, semicolon := int(s.Pos().Offset()), int(s.Semicolon.Offset()), int(s.Semicolon.Offset())+1
		text, cut := f.asWritten(s)
		place := fmt.Sprint(len(*places))
		*places = append(*places, background{at, text})
		if isJob(s) {
			edits = append(edits, edit{begin, semicolon, "__confd_job " + place + ` "$@";` + strings.Repeat("\n", strings.Count(string(f.data[begin:end]), "\n"))})
			edits = append(edits, cut...)
			return false
		}
		words := ""
		call := s.Cmd.(*syntax.CallExpr)
		if len(call.Assigns) > 0 {
			words = "env "
		}
		edits = append(edits, edit{begin, begin, "{ __confd_plain; __confd_note " + place + " " + words}, edit{end, semicolon, "; };"})
		for _, r := range s.Redirs { // they only silence it
			edits = append(edits, edit{int(r.Pos().Offset()), int(r.End().Offset()), ""})
		}
		return true
	})
	if bad != nil || len(edits) == 0 {
		return nil, bad
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return b.from - a.from })
	text := string(f.data)
	for _, e := range edits {
		text = text[:e.from] + e.text + text[e.to:]
	}
	return []byte(text), nil
}

// words reads a count and as many fields.
func (c *collector) words(next func() string) []string {
	const most = 1 << 20
	n, err := strconv.Atoi(next())
	if err != nil || n < 0 || n > most {
		c.disturbed = true
		return nil
	}
	out := make([]string, 0, min(n, 64))
	for range n {
		out = append(out, next())
	}
	return out
}

// exports reads names and values up to an empty name; what the shell has of its
// own, or as the caller has it, does not count.
func (c *collector) exports(next func() string) (out []string) {
	for name := next(); name != ""; name = next() {
		text := next()
		base, known := c.baseline[name]
		if known && base.text == text && !slices.Contains(c.o.Plain, name) || slices.Contains([]string{"_", "SHLVL", "PWD", "OLDPWD"}, name) {
			continue
		}
		out = append(out, name+"="+text)
	}
	return out
}

func (c *collector) command(place, dir string, words, exported []string) {
	n := Command{Args: words, Exported: exported, Origin: c.where()}
	if line, ok := strings.CutPrefix(place, "@"); ok {
		n.Origin.Line, _ = strconv.Atoi(line)
	} else if i, err := strconv.Atoi(place); err == nil && i >= 0 && i < len(c.places) {
		n.Origin, n.Dir, n.Background = c.places[i].at, dir, true
	}
	if len(words) > 0 {
		c.commands = append(c.commands, n)
	}
}

// logical is a path that bash was given as users know it.
func (c *collector) logical(path string) string {
	for _, f := range c.frags {
		if f.handed != "" && f.handed == path {
			return f.path
		}
	}
	return c.o.Root.Logical(path)
}

// exitError is how the shell ended, as execx has it.
func exitError(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &execx.StatusError{Path: bashPath, Status: exit.ExitCode()}
	}
	return err
}
