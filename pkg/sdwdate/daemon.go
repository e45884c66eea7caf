// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/sd"
)

const iterationsMax = 10000

// documentation is logged at the start (D37).
const documentation = "https://www.whonix.org/wiki/sdwdate"

// daemon is sdwdate at work. Its fields are set by its maker; what it does
// depends on nothing else.
type daemon struct {
	env       cli.Env
	root      fsx.Root
	clock     clock.Clock
	slewer    *clock.Slewer // nil: the clock is not touched
	applier   *applier
	status    statusFolder
	state     string // folder
	log       *logger
	draw      draw
	transport transport
	control   controlPort
	ask       func(context.Context) (window, error) // of the consensus
	db        qubesdb
	hangup    chan os.Signal
	ready     preparer // nil: the script, or our own check

	conf       conf
	message    string   // that is shown
	complaints []string // about the configuration, as last logged
	proxy      string   // as last logged
	dead       graveyard
	health     health
	unisolated bool // said that the proxy does not isolate
	unsettled  bool // the clock was corrected, and the hardware clock was not
	alive      atomic.Int64
	background sync.WaitGroup
}

// errStop ends the daemon with a code.
type errStop struct {
	code   int
	reason string
}

// Error names the reason.
func (e *errStop) Error() string { return e.reason }

// notify tells the service manager; without one, nothing happens.
func (d *daemon) notify(state string) {
	if err := sd.Notify(d.env, state); err != nil {
		d.log.infof("The service manager was not told %q: %v", state, err)
	}
}

// stage begins a part of the work that must be over within limit. The watchdog
// is fed only that long (D28).
func (d *daemon) stage(limit time.Duration) {
	d.alive.Store(int64(monotonicRaw() + limit))
}

// feed feeds the watchdog until the context ends.
func (d *daemon) feed(ctx context.Context) {
	every := sd.Watchdog(d.env)
	if every == 0 {
		return
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if int64(monotonicRaw()) < d.alive.Load() {
				_ = sd.Notify(d.env, sd.Alive) // the service manager is gone if it fails
			}
		case <-ctx.Done():
			return
		}
	}
}

// show sets the status. One that cannot be written is logged; nothing else
// depends on it.
func (d *daemon) show(icon, message string) {
	if err := d.status.set(icon, message); err != nil {
		d.log.errorf("%v", err)
	}
	d.message = message
	now := bootSeconds(d.clock.Sample().Boot)
	if d.health.State != icon || d.health.Reason != sanitise(message) {
		d.health.Since = now
	}
	d.health.State, d.health.Reason, d.health.ClockSet = icon, sanitise(message), d.status.has(fileFirstSuccess)
	if d.slewer != nil {
		if left, err := d.slewer.Left(); err == nil {
			d.health.Slewing = left.Seconds()
		}
	}
	if err := d.status.writeHealth(d.health); err != nil {
		d.log.errorf("%v", err)
	}
}

// drop removes a file of the status that no longer holds.
func (d *daemon) drop(name string) {
	if err := d.status.remove(name); err != nil {
		d.log.errorf("%v", err)
	}
}

// configure reads the configuration, and logs what is new about it.
func (d *daemon) configure() {
	c, notices := loadConf(d.root)
	d.conf = c
	d.dead.prune(c.Pools)
	var complaints []string
	for _, n := range notices {
		complaints = append(complaints, n.String())
		if !slices.Contains(d.complaints, n.String()) {
			d.log.warnf("%s", n)
		}
	}
	d.complaints, d.health.Complaints = complaints, complaints[:min(len(complaints), 10)]
	proxy := proxyAddress(d.root, c, d.db)
	if text := fmt.Sprintf("Tor socks host: %s Tor socks port: %d", proxy.Addr(), proxy.Port()); text != d.proxy {
		d.log.infof("%s", text)
		d.proxy = text
	}
	if d.slewer != nil {
		d.slewer.Policy.MaxPPM = c.MaxSlewPPM
	}
}

// loop is the daemon's life. It ends with the context, or with an *errStop.
func (d *daemon) loop(ctx context.Context, once bool) error {
	failures := 0
	var lastForeign time.Duration
	for i := 1; ; i = i%iterationsMax + 1 {
		d.log.infof("Running sdwdate main loop. iteration: %d", i)
		d.notify(fmt.Sprintf("STATUS=Running sdwdate main loop. iteration: %d", i))
		d.configure()
		if err := d.prepare(ctx); err != nil {
			return err
		}
		d.health.NextTry = 0
		good, err := d.cycle(ctx)
		if err != nil {
			return err
		}
		if once {
			if !good {
				return &errStop{1, "the time could not be fetched"}
			}
			return nil
		}
		if failures++; good {
			failures = 0
		}
		span := d.draw.sleep(failures, d.status.has(fileFirstSuccess))
		d.health.Failures = failures
		if err := d.sleep(ctx, span, &lastForeign); err != nil {
			return err
		}
		if d.slewer != nil {
			if err := d.applier.stop(); err != nil {
				d.log.errorf("%s", describeClockError(err))
			}
			d.unsettled = false // what was left of a correction is forgotten
		}
	}
}

// cycle fetches the time and sets the clock, and marks a failure.
func (d *daemon) cycle(ctx context.Context) (bool, error) {
	d.drop(fileSleepLong)
	d.drop(fileFail)
	d.notify(sd.Alive)
	d.stage(roundLimit + time.Minute)
	err := d.round(ctx)
	d.notify(sd.Alive)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err == nil {
		return true, nil
	}
	if createErr := d.status.create(fileFail); createErr != nil {
		d.log.errorf("%v", createErr)
	}
	var stop *errStop
	if errors.As(err, &stop) {
		return false, stop
	}
	return false, nil
}

// writable finds out whether the folders can be written, before anything is
// changed that would have to be written down.
func (d *daemon) writable() error {
	if d.status.silent {
		return nil
	}
	for _, dir := range []string{d.status.path, d.state} {
		f, err := os.CreateTemp(d.root.Path(dir), ".probe.*")
		if err != nil {
			return fmt.Errorf("%s cannot be written: %w", dir, errors.Unwrap(err))
		}
		f.Close()
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	return nil
}

// end is how the daemon ends, in the original's words and order.
func (d *daemon) end(err error, got os.Signal) error {
	code, reason := 1, fmt.Sprint(err)
	var stop *errStop
	switch {
	case err == nil:
		code, reason = 0, "done"
	case got == unix.SIGTERM || got == unix.SIGINT:
		name := unix.SignalName(got.(syscall.Signal))
		code, reason = 128+int(got.(syscall.Signal)), name+" received"
		d.log.infof("%s", strings.ReplaceAll(text()[msgSigterm], "SIGTERM", name))
	case errors.As(err, &stop):
		code = stop.code
	}
	d.notify("STATUS=Shutting down...")
	d.notify(sd.Alive)
	d.notify(sd.Stopping)
	d.log.infof("Exiting with exit_code '%d' because or reason '%s'.", code, reason)
	if err != nil {
		d.log.infof("%s", msgStopped)
		d.show(iconError, msgStopped)
	}
	if d.slewer != nil {
		if err := d.applier.stop(); err != nil {
			d.log.errorf("%s", describeClockError(err))
		}
	}
	d.background.Wait()
	d.drop(fileSleepLong)
	d.log.infof("End.")
	return &cli.Exit{Code: code}
}

// permission reports whether an error says that a capability is missing.
func permission(err error) bool { return errors.Is(err, fs.ErrPermission) }
