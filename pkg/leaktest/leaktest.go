// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const leaktestHelp = `usage: leaktest [--target=ADDR] [--ipv6] [--rate=N] [--wait=SPAN] [--json] [--fail-on-leak]
Tries to get packets past Tor. By the names exhaustive_ip_send, tcp_test,
udp_test, dns_test and simple_ping it does one test. See leaktest(8).
`

// Targets, as literal addresses: a test must not depend on DNS (defect 23).
const (
	target4 = "45.33.32.156"
	target6 = "2600:3c01::f03c:91ff:fe18:bb2f"
)

// testsDir is where each test has a name of its own.
const testsDir = "/usr/libexec/helper-scripts/leak-tests/"

const guide = "See https://www.whonix.org/wiki/Dev/Leak_Tests_Old on instructions how to interpret the results."

// CodeLeak is the exit code for a leak that was found, where it was asked for.
const CodeLeak = 3

// test is one by its name.
type test struct {
	name string
	run  func(attempt, context.Context) (Result, error)
}

// all are the tests in the order in which leaktest does them.
func all() []test {
	return []test{
		{"exhaustive_ip_send", attempt.protocols},
		{"tcp_test", attempt.tcp},
		{"udp_test", attempt.udp},
		{"dns_test", attempt.dns},
	}
}

// machine is what the programs need to know of where they run.
type machine struct {
	root fsx.Root
	euid int
}

// leaktest is the command line.
type leaktest struct {
	env        cli.Env
	tests      []test
	single     bool // called by a test's name
	json       bool
	failOnLeak bool
	attempt
}

// Run is the program leaktest, and each of its tests.
func Run(ctx context.Context, env cli.Env) error {
	return run(ctx, env, machine{fsx.Host, os.Geteuid()})
}

func run(ctx context.Context, env cli.Env, m machine) error {
	l, err := parse(env, m)
	if err != nil || l == nil {
		return err
	}
	if m.euid != 0 {
		fmt.Fprintln(env.Stdout, env.Name()+": This script must be run as root (sudo)")
		return &cli.Exit{Code: cli.CodeFailed}
	}
	report, err := l.all(ctx)
	if err != nil {
		return err
	}
	if l.json {
		if err := encode(env.Stdout, report); err != nil {
			return err
		}
	}
	if l.failOnLeak && report.Verdict == VerdictLeak {
		return &cli.Exit{Code: CodeLeak}
	}
	return nil
}

// parse returns nothing where the help was all that was wanted.
func parse(env cli.Env, m machine) (*leaktest, error) {
	l := &leaktest{env: env, tests: all()}
	flags := pflag.NewFlagSet("leaktest", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	const perSecond, patience = 10000, time.Second
	target := flags.String("target", "", "whom to send to: an address (default "+target4+", for simple_ping the Gateway)")
	six := flags.Bool("ipv6", false, "send to an IPv6 address (default "+target6+")")
	flags.IntVar(&l.rate, "rate", perSecond, "packets a second, 0 for as many as can be")
	flags.DurationVar(&l.wait, "wait", patience, "how long to wait for answers after each test")
	flags.BoolVar(&l.json, "json", false, "print one JSON object")
	flags.BoolVar(&l.failOnLeak, "fail-on-leak", false, "exit with 3 if the target answered past Tor")
	err := flags.Parse(env.Args[1:])
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(env.Stdout, leaktestHelp, flags.FlagUsages())
		return nil, nil
	case err != nil:
		return nil, cli.Usagef("%v", err)
	case flags.NArg() > 0:
		return nil, cli.Usagef("unexpected argument %q", flags.Arg(0))
	case l.rate < 0 || time.Duration(l.rate) > time.Second:
		return nil, cli.Usagef("--rate: %d is no number of packets a second", l.rate)
	case l.wait < 0:
		return nil, cli.Usagef("--wait: %v is less than nothing", l.wait)
	}
	fallback := map[bool]string{false: target4, true: target6}[*six]
	if l.named(env.Name()) {
		fallback = gateway(m, *six)
	}
	if *target == "" {
		*target = fallback
	}
	if l.target, err = parseTarget(*target, *six); err != nil {
		return nil, err
	}
	return l, nil
}

// named takes the test that the program is called by, and reports the ping,
// which has a target of its own.
func (l *leaktest) named(name string) (ping bool) {
	name = strings.TrimSuffix(name, ".py")
	for _, t := range append(all(), test{"simple_ping", attempt.ping}) {
		if t.name == name {
			l.tests, l.single = []test{t}, true
		}
	}
	return name == "simple_ping"
}

// gateway is where the Gateway is: in Qubes, what QubesDB says.
func gateway(m machine, six bool) string {
	key, address := "/qubes-gateway", whonix.GatewayIP
	if six {
		key, address = "/qubes-gateway6", whonix.GatewayIP6
	}
	if whonix.Detect(m.root).Qubes {
		if found, ok := confd.QubesDB(m.root)(key); ok && found != "" {
			return found
		}
	}
	return address
}

func parseTarget(text string, six bool) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return a, cli.Usagef("--target: %q is no address; names are not looked up", text)
	case a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast():
		return a, cli.Usagef("--target: %v is no address of one machine", a)
	case six && a.Is4():
		return a, cli.Usagef("--target: %v is no IPv6 address", a)
	}
	return a, nil
}

// say prints a line that is not for programs.
func (l *leaktest) say(text string) {
	if !l.json {
		fmt.Fprintln(l.env.Stdout, text)
	}
}

// all does the tests; the first that cannot be done ends it.
func (l *leaktest) all(ctx context.Context) (Report, error) {
	report := Report{Target: l.target.String(), Tests: []Result{}}
	if !l.single {
		l.say("leaktest: Starting leak test, hit ctrl+c to abort...")
	}
	for _, t := range l.tests {
		if !l.single {
			l.say("leaktest: " + testsDir + t.name + ".py...")
		}
		r, err := t.run(l.attempt, ctx)
		if err != nil {
			return report, fmt.Errorf("%s after sent=%d refused=%d: %w", t.name, r.Sent, r.Refused, err)
		}
		if t.name == "simple_ping" && r.Answered == 0 {
			l.say("No response")
		}
		l.say(r.String())
		report.Tests = append(report.Tests, r)
		report.Verdict = worse(report.Verdict, r.Verdict)
	}
	if !l.single {
		l.say("leaktest: Leaktest finished.")
		l.say("leaktest: " + guide)
	}
	return report, nil
}
