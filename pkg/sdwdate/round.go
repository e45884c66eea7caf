// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"whonix-networking/pkg/clock"
)

// roundLimit bounds a whole round.
const roundLimit = 10 * time.Minute

// windowTries is how often the control port is asked in a round.
const windowTries = 2

var errRound = errors.New("this round found no time")

// round fetches the time and sets the clock by it. Why it could not is shown and
// logged here.
func (d *daemon) round(ctx context.Context) error {
	if err := d.writable(); err != nil {
		d.log.errorf("%v", err)
		d.show(iconError, msgNotWritten)
		return errRound
	}
	limits, notices, err := loadBounds(d.root)
	for _, n := range notices {
		d.log.warnf("%s", n)
	}
	if err != nil {
		d.log.errorf("%v", err)
		d.show(iconError, msgFloorUnknown)
		return errRound
	}
	icon, message := iconSuccess, text()[msgFetching]
	if !d.status.has(fileFirstSuccess) {
		icon, message = iconBusy, text()[msgRestricted]
	}
	d.show(icon, message)
	d.log.infof("%s", message)
	e := evidence{Bounds: limits, Mode: d.conf.Consensus, Window: remembered(windowTries, func() (window, error) { return d.ask(ctx) })}
	before := d.clock.Sample()
	c, findings := d.fetch(ctx, e)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	printLists(d.log, findings)
	if c.failure != "" {
		d.show(iconError, c.failure)
		return errRound
	}
	d.learn(c)
	d.log.infof("End fetching remote times.")
	return d.correct(ctx, c, findings, before, limits)
}

// fetch runs a cycle over the transport.
func (d *daemon) fetch(ctx context.Context, e evidence) (*cycle, []finding) {
	boot := func() time.Duration { return d.clock.Sample().Boot }
	c := newCycle(d.conf.Pools, d.conf.MaxFailureRatio, d.draw, d.dead.dead(boot()), d.log.line)
	ways := how{Proxy: proxyAddress(d.root, d.conf, d.db), Method: d.conf.Method, UserAgent: d.conf.UserAgent}
	launch := func(orders []order) {
		d.transport.start(orders, ways)
	}
	defer d.transport.stop()
	var findings []finding
	limit := boot() + roundLimit
	launch(c.begin(boot()))
	for !c.over() && ctx.Err() == nil {
		until := limit
		if at, ok := c.next(); ok {
			until = min(until, at)
		}
		out, ok := d.transport.wait(ctx, until)
		switch now := boot(); {
		case ok:
			f := e.examine(c.orders[out.ID], out)
			f.print(d.log, e)
			d.noticeUnisolated(f)
			findings = append(findings, f)
			launch(c.settle(f.settled, now))
		case now >= limit:
			c.fail(text()[msgTimeout])
		default:
			launch(c.wake(now))
		}
	}
	return c, findings
}

// noticeUnisolated says once that the proxy cannot tell requests apart.
func (d *daemon) noticeUnisolated(f finding) {
	if f.Answer.Unisolated && !d.unisolated {
		d.unisolated = true
		d.log.warnf("The proxy takes no user name and password: requests may share circuits.")
	}
}

// learn remembers which servers were of no use while others were.
func (d *daemon) learn(c *cycle) {
	now := d.clock.Sample().Boot
	for _, o := range c.orders {
		i := slices.IndexFunc(c.settled, func(s settled) bool { return s.ID == o.ID })
		switch {
		case i >= 0 && c.settled[i].Status == statusOK:
			d.dead.revive(o.Source.URL)
		case i >= 0, now-o.Begun >= hedgeAfter:
			d.dead.bury(o.Source.URL, now)
		}
	}
}

// correct combines the answers and sets the clock.
func (d *daemon) correct(ctx context.Context, c *cycle, findings []finding, before clock.Sample, limits bounds) error {
	var used []finding
	var answers []measurement
	for _, s := range c.answers() {
		f := findings[slices.IndexFunc(findings, func(f finding) bool { return f.ID == s.ID })]
		used, answers = append(used, f), append(answers, s.Measurement)
		d.log.infof("pool %d: %s, web_time: %s, took_time: %s seconds, time_diff_raw: %d seconds, time_diff_lag_cleaned: %d seconds",
			f.Pool, f.Source.URL, human(f.Answer.Unixtime), seconds(f.Took), f.Raw, int64(f.Measurement.Offset.Round(time.Second).Seconds()))
	}
	combined, ok := combine(answers)
	if !ok {
		d.show(iconError, text()[msgNoValue]+text()[msgRestart])
		return errRound
	}
	d.logDifferences(used)
	for _, pool := range combined.Liars {
		d.log.warnf("The answer of pool %d is far from the others: it did not count.", pool)
	}
	offset := combined.Offset
	if d.conf.Randomize {
		d.log.infof("Randomizing nanoseconds.")
		extra := d.draw.randomSecond()
		d.log.infof("randomize                         : %+.9f", extra.Seconds())
		offset += extra
	} else {
		d.log.infof("Not randomizing nanoseconds.")
	}
	d.log.infof("new time difference               : %+.9f", offset.Seconds())
	if d.slewer == nil {
		d.log.infof("The clock is left alone (--dry-run). Uncertainty: %.3f seconds.", combined.Radius.Seconds())
		return nil
	}
	if err := d.applier.apply(offset, before, limits.Floor, floorTolerance); err != nil {
		return d.notApplied(err)
	}
	d.health.Checked, d.health.Offset, d.health.Radius = bootSeconds(d.clock.Sample().Boot), combined.Offset.Seconds(), combined.Radius.Seconds()
	d.health.Sources = nil
	for _, f := range used {
		d.health.Sources = append(d.health.Sources, f.Pool)
	}
	d.log.infof("%s", text()[msgSuccess])
	d.show(iconSuccess, text()[msgSuccess])
	d.unsettled = true
	d.settle(ctx)
	return nil
}

// notApplied shows why the clock was not set. Without the capability nothing
// will ever succeed: the daemon ends.
func (d *daemon) notApplied(err error) error {
	text := describeClockError(err)
	switch {
	case errors.Is(err, errReplay):
		d.show(iconError, msgReplay)
	case errors.Is(err, errClockChanged):
		d.log.warnf("%s", text)
		d.show(iconError, msgForeignClock)
	case permission(err):
		d.log.errorf("%s", text)
		d.show(iconError, text)
		return &errStop{1, text}
	default:
		d.log.errorf("%s", text)
		d.show(iconError, text)
	}
	return errRound
}

// logDifferences writes the sorted lists and their medians, as ever.
func (d *daemon) logDifferences(used []finding) {
	var took, half, cleaned []time.Duration
	var raw []int64
	for _, f := range used {
		took, half = append(took, f.Took), append(half, f.Took/2)
		raw, cleaned = append(raw, f.Raw), append(cleaned, f.Measurement.Offset)
	}
	slices.Sort(took)
	slices.Sort(half)
	slices.Sort(raw)
	slices.Sort(cleaned)
	middle := len(used) / 2
	for _, line := range []string{
		"     request_took_times, sorted: " + pythonFloats(took),
		"request_half_took_times, sorted: " + pythonFloats(half),
		"          time_diff_raw, sorted: " + pythonInts(raw),
		"      diffs_lag_cleaned, sorted: " + pythonFloats(cleaned),
		fmt.Sprintf("median          request_took_times: %+.2f", took[middle].Seconds()),
		fmt.Sprintf("median     half_request_took_times: %+.2f", half[middle].Seconds()),
		fmt.Sprintf("median         raw time difference: %+.2f", float64(raw[middle])),
		fmt.Sprintf("median lag_cleaned time difference: %+.2f", cleaned[middle].Seconds()),
	} {
		d.log.infof("%s", line)
	}
}
