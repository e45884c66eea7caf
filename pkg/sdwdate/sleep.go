// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"math"
	"time"

	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/sd"
)

// slowest is how much longer a wait can take than it should while the clock is
// slewed: CLOCK_BOOTTIME is too, by a tenth at most.
const slowest = 8

// How long to sleep between cycles.
const (
	sleepLeast  = time.Hour
	sleepMost   = 3*time.Hour - 2 // 10799.999999998 s
	longSleep   = 10 * time.Second
	foreignMost = time.Minute     // until a fetch after a foreign step
	foreignRest = 5 * time.Minute // at least, between two such fetches
)

// sleep is how long to sleep after so many failures in a row. Before the clock
// was ever set others wait for it behind a closed firewall: tries come soon
// (D2).
func (d draw) sleep(failures int, firstSuccess bool) time.Duration {
	const quick, patient = 3, 6
	switch {
	case failures == 0:
		return d.between(sleepLeast, sleepMost)
	case !firstSuccess && failures <= quick:
		return d.between(5*time.Second, 15*time.Second)
	case !firstSuccess && failures <= patient:
		return d.between(30*time.Second, time.Minute)
	case !firstSuccess:
		return d.between(2*time.Minute, 5*time.Minute)
	}
	least, most := 5*time.Minute, 15*time.Minute
	for range failures - 1 {
		if least, most = 2*least, 2*most; most >= sleepMost {
			return d.between(min(least, sleepLeast), sleepMost)
		}
	}
	return d.between(least, most)
}

// woken is why a wait ended early: not at all where it is zero.
type woken struct {
	clock.Change      // the clock made a step, or the machine slept
	Hangup       bool // SIGHUP
}

// wait lets time pass, while the slewer looks after the clock. It ends early
// when the clock makes a step, on SIGHUP, and with an error when the context
// ends.
func (d *daemon) wait(ctx context.Context, span time.Duration) (w woken, err error) {
	d.stage(span + span/slowest + time.Minute)
	inner, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-d.hangup:
			w.Hangup = true
			cancel()
		case <-inner.Done():
		}
	}()
	change := d.pause(inner, span)
	cancel()
	<-done
	w.Change = change
	return w, ctx.Err()
}

// pause is the slewer's wait, or a plain one where the clock is not touched or
// the slewer cannot wait. It can as a rule when it has ended a correction that
// another program disturbed.
func (d *daemon) pause(ctx context.Context, span time.Duration) clock.Change {
	const tries = 2
	end := d.clock.Sample().Boot + span
	for range tries {
		if d.slewer == nil {
			break
		}
		_, change, err := d.slewer.Wait(ctx, end-d.clock.Sample().Boot)
		if err == nil {
			return change
		}
		d.log.warnf("The gradual correction of the clock has ended: %s", describeClockError(err))
		d.unsettled = false // and it was not complete
		if change.Any() {
			return change
		}
	}
	t := time.NewTimer(end - d.clock.Sample().Boot)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return clock.Change{}
}

// sleep sleeps until the next cycle. When somebody else sets the clock, or the
// machine has slept, what was known is void: the next cycle comes within a
// minute, though not more often than every five (D18). lastForeign remembers
// that, on CLOCK_BOOTTIME.
func (d *daemon) sleep(ctx context.Context, span time.Duration, lastForeign *time.Duration) error {
	d.log.infof("%s%d%s", text()[msgSleeping], int(math.Round(span.Minutes())), text()[msgMinutes])
	d.notify(sd.Alive)
	if span >= longSleep {
		if err := d.status.create(fileSleepLong); err != nil {
			d.log.errorf("%v", err)
		}
	}
	begin := d.clock.Sample().Boot
	end := begin + span
	d.health.NextTry = bootSeconds(end)
	d.show(d.health.State, d.message)
	for {
		left := end - d.clock.Sample().Boot
		if left <= 0 {
			break
		}
		w, err := d.wait(ctx, min(left, d.settling()))
		if err != nil {
			return err
		}
		if w.Hangup {
			break
		}
		change := w.Change
		if !change.Any() { // that much is slept
			d.settle(ctx)
			continue
		}
		d.unsettled = false // a time that somebody else has set is not to be kept
		now := d.clock.Sample().Boot
		d.log.warnf("Clock got changed by something other than sdwdate. sleep_time_seconds: %d step: %+.3f suspended: %.3f",
			int(span.Seconds()), change.Step.Seconds(), change.Suspended.Seconds())
		soon := now + d.draw.between(0, foreignMost)
		if *lastForeign != 0 {
			soon = max(soon, *lastForeign+foreignRest)
		}
		end = min(end, soon)
		*lastForeign = end
	}
	d.log.infof("Slept for about %d seconds.", int((d.clock.Sample().Boot - begin).Seconds()))
	return nil
}

// settling is how long to sleep before the correction is looked at, because it
// may be done then.
func (d *daemon) settling() time.Duration {
	if !d.unsettled {
		return sleepMost
	}
	left, err := d.slewer.Settles()
	if err != nil {
		return sleepMost
	}
	return max(left, time.Second)
}

// settle copies the time to the hardware clock once the correction of the clock
// is done; a clock that is still being moved shows a time that is known to be
// wrong (D16).
func (d *daemon) settle(ctx context.Context) {
	if !d.unsettled {
		return
	}
	if left, err := d.slewer.Settles(); err != nil || left > 0 {
		return
	}
	d.unsettled = false
	d.background.Add(1)
	go func() {
		defer d.background.Done()
		d.applier.syncHardwareClock(ctx)
	}()
}
