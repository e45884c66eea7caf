// SPDX-License-Identifier: GPL-3.0-or-later

package clock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"whonix-networking/pkg/fsx"
)

const (
	// look is how often a correction under way is looked at.
	look = time.Second
	// finish is how much of a correction is left to the kernel alone.
	finish = 250 * time.Millisecond
	// restMax is what that is at the highest rate.
	restMax = 25 * time.Millisecond
	// forever is longer than any wait, and can be added to any time since boot.
	forever = 100 * 366 * 24 * time.Hour
)

// Errors of a Slewer.
var (
	// ErrSteered says that another program steers the clock.
	ErrSteered = errors.New("another program steers the clock (STA_PLL or STA_FLL is set again)")
	// ErrInterfered says that another program changed the clock's rate in the
	// midst of a correction.
	ErrInterfered = errors.New("another program changed the clock's rate")
	// ErrNotMoved says that a step was not what was asked for.
	ErrNotMoved = errors.New("the clock did not move as it was told")
)

// Options are what a Slewer works with.
type Options struct {
	Clock  Clock
	Policy Policy
	Root   fsx.Root
	Lease  string            // path; LeasePath
	Log    func(line string) // for what an administrator should know
}

// Slewer makes corrections of the clock: by a step, or by changing its rate
// for a while, so that it never runs backwards. It has no goroutine: the clock
// is looked after while its owner waits by Wait. It is for one goroutine.
type Slewer struct {
	Options
	watch    Watch
	seen     Sample // the last look: a change since is somebody else's
	job      *job
	reformed bool // another program's control loop was ended once
}

// job is a correction by tick under way.
type job struct {
	plan  Plan
	base  Discipline
	start Sample
}

// NewSlewer begins to watch the clock, and undoes first what a process left
// behind that could not do it itself.
func NewSlewer(o Options) (*Slewer, error) {
	done, err := Restore(o.Clock, o.Root, o.Lease)
	if err != nil {
		return nil, fmt.Errorf("restore the clock's rate: %w", err)
	}
	w, err := o.Clock.Watch()
	if err != nil {
		return nil, err
	}
	s := &Slewer{Options: o, watch: w, seen: o.Clock.Sample()}
	if done != "" {
		s.Log(done)
	}
	return s, nil
}

// Close ends a correction, as Stop does, and the watch.
func (s *Slewer) Close() error { return errors.Join(s.Stop(), s.watch.Close()) }

// Active reports whether the clock's tick is changed.
func (s *Slewer) Active() bool { return s.job != nil }

// Left is how much of the corrections so far is still to come.
func (s *Slewer) Left() (time.Duration, error) {
	if s.job != nil {
		return s.job.plan.Offset - s.job.applied(s.Clock.Sample()), nil
	}
	return s.Clock.SingleShotLeft()
}

// applied is what the changed tick has done: what the slewed clock has gained
// on the raw one, apart from what it would have gained anyway.
func (j *job) applied(now Sample) time.Duration {
	raw := now.Raw - j.start.Raw
	gained := now.Monotonic - j.start.Monotonic - raw
	return gained - scale(raw, j.base.ppm()/1e6)
}

// needs is how long the rest takes; negative when it was overshot.
func (j *job) needs(now Sample) time.Duration {
	rest := j.plan.Offset - j.applied(now)
	return time.Duration(float64(rest) / j.plan.PPM * 1e6)
}

// Settles is how long it takes until the corrections so far are done, 0 when
// they are.
func (s *Slewer) Settles() (time.Duration, error) {
	const single = 1e6 / SinglePPM
	if s.job != nil {
		return max(s.job.needs(s.Clock.Sample()), 0) + restMax*single, nil
	}
	left, err := s.Clock.SingleShotLeft()
	return scale(left.Abs(), single), err
}

// Jump steps the clock by an offset, and verifies that it moved. A correction
// under way ends.
func (s *Slewer) Jump(offset time.Duration) error {
	if err := s.Stop(); err != nil {
		return err
	}
	before := s.Clock.Sample()
	if err := s.Clock.Step(offset); err != nil {
		return err
	}
	after := s.Clock.Sample()
	change := Between(before, after)
	s.seen = after
	if off := change.Step - offset; off.Abs() > 2*stepMin+before.Spread+after.Spread {
		return fmt.Errorf("%w: by %v instead of %v", ErrNotMoved, change.Step, offset)
	}
	return nil
}

// Start begins to correct the clock by an offset, in the place of a correction
// under way. Where it fails, the clock runs as if it had not been called.
func (s *Slewer) Start(offset time.Duration) (Plan, error) {
	if err := s.Stop(); err != nil {
		return Plan{}, err
	}
	if err := s.reform(); err != nil {
		return Plan{}, err
	}
	base, err := s.Clock.Discipline()
	if err != nil {
		return Plan{}, err
	}
	plan := s.Policy.Plan(offset, base.Tick)
	if plan.Tick == 0 {
		return plan, s.Clock.SingleShot(offset)
	}
	return plan, s.begin(plan, base)
}

// reform ends another program's control loop, which a stopped one leaves
// behind with a phase offset that would go on being consumed; a step by nothing
// takes that away. One that comes back is at work.
func (s *Slewer) reform() error {
	d, err := s.Clock.Discipline()
	if err != nil || !d.Steered() {
		return err
	}
	if s.reformed {
		return ErrSteered
	}
	if err := s.Clock.SetStatus(d.Status &^ disciplined); err != nil {
		return err
	}
	s.reformed = true
	s.Log("ended the control loop that another program left the clock in")
	return s.Clock.Step(0)
}

// begin changes the tick. The lease comes first: from then on whatever happens
// to this process can be undone.
func (s *Slewer) begin(plan Plan, base Discipline) error {
	left, err := s.Clock.SingleShotLeft()
	if err == nil && left != 0 {
		err = s.Clock.SingleShot(0)
	}
	if err != nil {
		return err
	}
	start := s.Clock.Sample()
	lease := Lease{
		Boot: bootID(s.Root), PID: os.Getpid(), Begun: processBegin(s.Root, os.Getpid()), Tick: base.Tick, Frequency: base.Frequency,
		Set: plan.Tick, Offset: plan.Offset, Raw: start.Raw,
	}
	if err := writeLease(s.Root, s.Lease, lease); err != nil {
		return fmt.Errorf("the clock's rate is not changed without a note of it: %w", err)
	}
	if err := s.Clock.SetTick(plan.Tick); err != nil {
		return errors.Join(err, s.Root.Remove(s.Lease))
	}
	s.job = &job{plan: plan, base: base, start: start}
	return nil
}

// Stop ends a correction under way, and forgets its rest.
func (s *Slewer) Stop() error {
	if s.job == nil {
		left, err := s.Clock.SingleShotLeft()
		if err != nil || left == 0 {
			return err
		}
		return s.Clock.SingleShot(0)
	}
	return s.release()
}

// release sets the tick back. The lease stays where that fails: the next
// process tries again.
func (s *Slewer) release() error {
	if err := s.Clock.SetTick(s.job.base.Tick); err != nil {
		return err
	}
	s.job = nil
	return s.Root.Remove(s.Lease)
}

// Wait waits until d has passed on CLOCK_BOOTTIME, and looks after a correction
// meanwhile. It returns early with Stepped when somebody else set the clock or
// the machine slept, also before the call: whatever was known about
// the clock is then void, and a correction has been ended. With an error
// the wait is over too; where it is ErrSteered or ErrInterfered so is the
// correction.
func (s *Slewer) Wait(ctx context.Context, d time.Duration) (Wake, Change, error) {
	end := s.Clock.Sample().Boot + min(d, forever)
	for {
		now := s.Clock.Sample()
		change := Between(s.seen, now)
		s.seen = now
		if change.Any() {
			return Stepped, change, s.Stop()
		}
		if ctx.Err() != nil {
			return Ended, Change{}, nil
		}
		if err := s.tend(now); err != nil {
			return Ended, Change{}, err
		}
		if now.Boot >= end {
			return Elapsed, Change{}, nil
		}
		if _, err := s.watch.Wait(ctx, min(end-now.Boot, s.next(now))); err != nil {
			return Ended, Change{}, err
		}
	}
}

// next is how long the clock may be left alone.
func (s *Slewer) next(now Sample) time.Duration {
	if s.job == nil {
		return forever
	}
	return max(min(look, s.job.needs(now)-finish/2), time.Millisecond)
}

// tend looks whether the correction is still the only thing that happens to
// the clock, and ends it when it is nearly done: the rest is the kernel's.
func (s *Slewer) tend(now Sample) error {
	if s.job == nil {
		return nil
	}
	d, err := s.Clock.Discipline()
	switch {
	case err != nil:
		return err
	case d.Tick != s.job.plan.Tick: // theirs now
		s.job = nil
		return errors.Join(ErrInterfered, s.Root.Remove(s.Lease))
	case d.Steered():
		return errors.Join(ErrSteered, s.release())
	case d.Frequency != s.job.base.Frequency:
		return errors.Join(ErrInterfered, s.release())
	}
	if s.job.needs(now) >= finish {
		return nil
	}
	job := s.job
	if err := s.release(); err != nil {
		return err
	}
	return s.Clock.SingleShot(job.plan.Offset - job.applied(s.Clock.Sample()))
}
