// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"cmp"
	"slices"
	"time"
)

// measurement is what one answer says of the clock.
type measurement struct {
	Pool   int
	Offset time.Duration // of the true time from the local clock
	Radius time.Duration // how far off Offset may be
	RTT    time.Duration
}

// A Date is cut to the second: on average half a second has passed since.
const (
	halfSecond = 500 * time.Millisecond
	rttMax     = 30 * time.Second
)

// measure makes a measurement of a Date, given the local clock when its first
// byte came and the time since the request was out. The server stamped it, on
// average, half a round trip before it came (D4).
func measure(pool int, unixtime int64, local time.Time, rtt time.Duration) measurement {
	stamped := time.Unix(unixtime, 0).Add(halfSecond + rtt/2)
	return measurement{Pool: pool, Offset: stamped.Sub(local), Radius: halfSecond + rtt/2, RTT: rtt}
}

// liarMargin is how far beyond its own radius an answer may lie from the median
// before its pool is named.
const liarMargin = 60 * time.Second

// combination is the result of all pools together.
type combination struct {
	Offset time.Duration
	Radius time.Duration // of the answer in the middle
	Liars  []int         // pools whose answer is far from the median
}

// combine takes the median: a wrong answer among three moves it no further than
// to one of the right ones.
func combine(answers []measurement) (combination, bool) {
	if len(answers) == 0 {
		return combination{}, false
	}
	sorted := slices.Clone(answers)
	slices.SortFunc(sorted, func(a, b measurement) int { return cmp.Compare(a.Offset, b.Offset) })
	middle := sorted[len(sorted)/2]
	c := combination{Offset: middle.Offset, Radius: middle.Radius}
	for _, a := range answers {
		if (a.Offset - middle.Offset).Abs() > a.Radius+liarMargin {
			c.Liars = append(c.Liars, a.Pool)
		}
	}
	return c, true
}
