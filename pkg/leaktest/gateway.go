// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const gatewayHelp = `usage: anon-gw-leaktest [--interface=IF] [--json] [--fail-on-leak] [--tshark]
Shows what leaves the Gateway and is not Tor's, until Ctrl-C. See
anon-gw-leaktest(8).
`

// external is the Gateway's external interface, in Qubes too.
const external = "eth0"

// gatewayTest is the command line of anon-gw-leaktest.
type gatewayTest struct {
	env        cli.Env
	device     string
	json       bool
	failOnLeak bool
	tshark     bool
}

// Gateway is the program anon-gw-leaktest.
func Gateway(ctx context.Context, env cli.Env) error {
	return gatewayRun(ctx, env, machine{fsx.Host, os.Geteuid()})
}

func gatewayRun(ctx context.Context, env cli.Env, m machine) (err error) {
	g, err := parseGateway(env)
	if err != nil || g == nil {
		return err
	}
	if m.euid != 0 {
		return errors.New("this must be run as root (sudo)")
	}
	var w *watcher
	if !g.tshark {
		if w, err = newWatcher(m.root, g.device, env.Now); err != nil {
			return err
		}
		defer w.close()
		w.found = g.report
	}
	r, err := restrict(ctx, m.root)
	if err != nil {
		return fmt.Errorf("nothing is tested, as tor is not restricted: %w", err)
	}
	defer func() { err = errors.Join(err, r.lift()) }()
	defer r.whenLost(func() { env.Warnf("tor has ended the conversation; it is not restricted any more") })()
	g.info("Tor uses port 443 only until the test ends.")
	if g.tshark {
		return g.runTshark(ctx, m.root)
	}
	g.info("Watching %s for frames that are not Tor's. To stop press CTRL + C.", g.device)
	if err := w.run(ctx); err != nil {
		return err
	}
	return g.finish(w)
}

// parseGateway returns nothing where the help was all that was wanted.
func parseGateway(env cli.Env) (*gatewayTest, error) {
	g := &gatewayTest{env: env}
	flags := pflag.NewFlagSet("anon-gw-leaktest", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.StringVar(&g.device, "interface", external, "the external interface")
	flags.BoolVar(&g.json, "json", false, "print each kind of leak, and at the end all of them, as JSON")
	flags.BoolVar(&g.failOnLeak, "fail-on-leak", false, "exit with 3 after a leak")
	flags.BoolVar(&g.tshark, "tshark", false, "let tshark show what goes to other ports than Tor's, as once")
	err := flags.Parse(env.Args[1:])
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(env.Stdout, gatewayHelp, flags.FlagUsages())
		return nil, nil
	case err != nil:
		return nil, cli.Usagef("%v", err)
	case flags.NArg() > 0:
		return nil, cli.Usagef("unexpected argument %q", flags.Arg(0))
	case g.tshark && (g.json || g.failOnLeak):
		return nil, cli.Usagef("--tshark shows packets and gives no verdict: not with --json or --fail-on-leak")
	}
	return g, nil
}

func (g *gatewayTest) info(format string, args ...any) {
	fmt.Fprintf(g.env.Stderr, g.env.Name()+": INFO: "+format+"\n", args...)
}

// report shows a new kind of leak at once.
func (g *gatewayTest) report(l Leak) {
	if g.json {
		_ = encode(g.env.Stdout, l) // the verdict counts it
		return
	}
	fmt.Fprintf(g.env.Stdout, "LEAK: %s by %s\n", l.Frame, l.Owner)
}

// finish gives the verdict.
func (g *gatewayTest) finish(w *watcher) error {
	s, err := w.snapshot()
	if err != nil {
		return err
	}
	if g.json {
		err = encode(g.env.Stdout, s)
	} else {
		_, err = fmt.Fprintf(g.env.Stdout, "frames=%d leaked=%d lost=%d verdict=%s\n", s.Frames, s.Leaking, s.Lost, s.Verdict)
	}
	switch {
	case err != nil:
		return err
	case g.failOnLeak && s.Verdict == WatchLeak:
		return &cli.Exit{Code: CodeLeak}
	case s.Verdict == WatchBlind:
		return fmt.Errorf("%d frames came faster than they could be looked at; they may have been leaks", s.Lost)
	}
	return nil
}
