// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/sd"
)

const monitorHelp = `usage: leak-monitor [--interface=IF]
Watches what leaves the Gateway and is not Tor's, as a service. See
leak-monitor(8).
`

// verdictFile is what the monitor has seen, for programs.
const verdictFile = "/run/leak-monitor/verdict.json"

// monitor is the service.
type monitor struct {
	env     cli.Env
	root    fsx.Root
	watcher *watcher
	written []byte
}

// Monitor is the program leak-monitor.
func Monitor(ctx context.Context, env cli.Env) error {
	return monitorRun(ctx, env, fsx.Host)
}

func monitorRun(ctx context.Context, env cli.Env, root fsx.Root) error {
	device := external
	flags := pflag.NewFlagSet("leak-monitor", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.StringVar(&device, "interface", external, "the external interface")
	err := flags.Parse(env.Args[1:])
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(env.Stdout, monitorHelp, flags.FlagUsages())
		return nil
	case err != nil:
		return cli.Usagef("%v", err)
	case flags.NArg() > 0:
		return cli.Usagef("unexpected argument %q", flags.Arg(0))
	}
	w, err := newWatcher(root, device, env.Now)
	if err != nil {
		return err
	}
	defer w.close()
	w.found = func(l Leak) { env.Warnf("LEAK: %s by %s", l.Frame, l.Owner) }
	m := &monitor{env: env, root: root, watcher: w}
	if err := m.publish(); err != nil {
		return err
	}
	if err := sd.Notify(env, sd.Ready); err != nil {
		return err
	}
	return m.serve(ctx)
}

// serve watches, and publishes, until ctx ends or one of both fails.
func (m *monitor) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	published := make(chan error, 1)
	go func() {
		defer cancel()
		published <- m.keepPublishing(ctx)
	}()
	err := m.watcher.run(ctx)
	cancel()
	_ = sd.Notify(m.env, sd.Stopping) // it may be gone
	return errors.Join(err, <-published, m.publish())
}

// keepPublishing writes what has changed, once a second, and tells the service
// manager that it could.
func (m *monitor) keepPublishing(ctx context.Context) error {
	every := time.Second
	if limit := sd.Watchdog(m.env); limit > 0 {
		every = min(every, limit)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := m.publish(); err != nil {
			return err
		}
		_ = sd.Notify(m.env, sd.Alive) // the next one may get through
	}
}

// publish replaces the file if there is something new.
func (m *monitor) publish() error {
	s, err := m.watcher.snapshot()
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := encode(&text, s); err != nil {
		return err
	}
	data := text.Bytes()
	if bytes.Equal(data, m.written) {
		return nil
	}
	const everybody os.FileMode = 0o644
	if err := m.root.WriteAtomic(verdictFile, data, everybody); err != nil {
		return err
	}
	m.written = data
	return nil
}
