// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/fsx"
)

const anondateUsage = `usage: anondate ACTION [--verified-only | --unverified-only | --prefer-verified]
       anondate-get
       anondate-set
       anondate-tester [--verified-only | --unverified-only | --prefer-verified]
What Tor knows of the time: anondate answers one question, anondate-get prints
the time that a slow clock may be set to, anondate-set sets it, forward only.
  --has-consensus                is there a consensus on the disk?
  --current-time-in-valid-range  is the clock within the consensus?
  --show-valid-after             when the consensus begins
  --show-valid-until             when it ends
  --show-middle-range            the middle of the two
  --tor-cert-lifetime-valid      has Tor refused no certificate for its time?
  --tor-cert-valid-after         when the last such certificate begins
  --user-permission              owner of the consensus
  --group-permission             its group
  --verbose                      accepted
  --version                      print the version
`

// Exit codes of the original.
const (
	codeAnondateUnreadable = 4
	codeAnondateOption     = 111
	codeAnondateAccount    = 112
)

// Where Tor keeps what it has downloaded.
const (
	torFolder           = "/var/lib/tor"
	verifiedConsensus   = torFolder + "/cached-microdesc-consensus"
	unverifiedConsensus = torFolder + "/unverified-microdesc-consensus"
	consensusMax        = 64 << 20
)

// anondate is one run of anondate, anondate-get or anondate-set.
type anondate struct {
	env     cli.Env
	root    fsx.Root
	euid    int
	clock   clock.Clock
	ask     func(context.Context) (window, error)
	journal func(line string)
}

// Anondate is the program anondate, also as anondate-get and anondate-set.
func Anondate(ctx context.Context, env cli.Env) error {
	a := &anondate{env: env, root: fsx.Host, euid: os.Geteuid(), clock: clock.System(), ask: hostControl(fsx.Host).window}
	a.journal = func(line string) { toJournal("anondate", line) }
	return a.run(ctx)
}

func (a *anondate) run(ctx context.Context) error {
	args := a.env.Args[1:]
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		_, err := fmt.Fprint(a.env.Stdout, anondateUsage)
		return err
	}
	if uid, _, ok := daemonAccount(a.root); a.euid != 0 && (!ok || a.euid != uid) {
		return &cli.Exit{Code: codeAnondateAccount, Err: errors.New("must run as root, or as sdwdate")}
	}
	name := a.env.Name()
	switch name {
	case "anondate-get", "anondate-set":
	case "anondate-tester":
		return a.test(ctx, args)
	default:
		return a.action(ctx, args)
	}
	if len(args) > 0 {
		return cli.WithHint(&cli.Exit{Code: codeAnondateOption, Err: fmt.Errorf("unexpected argument %q", short(args[0]))}, "%s --help", name)
	}
	if name == "anondate-set" {
		return a.set(ctx)
	}
	got, err := a.get(ctx, true)
	if err != nil {
		return err
	}
	for _, line := range got.lines {
		fmt.Fprintf(a.env.Stderr, "______ %s: %s\n", name, line)
	}
	if _, err := fmt.Fprintln(a.env.Stdout, got.Time.UTC().Format(time.DateTime)); err != nil {
		return err
	}
	return exitCode(got.code())
}

// exitCode is an error that says nothing but ends with the code, unless it is 0.
func exitCode(code int) error {
	if code == 0 {
		return nil
	}
	return &cli.Exit{Code: code}
}

// anondateAction is a question and what answers it, for one of the files.
type anondateAction struct {
	option string
	do     func(ctx context.Context, file string) error
}

func (a *anondate) actions() []anondateAction {
	return []anondateAction{
		{"--has-consensus", a.hasConsensus},
		{"--current-time-in-valid-range", a.inRange},
		{"--show-valid-after", a.showWindow(func(w window) time.Time { return w.After })},
		{"--show-valid-until", a.showWindow(func(w window) time.Time { return w.Until })},
		{"--show-middle-range", a.showWindow(window.middle)},
		{"--tor-cert-lifetime-valid", a.certificateValid},
		{"--tor-cert-valid-after", a.certificateBegin},
		{"--user-permission", a.owner(false)},
		{"--group-permission", a.owner(true)},
	}
}

// action answers the first question of the list that was asked.
func (a *anondate) action(ctx context.Context, args []string) error {
	actions := a.actions()
	which := verifiedConsensus
	for _, arg := range args {
		switch arg {
		case "--verbose", "--verified-only":
		case "--unverified-only":
			which = unverifiedConsensus
		case "--prefer-verified":
			if !a.root.Exists(verifiedConsensus) {
				which = unverifiedConsensus
			}
		default:
			if !slices.ContainsFunc(actions, func(x anondateAction) bool { return x.option == arg }) {
				return cli.WithHint(&cli.Exit{Code: codeAnondateOption, Err: fmt.Errorf("unknown option %q", short(arg))}, "anondate --help")
			}
		}
	}
	for _, x := range actions {
		if slices.Contains(args, x.option) {
			return x.do(ctx, which)
		}
	}
	return cli.WithHint(&cli.Exit{Code: cli.CodeFailed, Err: errors.New("no action")}, "anondate --help")
}

// test is anondate-tester: every question, for root only, with what came of it.
func (a *anondate) test(ctx context.Context, args []string) error {
	if a.euid != 0 {
		return &cli.Exit{Code: codeAnondateAccount, Err: errors.New("must run as root")}
	}
	for _, x := range a.actions() {
		var out bytes.Buffer
		one := *a
		one.env.Args, one.env.Stdout = append([]string{"anondate", x.option}, args...), &out
		err := one.action(ctx, one.env.Args[1:])
		if code := cli.Code(err); code == codeAnondateOption {
			return err
		}
		if _, err := fmt.Fprintf(a.env.Stdout, "cmd_item: %s\noutput: %s\nexit_code: %d\n----------\n",
			strings.Join(one.env.Args, " "), strings.TrimRight(out.String(), "\n"), cli.Code(err)); err != nil {
			return err
		}
		var exit *cli.Exit
		if err != nil && (!errors.As(err, &exit) || exit.Err != nil) {
			fmt.Fprintf(a.env.Stderr, "______ %s: %s\n", x.option, sanitise(err.Error()))
		}
	}
	return nil
}

func (a *anondate) hasConsensus(_ context.Context, file string) error {
	data, err := a.root.ReadFile(file, consensusMax)
	switch {
	case errors.Is(err, fs.ErrNotExist) && a.root.Exists(torFolder):
		return &cli.Exit{Code: cli.CodeFailed}
	case err != nil:
		return &cli.Exit{Code: codeAnondateUnreadable, Err: err}
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "valid-until ") {
			return nil
		}
	}
	return &cli.Exit{Code: cli.CodeFailed}
}

// inRange: in the last half hour of its three Tor should have another consensus
// already.
func (a *anondate) inRange(ctx context.Context, _ string) error {
	const usual, fresh = 3 * time.Hour, 150 * time.Minute
	w, err := a.ask(ctx)
	if err != nil {
		return err
	}
	if w.Until.Sub(w.After) != usual {
		return fmt.Errorf("the consensus is valid for %v instead of %v", w.Until.Sub(w.After), usual)
	}
	if now := a.clock.Now(); now.Before(w.After) || now.After(w.After.Add(fresh)) {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

func (a *anondate) showWindow(pick func(window) time.Time) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error {
		w, err := a.ask(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.env.Stdout, pick(w).UTC().Format(humanTime))
		return err
	}
}

func (a *anondate) certificateValid(ctx context.Context, _ string) error {
	if certificateOf(readTorLog(ctx, a.root)) != "" {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

func (a *anondate) certificateBegin(ctx context.Context, _ string) error {
	from := certificateOf(readTorLog(ctx, a.root))
	if from == "" {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	_, err := fmt.Fprintln(a.env.Stdout, sanitise(from))
	return err
}

// owner prints whose the consensus is, by name where there is one.
func (a *anondate) owner(group bool) func(context.Context, string) error {
	return func(_ context.Context, file string) error {
		var st unix.Stat_t
		if err := unix.Lstat(a.root.Path(file), &st); err != nil {
			return &cli.Exit{Code: codeAnondateUnreadable, Err: fmt.Errorf("%s: %w", file, err)}
		}
		name := strconv.Itoa(int(st.Uid))
		if group {
			name = strconv.Itoa(int(st.Gid))
			if g, err := user.LookupGroupId(name); err == nil {
				name = g.Name
			}
		} else if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		_, err := fmt.Fprintln(a.env.Stdout, name)
		return err
	}
}
