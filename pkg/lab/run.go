// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
)

// Try builds the network, tries everything and reports. each is called with
// every result as it comes.
func Try(ctx context.Context, opts Options, each func(Result)) (*Report, error) {
	l, err := New(opts)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	r := &Report{Tor: opts.Tor, Leaks: []Leak{}}
	for _, g := range groups(opts) {
		if g.prepare != nil {
			l.internet.Annotate(g.name)
			if err := g.prepare(ctx, l); err != nil {
				return nil, err
			}
		}
		for _, a := range g.attempts {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			l.internet.Annotate(a.tried)
			res := Result{Group: g.name, Tried: a.tried, Expected: a.expected, Verdict: Fail}
			var ok bool
			if res.Seen, ok = a.try(ctx, l); ok {
				res.Verdict = Pass
			}
			r.Results = append(r.Results, res)
			each(res)
		}
	}
	r.Leaks, err = l.leaks()
	r.Sent, r.Carried = l.sent.Load(), l.carried.Load()
	r.judge()
	return r, err
}

// leaks are the packets that should not have been on the Internet side, alike
// ones counted together.
func (l *Lab) leaks() ([]Leak, error) {
	frames, err := l.internet.Frames()
	leaks := []Leak{}
	index := map[Leak]int{}
	for _, f := range frames {
		key := Leak{During: f.Note, Packet: f.String()}
		if i, ok := index[key]; ok {
			leaks[i].Count++
			continue
		}
		index[key] = len(leaks)
		key.Count = 1
		leaks = append(leaks, key)
	}
	lost, lostErr := l.internet.Lost()
	if lostErr == nil && lost > 0 {
		lostErr = fmt.Errorf("%d packets on the Internet side came faster than they could be read", lost)
	}
	return leaks, errors.Join(err, lostErr)
}

// limit bounds a whole run.
const limit = 10 * time.Minute

// Run is the program whonix-lab.
func Run(ctx context.Context, env cli.Env) error {
	opts, asJSON, err := options(env)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return cli.WithHint(&cli.Exit{Code: cli.CodeUsage, Err: err}, "%s --help", env.Name())
	}
	if os.Geteuid() != 0 {
		return cli.WithHint(errors.New("namespaces need root"), "sudo %s", env.Name())
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p := &printer{w: env.Stdout}
	start := env.Now()
	report, err := Try(ctx, *opts, func(r Result) {
		if !asJSON {
			p.result(r)
		}
	})
	if err != nil {
		return err
	}
	if asJSON {
		err = report.writeJSON(env.Stdout)
	} else {
		p.summary(report)
		fmt.Fprintf(env.Stdout, "Took %.1f s.\n", env.Now().Sub(start).Seconds())
	}
	if err == nil && !report.Passed {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return err
}

func options(env cli.Env) (*Options, bool, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, false, err
	}
	beside := filepath.Dir(exe)
	o := &Options{}
	f := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
	f.SetOutput(env.Stdout)
	f.SortFlags = false
	f.Usage = func() {
		fmt.Fprintf(env.Stdout, "usage: %s [options]\nTry a Gateway's and a Workstation's firewall in namespaces of their own.\n%s", env.Name(), f.FlagUsages())
	}
	asJSON := f.Bool("json", false, "print one JSON document instead of the table")
	f.StringVar(&o.Config, "config", "", "directory of the administrator's fragments; its subdirectories gateway and workstation count for one machine")
	f.StringVar(&o.Gateway, "ruleset-gateway", "", "nft script to load on the Gateway instead")
	f.StringVar(&o.Workstation, "ruleset-workstation", "", "nft script to load on the Workstation instead")
	f.IntVar(&o.Frames, "frames", 20000, "how many random frames the attacker sends")
	f.Uint64Var(&o.Seed, "seed", 1, "for the randomness of these frames")
	f.StringVar(&o.Firewall, "firewall", filepath.Join(beside, "whonix-firewall"), "the program whonix-firewall")
	f.StringVar(&o.Enable, "enable-firewall", installed(beside, "enable-firewall", "/usr/libexec/whonix-firewall/enable-firewall"), "the program enable-firewall")
	f.StringVar(&o.Shipped, "shipped", configDir, "directory of the shipped fragments")
	f.StringVar(&o.Tor, "tor", StandInTor, "the Gateway's Tor: "+StandInTor+", or "+RealTor+": Debian's, on a Tor network of the lab's own")
	f.StringVar(&o.Installed, "installed", "/", "for a real Tor: the root below which the Gateway's files are installed")
	f.StringVar(&o.Sane, "tor-config-sane", installed(beside, "tor-config-sane", sanePath), "for a real Tor: the program tor-config-sane")
	f.StringVar(&o.Leaktest, "leaktest", installed(beside, "leaktest", ""), "the program leaktest, for the Workstation to run; by default the one beside this program if the Tor is real")
	if err := f.Parse(env.Args[1:]); err != nil {
		return nil, false, err
	}
	if f.NArg() > 0 {
		return nil, false, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	if o.Tor != RealTor && !f.Changed("leaktest") {
		o.Leaktest = "" // they take two minutes
	}
	return o, *asJSON, o.check()
}

// installed is the program beside this one, or where the package puts it.
func installed(dir, name, path string) string {
	if p := filepath.Join(dir, name); isFile(p) {
		return p
	}
	return path
}

func isFile(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.Mode().IsRegular()
}

func (o *Options) check() error {
	for _, f := range []struct{ option, path string }{
		{"--firewall", o.Firewall}, {"--enable-firewall", o.Enable},
		{"--ruleset-gateway", o.Gateway}, {"--ruleset-workstation", o.Workstation}, {"--leaktest", o.Leaktest},
	} {
		if f.path != "" && !isFile(f.path) {
			return fmt.Errorf("%s: there is no file %s", f.option, f.path)
		}
	}
	for _, d := range []struct{ option, path string }{{"--config", o.Config}, {"--shipped", o.Shipped}} {
		if fi, err := os.Stat(d.path); d.path != "" && (err != nil || !fi.IsDir()) {
			return fmt.Errorf("%s: there is no directory %s", d.option, d.path)
		}
	}
	switch o.Tor {
	case StandInTor:
	case RealTor:
		if err := o.checkReal(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("--tor: %q is neither %s nor %s", o.Tor, StandInTor, RealTor)
	}
	if o.Frames < 0 {
		return fmt.Errorf("--frames: %d is negative", o.Frames)
	}
	return nil
}

// checkReal looks for what a real Tor needs.
func (o *Options) checkReal() error {
	if !isFile(o.Sane) {
		return fmt.Errorf("--tor-config-sane: there is no file %s", o.Sane)
	}
	if p := filepath.Join(o.Installed, listenersBase); !isFile(p) {
		return fmt.Errorf("--installed: there is no file %s", p)
	}
	for _, p := range []string{torPath, "/usr/bin/tor-gencert", torDefaults} {
		if !isFile(p) {
			return fmt.Errorf("--tor=%s: there is no file %s; install Debian's package tor", RealTor, p)
		}
	}
	return nil
}
