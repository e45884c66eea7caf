// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// background is a simple command that is started in the background, where such
// are noted.
func (m *machine) background(s *syntax.Stmt) (*syntax.CallExpr, bool) {
	call, simple := s.Cmd.(*syntax.CallExpr)
	if len(m.o.Note) == 0 || !s.Background || !simple || len(call.Args) == 0 || s.Negated || len(s.Redirs) > 0 {
		return nil, false
	}
	return call, true
}

// noted reports a command that is noted by its name: the first word, or the
// first behind words that expand to nothing.
func (m *machine) noted(c *syntax.CallExpr) bool {
	for _, w := range c.Args {
		if slices.Contains(m.o.Note, w.Lit()) {
			return true
		}
		p, ok := w.Parts[0].(*syntax.ParamExp)
		if !ok || len(w.Parts) > 1 || p.Param == nil || m.vars[p.Param.Value].Text != "" {
			return false
		}
	}
	return false
}

// note keeps a command instead of running it.
func (m *machine) note(c *syntax.CallExpr, background bool) int {
	n := Command{Background: background, Origin: m.origin(c)}
	for _, a := range c.Assigns {
		if a.Naked || a.Index != nil || a.Array != nil || a.Append {
			m.giveUp(a, "an odd variable before a command")
		}
		text := ""
		if a.Value != nil {
			text = m.value(a.Value)
		}
		n.Environ = append(n.Environ, a.Name.Value+"="+text)
	}
	m.noGlob = slices.ContainsFunc(c.Args, func(w *syntax.Word) bool { return slices.Contains(m.o.Note, w.Lit()) })
	defer func() { m.noGlob = false }()
	for _, w := range c.Args {
		n.Args = append(n.Args, m.fields(w)...)
	}
	if len(n.Args) > 0 {
		if _, ours := m.funcs[n.Args[0]]; ours || background && ofShell(n.Args[0]) {
			m.giveUp(c, "a function in the background, or what only a shell has")
		}
		n.Exported = m.exports()
		m.commands = append(m.commands, n)
	}
	return 0
}

// ofShell reports a builtin of bash that is no program as well.
func ofShell(name string) bool {
	return slices.Contains(strings.Fields(`. : alias bg bind break builtin caller cd command compgen complete compopt continue declare dirs
		disown enable eval exec exit export fc fg getopts hash help history jobs let local logout mapfile popd pushd read readarray
		readonly return set shift shopt source suspend times trap type typeset ulimit umask unalias unset wait`), name)
}

// exports are the exported variables that are not as the caller has them.
func (m *machine) exports() (out []string) {
	env := m.o.environ()
	for name, is := range m.exported {
		v, isSet := m.vars[name]
		if text, same := env[name]; is && isSet && (!same || text != v.Text || slices.Contains(m.o.Plain, name)) {
			out = append(out, name+"="+v.Text)
		}
	}
	return out
}

// exit ends everything, where that is allowed.
func (m *machine) exit(c *syntax.CallExpr) {
	if len(m.o.Note) == 0 {
		m.fail(c, "exit is not allowed: to end the file early write return 0")
	}
	args := m.args(c)
	if len(args) != 1 {
		m.giveUp(c, "an exit without one status")
	}
	status, err := strconv.ParseUint(args[0], 10, 8)
	if err != nil {
		m.giveUp(c, "an exit with an odd status")
	}
	panic(&ExitError{m.origin(c), int(status)})
}

// print is echo without options, and printf of plain words.
func (m *machine) print(c *syntax.CallExpr, name string) int {
	args := m.args(c)
	if strings.Contains(strings.Join(args, ""), `\\`) && name == "echo" {
		m.giveUp(c, "an echo with backslashes")
	}
	switch {
	case name == "echo" && (len(args) == 0 || !strings.HasPrefix(args[0], "-")):
		m.printed.WriteString(strings.Join(args, " ") + "\n")
	case name == "printf" && len(args) > 1 && args[0] == `%s\n`:
		for _, a := range args[1:] {
			m.printed.WriteString(a + "\n")
		}
	default:
		m.giveUp(c, "a formatted "+name)
	}
	m.grow(c, m.printed.Len())
	return 0
}

// export is `export NAME` and `export NAME=VALUE`, where commands are noted.
func (m *machine) export(c *syntax.DeclClause) int {
	if c.Variant.Value != "export" || len(m.o.Note) == 0 {
		m.giveUp(c, "a declaration")
	}
	for _, a := range c.Args {
		if a.Name == nil || a.Index != nil || a.Array != nil {
			m.giveUp(c, "an export with options")
		}
		if !a.Naked {
			m.assignment(a)
		}
		m.exported[a.Name.Value] = true
	}
	return 0
}
