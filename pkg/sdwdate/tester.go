// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

const testerUsage = `usage: onion-tester [URL]...
       onion-list-all
Asks every server of the configuration, or those named, for the time.
  --version  print the version
`

const listName = "onion-list-all"

// tester asks all servers once.
type tester struct {
	env      cli.Env
	root     fsx.Root
	net      transport
	evidence evidence
	ways     how
	chunk    int
	headTime string // seconds, for curl
	boot     func() time.Duration
	now      func() time.Time
}

// Tester is the program onion-tester, and onion-list-all.
func Tester(ctx context.Context, env cli.Env) error { return testerAt(fsx.Host)(ctx, env) }

func testerAt(root fsx.Root) func(context.Context, cli.Env) error {
	return func(ctx context.Context, env cli.Env) error {
		flags := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
		flags.Usage = func() {}
		if err := flags.Parse(env.Args[1:]); errors.Is(err, pflag.ErrHelp) {
			fmt.Fprint(env.Stdout, testerUsage)
			return nil
		} else if err != nil {
			return cli.Usagef("%w", err)
		}
		c, notices := loadConf(root)
		for _, n := range notices {
			env.Warnf("%s", sanitise(n.String()))
		}
		if env.Name() == listName {
			for _, s := range slices.Concat(c.Pools[0], c.Pools[1], c.Pools[2]) {
				fmt.Fprintf(env.Stdout, "%s %s\n", s.URL, sanitise(s.Comment))
			}
			return nil
		}
		limits, _, err := loadBounds(root)
		if err != nil {
			return err
		}
		system := clock.System()
		control := hostControl(root)
		t := tester{env: env, root: root, net: newChildren(root.Path(fetcher), system), chunk: positive(env, "ONION_TESTER_CHUNK", 3),
			headTime: strconv.Itoa(positive(env, "ONION_TESTER_HEAD_MAXTIME", 60)), now: env.Now,
			boot: func() time.Duration { return system.Sample().Boot }}
		t.ways = how{Proxy: proxyAddress(root, c, hostQubesdb(root)), Method: c.Method, UserAgent: c.UserAgent}
		t.evidence = evidence{Bounds: limits, Mode: c.Consensus,
			Window: remembered(windowTries, func() (window, error) { return control.window(ctx) })}
		return t.run(ctx, c, flags.Args())
	}
}

func positive(env cli.Env, key string, otherwise int) int {
	text, _ := env.Lookup(key)
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func (t tester) run(ctx context.Context, c conf, only []string) error {
	defer t.net.stop()
	online, offline := 0, 0
	for pool, sources := range c.Pools {
		if len(only) > 0 {
			sources = slices.DeleteFunc(slices.Clone(sources), func(s source) bool { return !slices.Contains(only, s.URL) })
		}
		fmt.Fprintf(t.env.Stdout, "### Pool %d (%d URL(s))\n", pool+1, len(sources))
		good := 0
		for part := range slices.Chunk(sources, t.chunk) {
			for _, f := range t.ask(ctx, pool, part) {
				if t.tell(ctx, pool, f) {
					good++
				}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		fmt.Fprintf(t.env.Stdout, "Pool %d: %d ONLINE, %d OFFLINE\n", pool+1, good, len(sources)-good)
		online, offline = online+good, offline+len(sources)-good
	}
	fmt.Fprintf(t.env.Stdout, "TOTAL: %d ONLINE, %d OFFLINE\n", online, offline)
	if offline > 0 || online == 0 {
		return &cli.Exit{Code: 1}
	}
	return nil
}

// ask asks some servers at once.
func (t tester) ask(ctx context.Context, pool int, sources []source) []finding {
	all := make([]finding, len(sources))
	var orders []order
	for i, s := range sources {
		o := order{ID: i, Pool: pool, Source: s}
		all[i] = finding{settled: settled{order: o, Status: statusTimeout}}
		orders = append(orders, o)
	}
	t.net.start(orders, t.ways)
	until := t.boot() + childLimit + time.Minute
	for range sources {
		out, ok := t.net.wait(ctx, until)
		if !ok {
			break
		}
		all[out.ID] = t.evidence.examine(all[out.ID].order, out)
	}
	return all
}

// tell prints what became of a server, and reports whether it is of use.
func (t tester) tell(ctx context.Context, pool int, f finding) bool {
	url := f.Source.URL
	switch f.Status {
	case statusOK:
		fmt.Fprintf(t.env.Stdout, "pool %d url %s: ONLINE  unixtime=%d  diff=%ds\n", pool+1, url, f.Answer.Unixtime, t.now().Unix()-f.Answer.Unixtime)
		return true
	case statusDone:
		fmt.Fprintf(t.env.Stdout, "pool %d url %s: REACHABLE-but-INVALID  status=done unixtime=%d\n", pool+1, url, f.Answer.Unixtime)
	default:
		fmt.Fprintf(t.env.Stdout, "pool %d url %s: OFFLINE  status=%s (Curl --head %s)\n", pool+1, url, f.Status, t.curl(ctx, url))
	}
	fmt.Fprintf(t.env.Stdout, "FAILED_URL %s\n", url)
	return false
}

// curl is a second opinion.
func (t tester) curl(ctx context.Context, url string) string {
	const fine, not = "is OK", "also Not OK"
	path, err := execx.Find(t.root, "curl")
	if err != nil {
		return not
	}
	err = execx.Cmd{Path: path, Stdout: io.Discard, Stderr: io.Discard,
		Args: []string{"--disable", "--silent", "--socks5-hostname", t.ways.Proxy.String(), "--max-time", t.headTime, "--head", "--", url}}.Run(ctx)
	if err != nil {
		return not
	}
	return fine
}
