// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
)

const sanitizeUsage = `usage: sanitize-string [--newline] [--no-block] [--no-usage] [--] MAX [TEXT]
Makes text safe for terminals and logs: no markup, printable ASCII only, at most
MAX characters, or nolimit. Without TEXT it reads standard input.
  --newline   end with a newline
  --no-block  line by line, as they come
  --no-usage  accepted
  --version   print the version
`

// Limits of what is read at once.
const (
	sanitizeMax     = 16 << 20
	sanitizeLineMax = 64 << 10
)

// SanitizeString is the program sanitize-string.
func SanitizeString(_ context.Context, env cli.Env) error {
	flags := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
	flags.SetInterspersed(false)
	flags.Usage = func() {}
	newline := flags.Bool("newline", false, "")
	lines := flags.Bool("no-block", false, "")
	flags.Bool("no-usage", false, "")
	switch err := flags.Parse(env.Args[1:]); {
	case errors.Is(err, pflag.ErrHelp):
		_, err := io.WriteString(env.Stdout, sanitizeUsage)
		return err
	case err != nil:
		return &cli.Exit{Code: cli.CodeFailed, Err: err}
	}
	args := flags.Args()
	if len(args) < 1 || len(args) > 2 || len(args) == 2 && *lines {
		return &cli.Exit{Code: cli.CodeFailed, Err: cli.WithHint(fmt.Errorf("%d arguments", len(args)), "sanitize-string --help")}
	}
	left := -1 // no limit
	if args[0] != "nolimit" {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 0 {
			return &cli.Exit{Code: cli.CodeFailed, Err: fmt.Errorf("%q is neither a number of characters nor nolimit", short(args[0]))}
		}
		left = n
	}
	out := &limited{out: env.Stdout, left: left}
	var err error
	switch {
	case len(args) == 2:
		err = out.write(args[1])
	case *lines:
		err = out.lines(env.Stdin)
	default:
		err = out.all(env.Stdin)
	}
	if err == nil && *newline {
		_, err = fmt.Fprintln(env.Stdout)
	}
	return err
}

// limited writes sanitised text until nothing is left of the limit.
type limited struct {
	out  io.Writer
	left int // negative: no limit
}

func (l *limited) write(text string) error {
	text = sanitise(text)
	if l.left >= 0 {
		text = text[:min(len(text), l.left)]
		l.left -= len(text)
	}
	_, err := io.WriteString(l.out, text)
	return err
}

// all reads everything first: markup may go over several lines.
func (l *limited) all(in io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(in, sanitizeMax+1))
	if err == nil && len(data) > sanitizeMax {
		err = fmt.Errorf("more than %d bytes: use --no-block", sanitizeMax)
	}
	if err != nil {
		return err
	}
	return l.write(string(data))
}

// lines writes each line when it comes; a long one in parts.
func (l *limited) lines(in io.Reader) error {
	r := bufio.NewReaderSize(in, sanitizeLineMax)
	for l.left != 0 {
		part, err := r.ReadSlice('\n')
		if len(part) > 0 {
			if err := l.write(string(part)); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
	return nil
}
