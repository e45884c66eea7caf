// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// torLog is where Tor writes after it has started (defect 18).
const torLog = "/run/tor/log"

const logHelp = `usage: %s
Shows what Tor has logged since this machine started, without what it says each
time. See anon-log(8).
`

// logReader is anon-log with its ways to the system.
type logReader struct {
	root    fsx.Root
	env     cli.Env
	journal func(ctx context.Context, unit string) (string, error)
}

// Log is the program anon-log.
func Log(ctx context.Context, env cli.Env) error {
	if done, err := plain(env, logHelp); done {
		return err
	}
	l := &logReader{root: fsx.Host, env: env}
	l.journal = l.readJournal
	return l.run(ctx)
}

// journalCommand is what shows a unit's log of this boot.
func journalCommand(unit string) []string {
	return []string{"journalctl", "--boot", "--no-pager", "--output", "cat", "-u", unit}
}

func (l *logReader) readJournal(ctx context.Context, unit string) (string, error) {
	const limit = time.Minute
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	argv := journalCommand(unit)
	path, err := execx.Find(l.root, argv[0])
	if err != nil {
		return "", err
	}
	var out, complaints bytes.Buffer
	err = execx.Cmd{Path: path, Args: argv[1:], Env: execx.CleanEnv(nil), Stdout: &out, Stderr: &complaints}.Run(ctx)
	if err == nil && out.Len() == 0 && complaints.Len() > 0 {
		err = errors.New(strings.TrimSpace(complaints.String()))
	}
	return strings.TrimPrefix(out.String(), "-- No entries --\n"), err
}

// run shows all sources. It fails only if Tor's log can be read in neither.
func (l *logReader) run(ctx context.Context) error {
	var failed []error
	for _, unit := range []string{"tor.service", "tor@default.service"} {
		text, err := l.journal(ctx, unit)
		l.show(unit+":", text)
		if err != nil {
			failed = append(failed, err)
		}
	}
	const logMax = 64 << 20
	data, err := l.root.ReadFile(torLog, logMax)
	if err == nil {
		l.show(torLog+":", string(data))
		return nil
	}
	if len(failed) == 0 && errors.Is(err, fs.ErrNotExist) {
		return nil // Tor has not written there yet
	}
	if len(failed) == 0 {
		l.env.Warnf("%v", err)
		return nil
	}
	return l.complain(err)
}

// complain says which source could not be read, and what to do.
func (l *logReader) complain(err error) error {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	fmt.Fprintf(l.env.Stderr, `ERROR: Running command:
%s
failed! This program needs to be run as root:
sudo %s
or this user '%s' needs to be a member of group 'systemd-journal'.
%s cannot be read either, for which the group 'debian-tor' is enough: %v
Exiting.
`, strings.Join(journalCommand("tor@default.service"), " "), l.env.Args[0], name, torLog, err)
	return &cli.Exit{Code: cli.CodeFailed}
}

// show prints a log under its heading, which is bold on a terminal.
func (l *logReader) show(title, text string) {
	if f, ok := l.env.Stdout.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			title = "\x1b[1m" + title + "\x1b[0m"
		}
	}
	fmt.Fprintln(l.env.Stdout, title)
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\r\n"); !noise(line) {
			fmt.Fprintln(l.env.Stdout, strings.Map(printable, line))
		}
	}
}

// noise is what Tor says at each start. Warnings about listeners that could not
// be opened are none.
func noise(line string) bool {
	for _, verb := range []string{"Opening", "Opened"} {
		for _, kind := range []string{"HTTP tunnel", "Socks", "DNS", "Transparent pf/netfilter"} {
			if strings.Contains(line, "[notice] "+verb+" "+kind+" listener") {
				return true
			}
		}
		// "Opening Control listener on PATH" and "Opened Control listener connection (ready) on PATH".
		if strings.Contains(line, "[notice] "+verb+" Control listener ") && strings.Contains(line, " on /run/tor/control") {
			return true
		}
	}
	for _, text := range []string{
		"New control connection opened.",
		"[notice] You configured a non-loopback address",
		"opening log file", "opening new log file",
		"[notice] Parsing GEOIP IPv4 file /usr/share/tor/geoip.", "[notice] Parsing GEOIP IPv6 file /usr/share/tor/geoip6.",
		"[notice] Read configuration file", "[notice] Including configuration file", "[notice] Processing configuration path",
		"Option 'DisableNetwork' used more than once", "[warn] Option 'ClientOnionAuthDir' used more than once",
	} {
		if strings.Contains(line, text) {
			return true
		}
	}
	return strings.Contains(line, "[warn] Socks version 71 not recognized.") && strings.Contains(line, "HTTPTunnelPort?)")
}
