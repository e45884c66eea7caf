// SPDX-License-Identifier: GPL-3.0-or-later

package clock

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Simulated is a clock with the kernel's rules and a world of its own. Time
// passes in it only while somebody waits by a Watch, and by Advance: at once,
// so that a test of hours takes microseconds. It is meant for one goroutine that
// waits; others may read meanwhile.
type Simulated struct {
	// Drift is how much too fast the machine's oscillator is, in parts per
	// million.
	Drift float64
	// Late, if set, is how much later than asked for a wait ends.
	Late func() time.Duration
	// Refuse, if set, is asked before every change, by its name as in Calls,
	// and may return an error such as EPERM.
	Refuse func(call string) error

	mu      sync.Mutex
	world   time.Time     // what time it really is
	raw     float64       // CLOCK_MONOTONIC_RAW, in nanoseconds
	slewed  float64       // CLOCK_MONOTONIC minus that
	slept   time.Duration // CLOCK_BOOTTIME minus CLOCK_MONOTONIC
	setting time.Time     // CLOCK_REALTIME minus CLOCK_BOOTTIME, on time's scale
	state   Discipline
	left    float64 // of a single shot, in nanoseconds
	events  []event
	watches []*simulatedWatch
	calls   []string
	back    time.Duration
}

type event struct {
	at time.Time
	do func()
}

// uptime is what the clocks that begin at boot show at first.
const uptime = 100 * time.Second

// NewSimulated is a machine in a world where it is now, with a clock that is
// off by wrong.
func NewSimulated(now time.Time, wrong time.Duration) *Simulated {
	return &Simulated{
		world:   now,
		raw:     float64(uptime),
		setting: now.Add(wrong - uptime),
		state:   Discipline{Tick: NormalTick, Status: unix.STA_UNSYNC},
	}
}

// World is what time it really is.
func (s *Simulated) World() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world
}

// Wrong is how far CLOCK_REALTIME is ahead of the world.
func (s *Simulated) Wrong() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sample().Real.Sub(s.world)
}

// Calls lists the changes so far that were made through the Clock, such as
// "step -3s", "tick 10050", "single 1.2s", "status 0x40".
func (s *Simulated) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Backwards is how far CLOCK_REALTIME went backwards, all in all.
func (s *Simulated) Backwards() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.back
}

// At lets something happen when so much more time has passed in the world. It
// is called by whoever lets that time pass.
func (s *Simulated) At(after time.Duration, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event{s.world.Add(after), do})
	slices.SortStableFunc(s.events, func(a, b event) int { return a.at.Compare(b.at) })
}

// Advance lets time pass in the world while nobody waits.
func (s *Simulated) Advance(d time.Duration) {
	end := s.World().Add(d)
	for {
		next := s.until(end)
		if !s.World().Before(end) {
			return
		}
		s.mu.Lock()
		s.pass(next)
		s.mu.Unlock()
	}
}

// until lets happen what is due, and returns how long nothing else happens,
// end included.
func (s *Simulated) until(end time.Time) time.Duration {
	for {
		s.mu.Lock()
		if len(s.events) == 0 || s.events[0].at.After(s.world) {
			next := end
			if len(s.events) > 0 && s.events[0].at.Before(end) {
				next = s.events[0].at
			}
			d := next.Sub(s.world)
			s.mu.Unlock()
			return d
		}
		do := s.events[0].do
		s.events = s.events[1:]
		s.mu.Unlock()
		do()
	}
}

// pass lets time pass in which nothing happens but the end of a single shot.
func (s *Simulated) pass(d time.Duration) {
	for d > 0 {
		part := d
		rate := s.state.ppm()
		if s.left != 0 {
			rate += math.Copysign(SinglePPM, s.left)
			part = min(part, time.Duration(math.Ceil(math.Abs(s.left)*1e6/SinglePPM)))
		}
		raw := float64(part) * (1 + s.Drift/1e6)
		s.world = s.world.Add(part)
		s.raw += raw
		s.slewed += raw * rate / 1e6
		if s.left != 0 {
			done := min(raw*SinglePPM/1e6, math.Abs(s.left))
			s.left -= math.Copysign(done, s.left)
			if math.Abs(s.left) < 1 {
				s.left = 0
			}
		}
		d -= part
	}
}

// Suspend lets the machine sleep; its real-time clock is off by wrong when it
// wakes up.
func (s *Simulated) Suspend(d, wrong time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world = s.world.Add(d)
	s.slept += d + wrong
	s.announce()
}

// SetByOther steps the clock as another program would.
func (s *Simulated) SetByOther(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step(by)
}

// TuneByOther sets the clock's rate as another program would.
func (s *Simulated) TuneByOther(d Discipline) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = d
}

func (s *Simulated) step(by time.Duration) {
	s.setting = s.setting.Add(by)
	s.left = 0
	if by < 0 {
		s.back -= by
	}
	s.announce()
}

func (s *Simulated) announce() {
	for _, w := range s.watches {
		w.stepped = true
	}
}

func (s *Simulated) sample() Sample {
	mono := time.Duration(s.raw + s.slewed)
	boot := mono + s.slept
	return Sample{Real: s.setting.Add(boot), Monotonic: mono, Boot: boot, Raw: time.Duration(s.raw)}
}

// Now is the simulated CLOCK_REALTIME.
func (s *Simulated) Now() time.Time { return s.Sample().Real }

// Sample reads the simulated clocks.
func (s *Simulated) Sample() Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sample()
}

// change makes a change, unless it is refused.
func (s *Simulated) change(do func(), format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	if s.Refuse != nil {
		if err := s.Refuse(call); err != nil {
			return fmt.Errorf("clock_adjtime: %s: %w", call, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	do()
	return nil
}

// Step steps the simulated clock.
func (s *Simulated) Step(by time.Duration) error {
	by = by.Truncate(Resolution)
	return s.change(func() { s.step(by) }, "step %v", by)
}

// Discipline reads the simulated clock's rate.
func (s *Simulated) Discipline() (Discipline, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, nil
}

// SetTick sets the tick, within the kernel's limits.
func (s *Simulated) SetTick(tick int64) error {
	if tick < MinTick || tick > MaxTick {
		return fmt.Errorf("clock_adjtime: tick %d: %w", tick, unix.EINVAL)
	}
	return s.change(func() { s.state.Tick = tick }, "tick %d", tick)
}

// SetStatus sets the status.
func (s *Simulated) SetStatus(status int32) error {
	return s.change(func() { s.state.Status = status }, "status %#x", status)
}

// SingleShot begins or ends a single shot.
func (s *Simulated) SingleShot(offset time.Duration) error {
	offset = offset.Truncate(Resolution)
	return s.change(func() { s.left = float64(offset) }, "single %v", offset)
}

// SingleShotLeft is what is left of it.
func (s *Simulated) SingleShotLeft() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.left).Truncate(Resolution), nil
}

type simulatedWatch struct {
	clock   *Simulated
	stepped bool
}

// Watch watches the simulated clock.
func (s *Simulated) Watch() (Watch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &simulatedWatch{clock: s}
	s.watches = append(s.watches, w)
	return w, nil
}

func (w *simulatedWatch) Close() error {
	w.clock.mu.Lock()
	defer w.clock.mu.Unlock()
	w.clock.watches = slices.DeleteFunc(w.clock.watches, func(o *simulatedWatch) bool { return o == w })
	return nil
}

func (w *simulatedWatch) Wait(ctx context.Context, d time.Duration) (Wake, error) {
	s := w.clock
	if s.Late != nil {
		d += s.Late()
	}
	deadline := s.Sample().Boot + max(d, 1)
	if deadline < d { // as good as never
		deadline = math.MaxInt64
	}
	for {
		s.until(s.World())
		s.mu.Lock()
		boot, stepped := s.sample().Boot, w.stepped
		if stepped && ctx.Err() == nil {
			w.stepped = false
		}
		// Not even the fastest clock passes the deadline in this part; the rest
		// comes in the next turns.
		part := max(scale(deadline-boot, 1/fastest), 1)
		s.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return Ended, nil
		case stepped:
			return Stepped, nil
		case boot >= deadline:
			return Elapsed, nil
		}
		part = s.until(s.World().Add(part))
		s.mu.Lock()
		s.pass(part)
		s.mu.Unlock()
	}
}

// fastest is more than any rate of the slewed clocks to the world's.
const fastest = 1.2
