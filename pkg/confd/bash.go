// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mvdan.cc/sh/v3/syntax"

	"whonix-networking/pkg/execx"
)

// bashPath is the shell of the second tier.
const bashPath = "/bin/bash"

// Records that the script writes to its private descriptor, each followed by
// its NUL-terminated fields.
const (
	recFile  = "F" // index: a fragment begins
	recVars  = "V" // shell flags, count, then name and elements of each variable
	recError = "E" // file, line, status: a command failed
	recDone  = "D" // nonce: all fragments were sourced
	recNote  = "N" // index of the place, or @line, directory, count, words, what is exported: a noted command
	recJob   = "J" // index of the place, and the shell's state: see jobNoting
)

// script begins the shell's script: what fragments need not know is read-only,
// and there are no positional parameters. What is called here by the name of a
// builtin cannot be replaced by a function of a fragment.
//
// Of each variable it reports whether it is set (as a plain $NAME sees it: for
// an array, whether there is an element 0), that text, and all elements.
const script = `
readonly -a __confd_f=("$@")
builtin set --
__confd_file() { builtin printf 'F\0%%s\0' "$1" >&9; }
__confd_vars() {
	builtin trap - ERR
	builtin local __confd_n __confd_r __confd_c __confd_t
	builtin printf 'V\0%%s\0' "$-" >&9
	builtin set +eu -f
	IFS=$'\n'
	for __confd_n in $(builtin compgen -v); do
		case $__confd_n in __confd_*) continue ;; esac
		__confd_r="${__confd_n}[@]"
		__confd_c=("${!__confd_r}")
		__confd_t=${!__confd_n+set}
		builtin printf '%%s\0%%s\0%%s\0%%s\0' "$__confd_n" "$__confd_t" "${!__confd_n-}" "${#__confd_c[@]}" >&9
		[[ ${#__confd_c[@]} -eq 0 ]] || builtin printf '%%s\0' "${__confd_c[@]}" >&9
	done
	builtin printf '\0' >&9
}
builtin readonly -f __confd_file __confd_vars
%s( __confd_vars )
`

// scriptFor writes the whole script. The fragments are not sourced in a loop:
// a break of theirs would leave it. Nor in a function, which would make what
// they declare local to it. The nonce that closes the report stands in the
// text only.
func (o *Options) scriptFor(fragments int, nonce string) string {
	var b strings.Builder
	fmt.Fprintf(&b, script, o.Shell.prologue()+o.noting())
	for i := range fragments {
		if o.FileVariable != "" {
			fmt.Fprintf(&b, "%s=\"${__confd_f[%d]}\"\n", o.FileVariable, i)
		}
		fmt.Fprintf(&b, "__confd_file %[1]d\nbuiltin source \"${__confd_f[%[1]d]}\"\n( __confd_vars )\n", i)
	}
	fmt.Fprintf(&b, "builtin printf 'D\\0%%s\\0' %s >&9\n", nonce)
	return b.String()
}

// prologue sets the caller's shell options and reports failing commands.
func (s Shell) prologue() string {
	var b strings.Builder
	b.WriteString(`builtin trap 'builtin printf "E\0%s\0%s\0%s\0" "${BASH_SOURCE[0]-}" "$LINENO" "$?" >&9' ERR` + "\n")
	for name, on := range map[string]bool{"errexit": s.Errexit, "nounset": s.Nounset, "pipefail": s.Pipefail, "errtrace": s.Errtrace} {
		if on {
			b.WriteString("builtin set -o " + name + "\n")
		}
	}
	if s.Nullglob {
		b.WriteString("builtin shopt -s nullglob\n")
	}
	return b.String()
}

// bash evaluates the fragments by one bash process.
func (o *Options) bash(ctx context.Context, frags []fragment, why *notStatic) (*Result, error) {
	if _, err := os.Stat(bashPath); err != nil {
		return nil, &EvalError{Origin: why.origin, Text: "needs " + bashPath + " (" + why.what + "), which is not here"}
	}
	// As before each `source` of old: nothing before a fragment that bash does
	// not read is lost, nothing behind it runs.
	frags, broken := o.readable(ctx, frags)
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	places, extra, err := o.rewrite(frags)
	for _, f := range extra {
		defer f.Close()
	}
	if err != nil {
		return nil, err
	}
	said := &tail{to: o.Stderr}
	report, runErr := o.runBash(ctx, frags, extra, hex.EncodeToString(nonce), said)
	c := &collector{o: o, frags: frags, places: places, vars: map[string]Value{}, current: -1}
	c.read(report)
	if ctx.Err() != nil {
		return nil, &EvalError{Origin: c.where(), Text: "took too long: ended after " + o.Timeout.String()}
	}
	if c.err == nil && (runErr != nil || c.nonce != hex.EncodeToString(nonce)) {
		c.err = c.ended(runErr, said.text)
	}
	if c.err == nil && (c.disturbed || c.snapshots != len(frags)+1) {
		c.err = &EvalError{Origin: c.where(), Text: "interferes with the report of variables on descriptor 9, which is not for fragments"}
	}
	if c.err != nil {
		return nil, c.err
	}
	if broken != nil {
		return nil, broken
	}
	return &Result{Vars: c.vars, Commands: c.commands}, nil
}

// readable are the fragments before the first that bash does not read. Those
// that could not be parsed here were asked about when they were loaded.
func (o *Options) readable(ctx context.Context, frags []fragment) (good []fragment, broken error) {
	for i, f := range frags {
		if f.file == nil {
			continue
		}
		if err := o.confirmSyntaxError(ctx, f.path, nil); err != nil {
			return frags[:i], err
		}
	}
	return frags, nil
}

// runBash returns what the script reported, however it ended.
func (o *Options) runBash(ctx context.Context, frags []fragment, extra []*os.File, nonce string, stderr io.Writer) ([]byte, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	const killDelay = time.Second
	args := []string{"--norc", "--noprofile", "-c", o.scriptFor(len(frags), nonce), "bash"}
	for _, f := range frags {
		args = append(args, cmp.Or(f.handed, o.Root.Path(f.path)))
	}
	cmd := exec.CommandContext(ctx, bashPath, args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:" + execx.SearchPath, "LC_ALL=C.UTF-8"}
	for name, text := range o.environ() {
		cmd.Env = append(cmd.Env, name+"="+text)
	}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	if len(o.Note) > 0 {
		cmd.Stdout = o.Output
	}
	cmd.ExtraFiles = make([]*os.File, 7)
	cmd.ExtraFiles[6] = writer // descriptor 9
	cmd.ExtraFiles = append(cmd.ExtraFiles, extra...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killDelay
	if err := cmd.Start(); err != nil {
		writer.Close()
		return nil, err
	}
	writer.Close()
	done := make(chan []byte, 1)
	go func() {
		const reportMax = 256 << 20
		data, _ := io.ReadAll(io.LimitReader(reader, reportMax))
		done <- data
	}()
	err = cmd.Wait()
	// Whatever a fragment left running must not hold the report open.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = reader.SetReadDeadline(time.Now().Add(killDelay))
	return <-done, err
}

// collector turns the report into values.
type collector struct {
	o        *Options
	frags    []fragment
	current  int // index of the fragment being sourced, -1 before the first
	baseline map[string]reported
	vars     map[string]Value
	flags    string
	nonce    string

	places   []background // that were rewritten
	commands []Command

	snapshots int
	disturbed bool // the report is not what the script wrote
	err       error
	failed    *EvalError
}

func (c *collector) read(report []byte) {
	fields := strings.Split(string(report), "\x00")
	next := func() string {
		if len(fields) == 0 {
			return ""
		}
		f := fields[0]
		fields = fields[1:]
		return f
	}
	for len(fields) > 0 && c.err == nil {
		switch next() {
		case recFile:
			c.current, _ = strconv.Atoi(next())
		case recError:
			file, line, status := next(), next(), next()
			n, _ := strconv.Atoi(line)
			code, _ := strconv.Atoi(status)
			c.failed = &EvalError{Origin: Origin{c.logical(file), n}, Text: "a command failed with status " + status, Status: code}
			if file == "" || file == "bash" { // the file as a whole
				c.failed.Origin = c.last()
			}
		case recVars:
			c.snapshot(next(), next, func() int { return len(fields) })
		case recNote:
			place, dir, words := next(), next(), c.words(next)
			c.command(place, dir, words, c.exports(next))
		case recJob:
			c.job(next)
		case recDone:
			c.nonce = next()
		case "": // behind the last NUL
			c.disturbed = c.disturbed || len(fields) > 0
		default:
			c.disturbed = true
		}
	}
}

// reported is a variable as the script reports it.
type reported struct {
	set      bool // $NAME is
	text     string
	elements []string
}

func (r reported) equal(s reported) bool {
	return r.set == s.set && r.text == s.text && slices.Equal(r.elements, s.elements)
}

// snapshot reads the fields of a recVars; left is how many there are.
func (c *collector) snapshot(flags string, next func() string, left func() int) {
	now := map[string]reported{}
	c.snapshots++
	for {
		name := next()
		if name == "" {
			break
		}
		r := reported{set: next() != "", text: next()}
		count, err := strconv.Atoi(next())
		if err != nil || count < 0 || count > left() {
			c.disturbed = true
			return
		}
		for range count {
			r.elements = append(r.elements, next())
		}
		now[name] = r
	}
	if c.baseline == nil {
		c.begin(now)
		c.flags = flags
		return
	}
	for _, f := range []struct {
		flag, name string
	}{{"e", "errexit"}, {"u", "nounset"}} {
		if strings.Contains(c.flags, f.flag) && !strings.Contains(flags, f.flag) {
			c.err = &EvalError{Origin: c.where(), Text: "switches the shell option " + f.name + " off, under which failures are noticed"}
			return
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		c.note(name, now[name])
	}
	for name := range c.vars {
		if _, ok := now[name]; !ok {
			delete(c.vars, name)
		}
	}
}

// begin takes what the shell had before the first fragment: of that only the
// environment that fragments are meant to see counts.
func (c *collector) begin(now map[string]reported) {
	c.baseline = now
	env := c.o.environ()
	for name := range now {
		if text, ok := env[name]; ok {
			c.vars[name] = Value{Text: text, Parts: []Part{{Text: text}}}
		}
	}
}

func (c *collector) note(name string, r reported) {
	old, known := c.vars[name]
	base, inBaseline := c.baseline[name]
	if !known && (ofBash(name) || inBaseline && base.equal(r)) {
		return
	}
	array := arrayOf(r)
	if known && old.Text == r.text && slices.Equal(old.Array, array) {
		return
	}
	if why := c.o.RefuseVariable(name); why != "" {
		c.err = &EvalError{Origin: c.assigned(name), Text: "assigning " + name + " is refused: " + why}
		return
	}
	v := Value{Text: r.text, Array: array, isArray: array != nil}
	if added, ok := strings.CutPrefix(r.text, old.Text); ok && known && array == nil {
		v.Parts = append(slices.Clone(old.Parts), Part{added, c.assigned(name)})
	} else {
		v.Parts = []Part{{r.text, c.assigned(name)}}
	}
	c.vars[name] = v
}

// arrayOf is nil for what is no array, or cannot be told from a plain variable:
// a single element 0.
func arrayOf(r reported) []string {
	if len(r.elements) > 1 || len(r.elements) == 1 && !r.set {
		return r.elements
	}
	return nil
}

// assigned is the last place in the current fragment that names the variable
// as one to assign.
func (c *collector) assigned(name string) Origin {
	at := c.where()
	if c.current < 0 || c.frags[c.current].file == nil {
		return at
	}
	syntax.Walk(c.frags[c.current].file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Assign:
			if n.Name != nil && n.Name.Value == name {
				at.Line = int(n.Pos().Line())
			}
		case *syntax.WordIter:
			if n.Name.Value == name {
				at.Line = int(n.Pos().Line())
			}
		}
		return true
	})
	return at
}

// last is where the current fragment's last command stands, whose status is
// that of the whole.
func (c *collector) last() Origin {
	at := c.where()
	if c.current >= 0 && c.current < len(c.frags) && c.frags[c.current].file != nil {
		if stmts := c.frags[c.current].file.Stmts; len(stmts) > 0 {
			at.Line = int(stmts[len(stmts)-1].Pos().Line())
		}
	}
	return at
}

func (c *collector) where() Origin {
	if c.current < 0 || c.current >= len(c.frags) {
		return Origin{}
	}
	return Origin{File: c.frags[c.current].path}
}

// ended explains an evaluation that did not reach its end; said is what the
// shell said last.
func (c *collector) ended(runErr error, said string) error {
	if c.failed != nil {
		return c.failed
	}
	at := c.where()
	if at.File == "" {
		return fmt.Errorf("%s gave no report: %w", bashPath, cmpError(runErr))
	}
	if unbound := c.unbound(said); unbound != nil {
		return unbound
	}
	if len(c.o.Note) > 0 {
		return &ExitError{Origin: at, Status: execx.Status(exitError(runErr))}
	}
	text := "ended the shell before its end"
	if f := c.frags[c.current].file; f != nil {
		syntax.Walk(f, func(n syntax.Node) bool {
			if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 && at.Line == 0 {
				if name := call.Args[0].Lit(); name == "exit" || name == "exec" {
					at.Line = int(call.Pos().Line())
					text = name + " is not allowed: to end the file early write return 0"
				}
			}
			return true
		})
	}
	return &EvalError{Origin: at, Text: text}
}

// unbound finds the shell's message about an unset variable, which ends it
// without any further report.
func (c *collector) unbound(said string) *EvalError {
	const end = ": unbound variable"
	for line := range strings.Lines(said) {
		line = strings.TrimSuffix(line, "\n")
		file, rest, ok := strings.Cut(line, ": line ")
		number, what, ok2 := strings.Cut(rest, ": ")
		n, err := strconv.Atoi(number)
		if ok && ok2 && err == nil && strings.HasSuffix(line, end) {
			return &EvalError{Origin: Origin{c.o.Root.Logical(file), n}, Text: what, Quiet: true}
		}
	}
	return nil
}

// tail passes text on and keeps the end of it.
type tail struct {
	to   io.Writer
	text string
}

func (t *tail) Write(p []byte) (int, error) {
	const keep = 4096
	t.text += string(p)
	t.text = t.text[max(0, len(t.text)-keep):]
	return t.to.Write(p)
}

func cmpError(err error) error {
	if err == nil {
		return errors.New("no report")
	}
	return err
}

// confirmSyntaxError asks bash about a file that could not be parsed here: its
// word counts. A file it accepts can be evaluated by it alone. parseErr is nil
// if no parser but bash's has seen the file.
func (o *Options) confirmSyntaxError(ctx context.Context, path string, parseErr error) error {
	line := 0
	var pe syntax.ParseError
	if errors.As(parseErr, &pe) {
		line = int(pe.Pos.Line())
	}
	if _, err := os.Stat(bashPath); err != nil {
		if parseErr == nil {
			return nil
		}
		return &SyntaxError{File: path, Line: line, ExitCode: 2, Text: parseErr.Error()}
	}
	var out bytes.Buffer
	host := o.Root.Path(path)
	err := execx.Cmd{Path: bashPath, Args: []string{"-n", host}, Stdout: &out, Stderr: &out}.Run(ctx)
	if err == nil {
		return nil
	}
	text := strings.ReplaceAll(strings.TrimRight(out.String(), "\n"), host, path)
	if line == 0 {
		_, rest, _ := strings.Cut(text, path+": line ")
		number, _, _ := strings.Cut(rest, ":")
		line, _ = strconv.Atoi(number)
	}
	return &SyntaxError{File: path, Line: line, ExitCode: execx.Status(err), Text: text}
}
