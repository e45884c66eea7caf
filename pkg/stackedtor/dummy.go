// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/torrc"
)

// dummyName is what the program is called in this tree; installed, it is
// called tor.
const dummyName = "dummy-tor"

const dummyHelp = `usage: dummy-tor [TOR-OPTION]...
Stands where programs look for Tor. All that it opens leads to the Gateway's
Tor; it never is one. See dummy-tor(8).
`

// dummy is a run of the program.
type dummy struct {
	env    cli.Env
	root   fsx.Root // for what is the system's; what users name is where they say
	args   *torrc.Args
	config *torrc.Config
	log    *journal

	listeners []*listener
	engine    *relay.Engine // relays what they accept
	sockets   []string      // ControlSockets that are in place
	undo      []func()
	fromStdin []byte
	detach    func() // ends the caller's wait for a daemon; nil without one
}

// DummyTor is the program that is installed as tor.
func DummyTor(ctx context.Context, env cli.Env) error {
	if env.Name() == dummyName && len(env.Args) == 2 {
		switch env.Args[1] {
		case "--help":
			fmt.Fprint(env.Stdout, dummyHelp)
			return nil
		case "--version":
			fmt.Fprintf(env.Stdout, "%s (whonix-networking) %s\n", dummyName, cli.Version)
			return nil
		}
	}
	return (&dummy{env: env, root: fsx.Host}).run(ctx)
}

// complain is an error in Tor's own words.
func complain(format string, args ...any) error { return complaint(fmt.Sprintf(format, args...)) }

// failed ends the program with Tor's words for it.
func (d *dummy) failed(words ...error) error {
	for _, w := range words {
		d.log.say(torrc.Warn, "%v", w)
	}
	d.log.say(torrc.Err, "Reading config failed--see warnings above.")
	d.log.close()
	return &cli.Exit{Code: cli.CodeFailed}
}

func (d *dummy) run(ctx context.Context) error {
	args, err := torrc.ParseArgs(d.env.Args[min(1, len(d.env.Args)):])
	d.args = args
	d.log = newJournal(d.env)
	d.log.byDefault(args.Quiet)
	if err != nil {
		return d.failed(err)
	}
	if args.Command != nil {
		err := d.command()
		d.log.close()
		return err
	}
	called()
	// Nothing that runs from here on can become more than its user. It would be
	// the same without where that cannot be had (ENOTSUP, with cgo).
	_, _, _ = syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if d.systemCall() {
		return d.idle(ctx)
	}
	return d.emulate(ctx)
}

// called has the process list show tor, by whatever path the program runs.
func called() {
	_ = os.WriteFile("/proc/self/comm", []byte("tor"), 0) // for people and pgrep(1) only
}

// systemCall reports whether the system starts its Tor, or nothing is asked for
// (B.4 rule 4): nothing is to be touched then.
func (d *dummy) systemCall() bool {
	const (
		debianDefaults  = "/usr/share/tor/tor-service-defaults-torrc"
		debianTorrc     = "/etc/tor/torrc"
		instanceDefault = "/run/tor-instances/"
		instanceTorrc   = "/etc/tor/instances/"
	)
	defaults, file := absolute(d.args.Defaults), absolute(d.args.Torrc)
	switch {
	case defaults == debianDefaults, strings.HasPrefix(defaults, instanceDefault), file == debianTorrc, strings.HasPrefix(file, instanceTorrc):
		return true
	case d.args.Torrc != "":
		return false
	}
	listens := torrc.Merge(d.args.Config)
	return !slices.ContainsFunc(listenerKinds(), func(k kind) bool { return len(listens.All(k.key)) > 0 })
}

// absolute is a path as seen from the working directory.
func absolute(path string) string {
	if path == "" || path == fromStdin {
		return path
	}
	a, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return a
}

// fromStdin is the name of the configuration that comes on standard input.
const fromStdin = "-"

// configFiles reads configuration from the disk.
type configFiles struct{ *dummy }

const configMax = 1 << 20

// Read takes files, and pipes such as those of a shell's <( ).
func (c configFiles) Read(path string) ([]byte, error) {
	from := c.env.Stdin
	if path == fromStdin && c.fromStdin != nil {
		return c.fromStdin, nil // it can be read once
	}
	if path != fromStdin {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if t := fi.Mode().Type(); t != 0 && t != fs.ModeNamedPipe {
			return nil, errors.New("is no file")
		}
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, configMax+1))
	if err == nil && len(data) > configMax {
		err = fsx.ErrTooLarge
	}
	if path == fromStdin && err == nil {
		c.fromStdin = data
	}
	return data, err
}

// Match lists what matches a pattern.
func (c configFiles) Match(pattern string) ([]string, error) { return filepath.Glob(pattern) }

// Dir lists the files of a directory.
func (c configFiles) Dir(path string) ([]string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, fs.ErrInvalid
	}
	entries, err := os.ReadDir(path)
	var out []string
	for _, e := range entries {
		p := filepath.Join(path, e.Name())
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() {
			out = append(out, p)
		}
	}
	return out, err
}

// sources reads the configuration: the defaults, the file, the command line.
func (d *dummy) sources() ([][]torrc.Line, error) {
	files := configFiles{d}
	var defaults, file []torrc.Line
	var err error
	if d.args.Defaults != "" {
		defaults, err = torrc.Load(files, d.args.Defaults)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if d.args.Torrc != "" {
		file, err = torrc.Load(files, d.args.Torrc)
		var syntax *torrc.SyntaxError
		missing := err != nil && !errors.As(err, &syntax)
		switch {
		case missing && (d.args.NeverMind || d.args.AllowMissing && len(defaults) > 0):
			d.log.say(torrc.Notice, "Configuration file \"%s\" not present, using reasonable defaults.", d.args.Torrc)
		case missing:
			return nil, complain("Unable to open configuration file \"%s\": %v", d.args.Torrc, unwrapped(err))
		case err != nil:
			return nil, err
		}
	}
	return [][]torrc.Line{defaults, file, d.args.Config}, nil
}

// unwrapped is an error without the path that it was about.
func unwrapped(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
