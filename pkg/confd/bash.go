// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"bytes"
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
)

// script sources its arguments, from the second on, and reports over
// descriptor 9 what came of each. The first argument is the nonce that closes
// the report. What is called here by the name of a builtin cannot be replaced
// by a function of a fragment.
const script = `
%s
__confd_vars() {
	builtin local __confd_n __confd_r __confd_c
	builtin printf 'V\0%%s\0' "$-" >&9
	builtin set +eu -f
	IFS=$'\n'
	for __confd_n in $(builtin compgen -v); do
		case $__confd_n in __confd_*) continue ;; esac
		__confd_r="${__confd_n}[@]"
		__confd_c=("${!__confd_r}")
		builtin printf '%%s\0%%s\0' "$__confd_n" "${#__confd_c[@]}" >&9
		[[ ${#__confd_c[@]} -eq 0 ]] || builtin printf '%%s\0' "${__confd_c[@]}" >&9
	done
	builtin printf '\0' >&9
}
__confd_nonce=$1; shift
__confd_i=0
( builtin trap - ERR; __confd_vars )
for __confd_file in "$@"; do
	builtin printf 'F\0%%s\0' "$__confd_i" >&9
	__confd_i=$((__confd_i + 1))
	builtin source "$__confd_file"
	( builtin trap - ERR; __confd_vars )
done
builtin printf 'D\0%%s\0' "$__confd_nonce" >&9
`

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
func (o *Options) bash(ctx context.Context, frags []fragment, why *notStatic) (map[string]Value, error) {
	if _, err := os.Stat(bashPath); err != nil {
		return nil, &EvalError{Origin: why.origin, Text: "needs " + bashPath + " (" + why.what + "), which is not here"}
	}
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	said := &tail{to: o.Stderr}
	report, runErr := o.runBash(ctx, frags, hex.EncodeToString(nonce), said)
	c := &collector{o: o, frags: frags, vars: map[string]Value{}, current: -1}
	c.read(report)
	if ctx.Err() != nil {
		return nil, &EvalError{Origin: c.where(), Text: "took too long: ended after " + o.Timeout.String()}
	}
	if c.err == nil && (runErr != nil || c.nonce != hex.EncodeToString(nonce)) {
		c.err = c.ended(runErr, said.text)
	}
	if c.err != nil {
		return nil, c.err
	}
	return c.vars, nil
}

// runBash returns what the script reported, however it ended.
func (o *Options) runBash(ctx context.Context, frags []fragment, nonce string, stderr io.Writer) ([]byte, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	const killDelay = time.Second
	args := []string{"--norc", "--noprofile", "-c", fmt.Sprintf(script, o.Shell.prologue()), "bash", nonce}
	for _, f := range frags {
		args = append(args, o.Root.Path(f.path))
	}
	cmd := exec.CommandContext(ctx, bashPath, args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:" + execx.SearchPath, "LC_ALL=C.UTF-8"}
	for name, text := range o.environ() {
		cmd.Env = append(cmd.Env, name+"="+text)
	}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	cmd.ExtraFiles = make([]*os.File, 7)
	cmd.ExtraFiles[6] = writer // descriptor 9
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
	baseline map[string]string
	vars     map[string]Value
	flags    string
	nonce    string
	err      error
	failed   *EvalError
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
			c.failed = &EvalError{Origin: Origin{c.o.Root.Logical(file), n}, Text: "a command failed with status " + status}
			if file == "" {
				c.failed.Origin = c.where()
			}
		case recVars:
			c.snapshot(next(), next)
		case recDone:
			c.nonce = next()
		}
	}
}

func (c *collector) snapshot(flags string, next func() string) {
	now := map[string][]string{}
	for {
		name := next()
		if name == "" {
			break
		}
		count, err := strconv.Atoi(next())
		if err != nil || count < 0 {
			return
		}
		var elements []string
		for range count {
			elements = append(elements, next())
		}
		now[name] = elements
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
func (c *collector) begin(now map[string][]string) {
	c.baseline = map[string]string{}
	env := c.o.environ()
	for name, elements := range now {
		c.baseline[name] = strings.Join(elements, "\x00")
		if text, ok := env[name]; ok {
			c.vars[name] = Value{Text: text, Parts: []Part{{Text: text}}}
		}
	}
}

func (c *collector) note(name string, elements []string) {
	old, known := c.vars[name]
	joined := strings.Join(elements, "\x00")
	base, inBaseline := c.baseline[name]
	if !known && (ofBash(name) || inBaseline && base == joined) {
		return
	}
	text := ""
	if len(elements) > 0 {
		text = elements[0]
	}
	if known && old.Text == text && slices.Equal(old.Array, arrayOf(elements)) {
		return
	}
	if why := c.o.RefuseVariable(name); why != "" {
		c.err = &EvalError{Origin: c.assigned(name), Text: "assigning " + name + " is refused: " + why}
		return
	}
	v := Value{Text: text, Array: arrayOf(elements)}
	if added, ok := strings.CutPrefix(text, old.Text); ok && known {
		v.Parts = append(slices.Clone(old.Parts), Part{added, c.assigned(name)})
	} else {
		v.Parts = []Part{{text, c.assigned(name)}}
	}
	c.vars[name] = v
}

func arrayOf(elements []string) []string {
	if len(elements) > 1 {
		return elements
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
// word counts. A file it accepts can be evaluated by it alone.
func (o *Options) confirmSyntaxError(ctx context.Context, path string, parseErr error) error {
	line := 0
	var pe syntax.ParseError
	if errors.As(parseErr, &pe) {
		line = int(pe.Pos.Line())
	}
	if _, err := os.Stat(bashPath); err != nil {
		return &SyntaxError{File: path, Line: line, ExitCode: 2, Text: parseErr.Error()}
	}
	var out bytes.Buffer
	host := o.Root.Path(path)
	err := execx.Cmd{Path: bashPath, Args: []string{"-n", host}, Stdout: &out, Stderr: &out}.Run(ctx)
	if err == nil {
		return nil
	}
	text := strings.ReplaceAll(strings.TrimRight(out.String(), "\n"), host, path)
	return &SyntaxError{File: path, Line: line, ExitCode: execx.Status(err), Text: text}
}
