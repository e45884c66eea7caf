// SPDX-License-Identifier: GPL-3.0-or-later

package clock

import (
	"fmt"
	"math"
	"time"
)

// Policy is how a correction is to be made.
type Policy struct {
	SingleShot time.Duration // up to here the kernel does it alone; it cannot be forgotten half-way
	PPM        int           // the rate beyond that, as long as the correction fits into Within
	MaxPPM     int           // the highest rate
	Within     time.Duration // a larger correction is made faster, to take about so long
}

// Daemon is the policy of sdwdate: an ordinary round, its randomness included,
// is a single shot; what a peer can see of the rate stays small.
func Daemon() Policy {
	return Policy{SingleShot: 1500 * time.Millisecond, PPM: 5000, MaxPPM: 50000, Within: time.Hour}
}

// Prompt is the policy of sclockadj, whose caller waits: the rate of its
// original, 5 ms a second, and 1 s in 200 s where a single shot takes 2000.
func Prompt() Policy {
	p := Daemon()
	p.SingleShot = restMax
	return p
}

// Plan is how a correction will be made.
type Plan struct {
	Offset time.Duration
	Tick   int64         // to be set meanwhile; 0 for a single shot
	PPM    float64       // what that does to the rate, signed
	Takes  time.Duration // how long, as the slewed clock shows it
}

// String tells an administrator what will happen.
func (p Plan) String() string {
	how := "a single shot"
	if p.Tick != 0 {
		how = fmt.Sprintf("tick %d", p.Tick)
	}
	return fmt.Sprintf("%+.6f s at %+.0f ppm (%s), takes %v", p.Offset.Seconds(), p.PPM, how, p.Takes.Round(time.Second))
}

// Plan decides how an offset is absorbed by a clock whose normal tick is given.
func (p Policy) Plan(offset time.Duration, tick int64) Plan {
	single := newPlan(offset, 0, math.Copysign(SinglePPM, float64(offset)))
	if offset.Abs() <= p.SingleShot {
		return single
	}
	ppm := p.PPM
	if scale(p.Within, float64(ppm)/1e6) < offset.Abs() {
		ppm = int(math.Ceil(float64(offset.Abs())/float64(p.Within)*1e6/TickPPM)) * TickPPM
	}
	more := int64(min(ppm, p.MaxPPM) / TickPPM)
	if offset < 0 {
		more = -more
	}
	to := min(max(tick+more, MinTick), MaxTick)
	rate := float64(to-tick) * TickPPM
	if rate*float64(offset) <= 0 { // the normal tick is at the kernel's limit
		return single
	}
	return newPlan(offset, to, rate)
}

func newPlan(offset time.Duration, tick int64, ppm float64) Plan {
	return Plan{Offset: offset, Tick: tick, PPM: ppm, Takes: scale(offset.Abs(), (1e6+ppm)/math.Abs(ppm))}
}

// scale multiplies a duration, as far as one can be.
func scale(d time.Duration, by float64) time.Duration {
	return time.Duration(min(float64(d)*by, math.MaxInt64/2))
}
