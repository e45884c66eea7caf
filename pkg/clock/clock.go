// SPDX-License-Identifier: GPL-3.0-or-later

// Package clock is the machine's clock: reading it, stepping it, and moving it
// slowly without ever letting it run backwards. What changes the clock goes
// through the interface Clock, which the kernel implements, and a simulation
// with the kernel's rules and no time of its own.
package clock

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's limits, from adjtimex(2) with its USER_HZ of 100.
const (
	NormalTick  = 10000                       // µs that each of 100 ticks a second adds to the clock
	MinTick     = 9000                        // the kernel refuses less
	MaxTick     = 11000                       // and more
	TickPPM     = 100                         // what one more of the above is, in parts per million
	SinglePPM   = 500                         // the rate of a single shot
	Resolution  = time.Microsecond            // of every change
	disciplined = unix.STA_PLL | unix.STA_FLL // some program steers the clock, or did
)

// Sample is one reading of the kernel's four clocks.
type Sample struct {
	Real      time.Time     // CLOCK_REALTIME
	Monotonic time.Duration // CLOCK_MONOTONIC: slewed with the former, stands still in suspend
	Boot      time.Duration // CLOCK_BOOTTIME: slewed as well, goes on in suspend
	Raw       time.Duration // CLOCK_MONOTONIC_RAW: never slewed, stands still in suspend
	Spread    time.Duration // how long the reading took: its uncertainty
}

// Discipline is what the kernel is told about the clock's rate.
type Discipline struct {
	Tick      int64 // µs, see NormalTick
	Frequency int64 // in units of 2^-16 parts per million, on top of Tick
	Status    int32 // STA_ bits of adjtimex(2)
}

// Steered reports whether another program has put the clock under a control
// loop, and has not taken that away again.
func (d Discipline) Steered() bool { return d.Status&disciplined != 0 }

// ppm is the rate that Tick and Frequency add to the raw clock's.
func (d Discipline) ppm() float64 {
	return float64(d.Tick-NormalTick)*TickPPM + float64(d.Frequency)/(1<<16)
}

// Clock is the clock of a machine. Each method that changes something needs
// CAP_SYS_TIME, and fails with EPERM without it.
type Clock interface {
	// Now is CLOCK_REALTIME.
	Now() time.Time
	// Sample reads all clocks, as close together as it can be done.
	Sample() Sample
	// Step sets CLOCK_REALTIME forward, or back, by an offset, in whole
	// microseconds. Neither time nor another change is lost between a reading
	// and a setting; a single shot ends.
	Step(by time.Duration) error
	// Discipline reads the clock's rate.
	Discipline() (Discipline, error)
	// SetTick sets Discipline.Tick. It stays set until somebody sets it again.
	SetTick(tick int64) error
	// SetStatus sets those bits of Discipline.Status that can be set.
	SetStatus(status int32) error
	// SingleShot moves the clock by an offset at SinglePPM, which ends by
	// itself, in the place of an earlier one; 0 only ends that.
	SingleShot(offset time.Duration) error
	// SingleShotLeft is what is still to be done of a single shot.
	SingleShotLeft() (time.Duration, error)
	// Watch waits for time to pass and for others to change the clock.
	Watch() (Watch, error)
}

// Watch is told from its opening on when CLOCK_REALTIME makes a step: when
// somebody sets it, this process included, and when the machine wakes up.
type Watch interface {
	// Wait returns when d has passed on CLOCK_BOOTTIME, with Elapsed; when the
	// clock has made a step since the Watch was opened or last said so, with
	// Stepped; or when the context ends, with Ended.
	Wait(ctx context.Context, d time.Duration) (Wake, error)
	// Close ends the Watch.
	Close() error
}

// Wake says why a wait ended.
type Wake int

// The reasons why a wait ends.
const (
	Elapsed Wake = iota // the time is over
	Stepped             // the clock made a step, or the machine slept
	Ended               // the context did
)

// String names the reason.
func (w Wake) String() string { return [...]string{"elapsed", "stepped", "ended"}[w] }

// Change is what happened to the clock between two samples, apart from time
// passing, at whatever rate.
type Change struct {
	Step      time.Duration // how far CLOCK_REALTIME was set
	Suspended time.Duration // how long the machine slept
}

// stepMin is the smallest change that is told from the noise of reading.
const stepMin = 10 * time.Millisecond

// Between compares two samples. Suspending moves CLOCK_REALTIME and
// CLOCK_BOOTTIME alike and not CLOCK_MONOTONIC; setting the clock moves
// CLOCK_REALTIME alone; slewing moves all three.
func Between(before, after Sample) Change {
	noise := stepMin + before.Spread + after.Spread
	return Change{
		Step:      significant(after.Real.Sub(before.Real)-(after.Boot-before.Boot), noise),
		Suspended: significant((after.Boot-before.Boot)-(after.Monotonic-before.Monotonic), noise),
	}
}

// Any reports whether anything happened.
func (c Change) Any() bool { return c != Change{} }

func significant(d, noise time.Duration) time.Duration {
	if d.Abs() <= noise {
		return 0
	}
	return d
}
