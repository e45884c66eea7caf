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

// wait lets time pass, while the slewer looks after the clock. It ends early
// when the clock makes a step, on SIGHUP, and with an error when the context
// ends.
func (d *daemon) wait(ctx context.Context, span time.Duration) (stepped clock.Change, err error) {
	d.stage(span + span/slowest + time.Minute)
	inner, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-d.hangup:
			cancel()
		case <-inner.Done():
		}
	}()
	defer func() {
		cancel()
		<-done
	}()
	change := d.pause(inner, span)
	return change, ctx.Err()
}

// pause is the slewer's wait, or a plain one where the clock is not touched or
// the slewer cannot wait.
func (d *daemon) pause(ctx context.Context, span time.Duration) clock.Change {
	begin := d.clock.Sample().Boot
	if d.slewer != nil {
		_, change, err := d.slewer.Wait(ctx, span)
		if err == nil {
			return change
		}
		d.log.warnf("The gradual correction of the clock has ended: %s", describeClockError(err))
		if change.Any() {
			return change
		}
	}
	t := time.NewTimer(begin + span - d.clock.Sample().Boot)
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
		change, err := d.wait(ctx, left)
		if err != nil {
			return err
		}
		now := d.clock.Sample().Boot
		if !change.Any() {
			break // all slept, or SIGHUP
		}
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
