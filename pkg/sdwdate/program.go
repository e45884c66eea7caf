// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/sd"
)

const usage = `usage: sdwdate [--once] [--dry-run]
       sdwdate --check-config | --show-pools | --check-netvm
       sdwdate --status | --json
Sets the clock by what onion services say the time is.
  --once          end after one round
  --dry-run       one round that changes nothing
  --check-config  report what is wrong in /etc/sdwdate.d
  --show-pools    list the servers
  --check-netvm   fail in a Qubes machine without a network
  --status        say how the clock is doing
  --json          the same for programs
  --version       print the version
`

// options is the command line of sdwdate.
type options struct {
	once, dryRun, checkConfig, showPools, checkNetVM, status, json bool
}

// runtimeFolder is the daemon's home.
const runtimeFolder = "/run/sdwdate"

// Daemon is the program sdwdate.
func Daemon(ctx context.Context, env cli.Env) error { return daemonAt(fsx.Host)(ctx, env) }

func daemonAt(root fsx.Root) func(context.Context, cli.Env) error {
	return func(ctx context.Context, env cli.Env) error {
		var o options
		flags := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
		flags.Usage = func() {}
		flags.BoolVar(&o.once, "once", false, "")
		flags.BoolVar(&o.dryRun, "dry-run", false, "")
		flags.BoolVar(&o.checkConfig, "check-config", false, "")
		flags.BoolVar(&o.showPools, "show-pools", false, "")
		flags.BoolVar(&o.checkNetVM, "check-netvm", false, "")
		flags.BoolVar(&o.status, "status", false, "")
		flags.BoolVar(&o.json, "json", false, "")
		err := flags.Parse(env.Args[1:])
		switch {
		case errors.Is(err, pflag.ErrHelp):
			fmt.Fprint(env.Stdout, usage)
			return nil
		case err != nil:
			return cli.Usagef("%w", err)
		case flags.NArg() > 0:
			return cli.Usagef("unexpected argument %q", flags.Arg(0))
		}
		return o.run(ctx, env, root)
	}
}

func (o options) run(ctx context.Context, env cli.Env, root fsx.Root) error {
	switch {
	case o.checkConfig:
		return checkConfig(env, root)
	case o.showPools:
		return showPools(env, root)
	case o.checkNetVM:
		if !hasNetVM(root, hostQubesdb(root)) {
			return &cli.Exit{Code: 1}
		}
		return nil
	case o.status, o.json:
		return showStatus(env, root, o.json)
	}
	return serve(ctx, env, root, o)
}

// checkConfig reports every complaint about the configuration.
func checkConfig(env cli.Env, root fsx.Root) error {
	c, notices := loadConf(root)
	for _, n := range notices {
		env.Errorf("%s", sanitise(n.String()))
	}
	sizes := make([]int, poolCount)
	for i, pool := range c.Pools {
		sizes[i] = len(production(pool, func(int64) int64 { return 0 }, func(string) bool { return false }))
		if sizes[i] == 0 {
			env.Errorf("pool %d has no servers: the time cannot be fetched", i)
		}
	}
	fmt.Fprintf(env.Stdout, "pools: %d, %d and %d servers\n", sizes[0], sizes[1], sizes[2])
	if len(notices) > 0 || sizes[0]*sizes[1]*sizes[2] == 0 {
		return &cli.Exit{Code: 1}
	}
	return nil
}

// showPools lists all servers, those of a group marked with its number.
func showPools(env cli.Env, root fsx.Root) error {
	c, notices := loadConf(root)
	for _, n := range notices {
		env.Warnf("%s", sanitise(n.String()))
	}
	for i, pool := range c.Pools {
		for _, s := range pool {
			group := "-"
			if s.Group > 0 {
				group = fmt.Sprint(s.Group)
			}
			if _, err := fmt.Fprintf(env.Stdout, "%d %s %s %s\n", i, group, s.URL, sanitise(s.Comment)); err != nil {
				return err
			}
		}
	}
	return nil
}

// report is what --json prints.
type report struct {
	Icon    string `json:"icon"`
	Message string `json:"message"`
	health
	Age  float64 `json:"age"`     // seconds since the last good round; -1: none
	Next float64 `json:"next_in"` // seconds until the next try
}

func showStatus(env cli.Env, root fsx.Root, asJSON bool) error {
	icon, message, h, err := statusFolder{root: root, path: runtimeFolder}.readStatus()
	if err != nil {
		return err
	}
	now := bootSeconds(clock.System().Sample().Boot)
	r := report{Icon: icon, Message: message, health: h, Age: -1, Next: max(0, h.NextTry-now)}
	if h.Checked > 0 {
		r.Age = now - h.Checked
	}
	if asJSON {
		return json.NewEncoder(env.Stdout).Encode(r)
	}
	fmt.Fprintf(env.Stdout, "%s: %s\n", icon, oneLine(message, 1000))
	if r.Age >= 0 {
		fmt.Fprintf(env.Stdout, "last checked %.0f seconds ago: off by %+.3f seconds, give or take %.3f (pools %v)\n", r.Age, h.Offset, h.Radius, h.Sources)
	}
	if h.Slewing != 0 {
		fmt.Fprintf(env.Stdout, "being corrected by %+.3f seconds\n", h.Slewing)
	}
	if h.NextTry > 0 {
		fmt.Fprintf(env.Stdout, "next try in %.0f seconds\n", r.Next)
	}
	for _, complaint := range h.Complaints {
		fmt.Fprintf(env.Stdout, "%s\n", sanitise(complaint))
	}
	return nil
}

// hostDaemon is the daemon of this machine.
func hostDaemon(env cli.Env, root fsx.Root, o options) (*daemon, error) {
	home, _ := env.Lookup("HOME")
	status, state, err := folders(home)
	if err != nil {
		return nil, err
	}
	system := clock.System()
	d := &daemon{
		env: env, root: root, clock: system, draw: cryptoDraw, state: state, db: hostQubesdb(root),
		log:    &logger{out: env.Stderr, raw: env.Stdout, now: env.Now},
		status: statusFolder{root: root, path: status, silent: o.dryRun}, transport: newChildren(root.Path(fetcher), system),
		control: hostControl(root), hangup: make(chan os.Signal, 1), dead: graveyard{},
	}
	d.ask = func(ctx context.Context) (window, error) { return d.control.window(ctx) }
	if o.dryRun {
		return d, nil
	}
	for _, dir := range []string{status, state} {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	return d, d.equip()
}

// equip gives the daemon what changes the clock. What an earlier one left behind
// is undone.
func (d *daemon) equip() error {
	slewer, err := clock.NewSlewer(clock.Options{Clock: d.clock, Policy: clock.Daemon(), Root: d.root, Lease: d.status.path + "/" + fileLease,
		Log: func(line string) { d.log.infof("%s", line) }})
	if err != nil {
		return err
	}
	d.slewer = slewer
	d.applier = &applier{root: d.root, slewer: slewer, status: d.status.path, state: d.state, log: d.log}
	return nil
}

// serve runs the daemon until a signal, or one round.
func serve(ctx context.Context, env cli.Env, root fsx.Root, o options) error {
	log := &logger{out: env.Stderr, raw: env.Stdout, now: env.Now}
	if os.Geteuid() == 0 { // before anything that needs state (D19)
		log.errorf("Exit error... sdwdate should not be run as root!")
		return &cli.Exit{Code: 1}
	}
	d, err := hostDaemon(env, root, o)
	if err == nil {
		err = dropAmbient()
	}
	if err != nil {
		log.errorf("%v", err)
		return &cli.Exit{Code: 1}
	}
	return d.live(ctx, o.once || o.dryRun)
}

// live is serve with a daemon.
func (d *daemon) live(ctx context.Context, once bool) error {
	parent := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(signals)
	signal.Notify(d.hangup, unix.SIGHUP)
	defer signal.Stop(d.hangup)
	var got os.Signal
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		defer cancel()
		select {
		case got = <-signals:
		case <-ctx.Done():
		case <-parent.Done(): // of the same signal, perhaps, which is then about to come
			select {
			case got = <-signals:
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	if d.slewer != nil {
		defer d.slewer.Close() // also in a panic
	}
	d.log.infof("sdwdate (Secure Distributed Web Date) started. PID: %d", os.Getpid())
	d.log.infof("%s", documentation)
	d.configure()
	d.notify(sd.Ready)
	d.notify("STATUS=Starting...")
	d.stage(roundLimit)
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		d.feed(ctx)
	}()
	err := d.loop(ctx, once)
	cancel()
	<-fed
	<-watched
	return d.end(err, got)
}
