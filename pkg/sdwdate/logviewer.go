// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

const logViewerUsage = `usage: sdwdate-log-viewer
Follows the journal of everything that sets the clock.
  --version  print the version
`

const journalViewer = "/bin/journalctl"

// logMatches select what belongs to the setting of the clock.
func logMatches() []string {
	var groups []string
	for _, unit := range []string{"qubes-sync-time.service", "qubes-sync-time.timer", "timesanitycheck.service", "bootclockrandomization.service",
		"sdwdate.service", "sdwdate-start-anondate-set-file-watcher.service", "whonix-firewall.service"} {
		groups = append(groups, "_SYSTEMD_UNIT="+unit)
	}
	for _, name := range []string{"suspend-pre", "suspend-post", "anondate"} {
		groups = append(groups, "SYSLOG_IDENTIFIER="+name)
	}
	groups = append(groups, "_AUDIT_TYPE_NAME=SECCOMP")
	return strings.Fields(strings.Join(groups, " + "))
}

// LogViewer is the program sdwdate-log-viewer.
func LogViewer(ctx context.Context, env cli.Env) error { return logViewerAt(fsx.Host)(ctx, env) }

func logViewerAt(root fsx.Root) func(context.Context, cli.Env) error {
	return func(ctx context.Context, env cli.Env) error {
		flags := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
		flags.Usage = func() {}
		if err := flags.Parse(env.Args[1:]); errors.Is(err, pflag.ErrHelp) {
			fmt.Fprint(env.Stdout, logViewerUsage)
			return nil
		} else if err != nil || flags.NArg() > 0 {
			return cli.Usagef("unexpected arguments")
		}
		args := append([]string{"--boot", "--output", "cat", "--no-pager", "-f", "-n", "10000"}, logMatches()...)
		fmt.Fprintf(env.Stderr, "+ %s %s\n", journalViewer, strings.Join(args, " "))
		err := execx.Cmd{Path: root.Path(journalViewer), Args: args, Env: execx.CleanEnv(env.Environ, "TERM"),
			Stdout: &harmlessWriter{to: env.Stdout}, Stderr: env.Stderr}.Run(ctx)
		var status *execx.StatusError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &status):
			return &cli.Exit{Code: status.Status}
		default:
			return &cli.Exit{Code: execx.Status(err), Err: err}
		}
	}
}

// harmlessWriter takes everything out of a text that a terminal might obey:
// journalctl prints messages as they came (D8).
type harmlessWriter struct {
	to     io.Writer
	second bool // the last byte began a two-byte character of UTF-8 that may be a control
}

// Write passes the text on; control bytes become `_`.
func (w *harmlessWriter) Write(p []byte) (int, error) {
	const c1 = 0xc2 // U+0080 to U+009F are 0xC2 and a byte below 0xA0
	clean := bytes.Clone(p)
	for i, c := range p {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f || w.second && c < 0xa0 {
			clean[i] = '_'
		}
		w.second = c == c1
	}
	if _, err := w.to.Write(clean); err != nil {
		return 0, err
	}
	return len(p), nil
}
