// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"fmt"
	"time"
)

// correction is what decides how the clock is set.
type correction struct {
	Now       time.Time     // what the clock shows
	Offset    time.Duration // of the network's time from that
	Floor     int64         // the earliest time that is known to have passed
	Tolerance int64         // how many seconds before it a time may lie
	First     bool          // the clock has not been set since boot
	JumpOnce  bool          // somebody asked for a jump
}

// step is how the clock is set.
type step int

const (
	stepRefused step = iota // the time is one that has passed before
	stepNone                // the clock is right
	stepJump                // at once
	stepSlew                // gradually, never backwards
)

// Time is the network's time.
func (c correction) Time() time.Time { return c.Now.Add(c.Offset) }

// Unixtime is the network's time in whole seconds, as the floor counts it.
func (c correction) Unixtime() int64 { return c.Time().Round(time.Second).Unix() }

// decide tells how the clock is to be set. A replay is refused whatever else
// there is.
func (c correction) decide() step {
	switch {
	case c.Unixtime() < c.Floor-c.Tolerance:
		return stepRefused
	case c.Offset == 0:
		return stepNone
	case c.First || c.JumpOnce:
		return stepJump
	default:
		return stepSlew
	}
}

// nextFloor is the floor when the network's time has been accepted. It is the
// network's time and not the clock's, which may have been fast, and still be
// (D1); and it never falls (D22).
func (c correction) nextFloor() int64 { return max(c.Floor, c.Unixtime()) }

// lines are what the log says before the decision.
func (c correction) lines() []string {
	date := func(unixtime int64) string { return time.Unix(unixtime, 0).UTC().Format(time.DateTime) }
	return []string{
		fmt.Sprintf("replay_protection_unixtime: %d", c.Floor),
		"old_unixtime              : " + exact(c.Now),
		"new_unixtime              : " + exact(c.Time()),
		"replay_protection_time          : " + date(c.Floor),
		"old_unixtime_human_readable     : " + date(c.Now.Round(time.Second).Unix()),
		"new_unixtime_human_readable     : " + date(c.Unixtime()),
	}
}

// exact is a unixtime with all its decimals.
func exact(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

// forward tells whether a time that only Tor knows may be taken for a clock
// that is slow: it repairs, so it never goes back, and it must be possible
// (D32).
func forward(now, to time.Time, floor, ceiling int64) bool {
	return to.After(now) && to.Unix() >= floor && to.Unix() <= ceiling
}
