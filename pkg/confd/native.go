// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"mvdan.cc/sh/v3/syntax"
)

// notStatic says that a construct is outside the static subset.
type notStatic struct {
	origin Origin
	what   string
}

func (e *notStatic) Error() string { return e.origin.String() + ": " + e.what }

// stepsMax bounds the statements evaluated here: nobody's configuration comes
// near, and an endless loop must end.
const stepsMax = 1_000_000

// machine evaluates statements. Control flow that leaves the normal course is
// a panic with one of the types below, caught in native.
type machine struct {
	o     *Options
	ctx   context.Context
	file  string
	vars  map[string]Value
	funcs map[string]function
	depth int // of function calls

	commands []Command
	exported map[string]bool
	printed  bytes.Buffer // shown when all went well here
	noGlob   bool         // words of a noted command are no patterns

	steps int
	grown int // bytes and elements that expansions made

	// substituted is the status of the last command substitution: that of a
	// command without a name, which only assigns.
	substituted int
}

// function is a shell function and the fragment that defined it.
type function struct {
	body *syntax.Stmt
	file string
}

// leave ends a function or a fragment: `return`.
type leave struct{ status int }

// native evaluates the fragments here. A *notStatic error says that bash is
// needed; nothing has happened then.
func (o *Options) native(ctx context.Context, frags []fragment) (*Result, error) {
	m := &machine{o: o, ctx: ctx, vars: map[string]Value{}, funcs: map[string]function{}, exported: map[string]bool{}}
	for name, text := range o.environ() {
		m.vars[name] = Value{Text: text, Parts: []Part{{Text: text}}}
		m.exported[name] = !slices.Contains(o.Plain, name)
	}
	for _, f := range frags {
		if err := m.source(f); err != nil {
			var beyond *notStatic
			if !errors.As(err, &beyond) {
				m.show()
			}
			return nil, err
		}
	}
	m.show()
	return &Result{Vars: m.vars, Commands: m.commands}, nil
}

// show prints what fragments printed. Until it is sure that bash is not needed
// nothing is shown, or it would be twice.
func (m *machine) show() { _, _ = m.printed.WriteTo(m.o.Output) }

func (m *machine) source(f fragment) (err error) {
	if f.file == nil {
		return &notStatic{Origin{File: f.path}, "the file can be read by bash only"}
	}
	if f.doubt.what != "" {
		return &f.doubt
	}
	m.file = f.path
	if name := m.o.FileVariable; name != "" {
		m.vars[name] = Value{Text: f.path, Parts: []Part{{f.path, Origin{File: f.path}}}}
	}
	status, err := m.fragment(f.file)
	if err == nil && status != 0 && m.o.Shell.Errexit {
		return &EvalError{Origin: m.lastLine(f.file), Text: fmt.Sprintf("the file ends with status %d: its last command, or its return, says that it failed", status), Status: status}
	}
	return err
}

// fragment runs the statements of one file to its end or its return.
func (m *machine) fragment(file *syntax.File) (status int, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case leave:
			status = p.status
		case *notStatic:
			err = p
		case *EvalError:
			err = p
		case *ExitError:
			err = p
		default:
			panic(p)
		}
	}()
	return m.stmts(file.Stmts, m.o.Shell.Errexit, 0), nil
}

func (m *machine) lastLine(file *syntax.File) Origin {
	if n := len(file.Stmts); n > 0 {
		return Origin{m.file, int(file.Stmts[n-1].Pos().Line())}
	}
	return Origin{File: m.file}
}

func (m *machine) origin(n syntax.Node) Origin { return Origin{m.file, int(n.Pos().Line())} }

func (m *machine) giveUp(n syntax.Node, what string) { panic(&notStatic{m.origin(n), what}) }

func (m *machine) fail(n syntax.Node, format string, args ...any) {
	panic(&EvalError{Origin: m.origin(n), Text: fmt.Sprintf(format, args...)})
}

// stmts runs statements in order; errexit says whether a failing one ends
// everything. status is what an empty list yields.
func (m *machine) stmts(list []*syntax.Stmt, errexit bool, status int) int {
	for _, s := range list {
		status = m.stmt(s, errexit)
	}
	return status
}

func (m *machine) stmt(s *syntax.Stmt, errexit bool) int {
	m.steps++
	if m.steps > stepsMax {
		m.fail(s, "more than %d commands: an endless loop?", stepsMax)
	}
	const ticks = 1024
	if m.steps%ticks == 0 && m.ctx.Err() != nil {
		m.fail(s, "took too long: ended after %s", m.o.Timeout)
	}
	if call, ok := m.background(s); ok {
		return m.note(call, true)
	}
	if s.Background || s.Coprocess || len(s.Redirs) > 0 {
		m.giveUp(s, "a redirection or a background command")
	}
	status := m.command(s.Cmd, errexit && !s.Negated)
	if s.Negated {
		return toStatus(status != 0)
	}
	return status
}

func (m *machine) command(c syntax.Command, errexit bool) int {
	switch c := c.(type) {
	case *syntax.CallExpr:
		status := m.simple(c, errexit)
		if status != 0 && errexit {
			panic(&EvalError{Origin: m.origin(c), Text: fmt.Sprintf("the command failed with status %d", status), Status: status})
		}
		return status
	case *syntax.TestClause:
		status := toStatus(m.testExpr(c.X))
		if status != 0 && errexit {
			m.fail(c, "the condition is false, which counts as a failed command")
		}
		return status
	case *syntax.BinaryCmd:
		return m.list(c, errexit)
	case *syntax.IfClause:
		return m.ifClause(c, errexit)
	case *syntax.ForClause:
		return m.forClause(c, errexit)
	case *syntax.CaseClause:
		return m.caseClause(c, errexit)
	case *syntax.Block:
		return m.stmts(c.Stmts, errexit, 0)
	case *syntax.FuncDecl:
		return m.define(c)
	case *syntax.DeclClause:
		return m.export(c)
	}
	m.giveUp(c, fmt.Sprintf("a construct of the kind %T", c)[len("a construct of the kind *syntax."):])
	return 0
}

// list is `A && B` or `A || B`: a failing A never ends the shell.
func (m *machine) list(c *syntax.BinaryCmd, errexit bool) int {
	if c.Op != syntax.AndStmt && c.Op != syntax.OrStmt {
		m.giveUp(c, "a pipeline")
	}
	status := m.stmt(c.X, false)
	if (status == 0) == (c.Op == syntax.AndStmt) {
		return m.stmt(c.Y, errexit)
	}
	return status
}

func (m *machine) ifClause(c *syntax.IfClause, errexit bool) int {
	for c != nil {
		if len(c.Cond) == 0 { // else
			return m.stmts(c.Then, errexit, 0)
		}
		if m.stmts(c.Cond, false, 0) == 0 {
			return m.stmts(c.Then, errexit, 0)
		}
		c = c.Else
	}
	return 0
}

func (m *machine) forClause(c *syntax.ForClause, errexit bool) int {
	iter, ok := c.Loop.(*syntax.WordIter)
	if !ok || c.Select || !iter.InPos.IsValid() || len(c.Do) == 0 || !syntax.ValidName(iter.Name.Value) {
		m.giveUp(c, "a loop other than over words")
	}
	var items []string
	for _, w := range iter.Items {
		items = append(items, m.fields(w)...)
	}
	status := 0
	for _, item := range items {
		m.assign(iter, iter.Name.Value, item, false)
		status = m.stmts(c.Do, errexit, 0)
	}
	return status
}

func (m *machine) caseClause(c *syntax.CaseClause, errexit bool) int {
	word := m.value(c.Word)
	for _, item := range c.Items {
		if item.Op != syntax.Break {
			m.giveUp(item, "a case item that goes on")
		}
		for _, p := range item.Patterns {
			if anything(p) || m.pattern(p) == word {
				return m.stmts(item.Stmts, errexit, 0)
			}
		}
	}
	return 0
}

// anything reports whether a pattern is a bare `*`.
func anything(w *syntax.Word) bool { return w.Lit() == "*" }

// simple is an assignment or a command.
func (m *machine) simple(c *syntax.CallExpr, errexit bool) int {
	if len(c.Args) == 0 {
		m.substituted = 0
		for _, a := range c.Assigns {
			m.assignment(a)
		}
		return m.substituted
	}
	if m.noted(c) {
		return m.note(c, false)
	}
	if len(c.Assigns) > 0 {
		m.giveUp(c, "a variable set for one command")
	}
	name := c.Args[0].Lit()
	if f, ok := m.funcs[name]; ok {
		return m.call(c, f, errexit)
	}
	switch name {
	case ":", "true":
		m.args(c)
		return 0
	case "false":
		m.args(c)
		return 1
	case "[", "test":
		return m.testCommand(c, name)
	case "return":
		m.leave(c)
	case "exit":
		m.exit(c)
	case "echo", "printf":
		if len(m.o.Note) > 0 {
			return m.print(c, name)
		}
	}
	m.giveUp(c, "a command")
	return 0
}

// define keeps a function. One that takes the place of a command known here is
// left to bash, and so are odd names.
func (m *machine) define(c *syntax.FuncDecl) int {
	name := c.Name.Value
	switch name {
	case ":", "true", "false", "[", "test", "return", "exit", "id", "seq", "qubesdb-read", "echo", "printf", "export":
		m.giveUp(c, "a function in the place of a command")
	}
	if !syntax.ValidName(name) || len(c.Body.Redirs) > 0 {
		m.giveUp(c, "an odd function")
	}
	m.funcs[name] = function{c.Body, m.file}
	return 0
}

// call runs a function without arguments.
func (m *machine) call(c *syntax.CallExpr, f function, errexit bool) (status int) {
	const depthMax = 100
	if len(c.Args) > 1 || m.depth >= depthMax {
		m.giveUp(c, "a function with arguments, or one that calls itself")
	}
	file := m.file
	m.file = f.file
	m.depth++
	defer func() {
		m.file = file
		m.depth--
		switch p := recover().(type) {
		case nil:
		case leave:
			status = p.status
		default:
			panic(p)
		}
	}()
	return m.stmt(f.body, errexit)
}

// args expands a command's arguments, for the failures that may bring.
func (m *machine) args(c *syntax.CallExpr) []string {
	var out []string
	for _, w := range c.Args[1:] {
		out = append(out, m.fields(w)...)
	}
	return out
}

func (m *machine) leave(c *syntax.CallExpr) {
	args := m.args(c)
	if len(args) != 1 {
		m.giveUp(c, "a return without one status")
	}
	status, err := strconv.ParseUint(args[0], 10, 8)
	if err != nil {
		m.giveUp(c, "a return with an odd status")
	}
	panic(leave{int(status)})
}

func (m *machine) assignment(a *syntax.Assign) {
	if a.Naked || a.Index != nil {
		m.giveUp(a, "an element of an array")
	}
	if a.Array != nil {
		m.arrayAssignment(a)
		return
	}
	text := ""
	if a.Value != nil {
		text = m.value(a.Value)
	}
	m.assign(a, a.Name.Value, text, a.Append)
}

func (m *machine) assign(n syntax.Node, name, text string, add bool) {
	if ofBash(name) {
		m.giveUp(n, "a variable of bash's own ("+name+")")
	}
	part := Part{text, m.origin(n)}
	old, isSet := m.vars[name]
	if old.isArray {
		m.giveUp(n, "an array used as a plain variable")
	}
	if add && isSet {
		m.grow(n, len(old.Text)+len(text))
		// Parts have one owner, so that they may grow in place.
		m.vars[name] = Value{Text: old.Text + text, Parts: append(old.Parts, part)}
		return
	}
	m.vars[name] = Value{Text: text, Parts: []Part{part}}
}

// arrayAssignment is NAME=(...) or NAME+=(...) with plain elements.
func (m *machine) arrayAssignment(a *syntax.Assign) {
	name := a.Name.Value
	if ofBash(name) {
		m.giveUp(a, "a variable of bash's own ("+name+")")
	}
	old, isSet := m.vars[name]
	if a.Append && isSet && !old.isArray {
		m.giveUp(a, "a plain variable used as an array")
	}
	var elements []string
	if a.Append {
		elements = slices.Clone(old.Array)
	}
	for _, e := range a.Array.Elems {
		if e.Index != nil || e.Value == nil {
			m.giveUp(a, "an array with indices")
		}
		elements = append(elements, m.fields(e.Value)...)
	}
	v := Value{Array: elements, isArray: true}
	if len(elements) > 0 {
		v.Text = elements[0]
	}
	v.Parts = []Part{{v.Text, m.origin(a)}}
	m.vars[name] = v
}

// grownMax bounds what expansions make in all. Values that double in a loop are
// left to bash, a process of its own that ends without ours.
const grownMax = 64 << 20

func (m *machine) grow(n syntax.Node, by int) {
	m.grown += by
	if m.grown > grownMax {
		m.giveUp(n, "very long values")
	}
}

func toStatus(ok bool) int {
	if ok {
		return 0
	}
	return 1
}
