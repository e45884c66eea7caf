// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// answer is what url-to-unixtime --json prints, and the daemon reads, of a
// response: numbers only.
type answer struct {
	Unixtime   int64 `json:"unixtime"`
	RTT        int64 `json:"rtt_ns"`
	Realtime   int64 `json:"realtime_ns"`
	Raw        int64 `json:"raw_ns"`
	Took       int64 `json:"took_ns"`
	Status     int   `json:"status"`
	Unisolated bool  `json:"unisolated,omitempty"`
}

// answerMax bounds what a child may print.
const answerMax = 512

var errAnswer = errors.New("not an answer of url-to-unixtime")

// parseAnswer reads what a child has printed. A child that was taken over can
// still only name a time, and for how long it had waited (D24).
func parseAnswer(text []byte) (answer, error) {
	var a answer
	if len(text) > answerMax {
		return a, errAnswer
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil || d.More() {
		return answer{}, errAnswer
	}
	if a.Unixtime <= 0 || a.Unixtime > unixtimeMax || a.RTT < 0 || a.Took < 0 {
		return answer{}, errAnswer
	}
	return a, nil
}

// errStamps says that the clocks a child has read are not those of this machine
// since the request began: the clock was set meanwhile, or the child lies.
var errStamps = errors.New("the clock was set during the request")

// stampSlack is how far the two clocks may drift apart during a request.
const stampSlack = 250 * time.Millisecond

// span is when a request was under way, on both clocks.
type span struct {
	BeginRaw, EndRaw time.Duration
	EndReal          time.Time
}

// check holds the stamps of the answer against the daemon's own.
func (a answer) check(s span) error {
	raw, rtt := time.Duration(a.Raw), time.Duration(a.RTT)
	if raw > s.EndRaw || raw-rtt < s.BeginRaw || rtt > s.EndRaw-s.BeginRaw {
		return errStamps
	}
	expected := s.EndReal.Add(raw - s.EndRaw)
	if time.Unix(0, a.Realtime).Sub(expected).Abs() > stampSlack {
		return errStamps
	}
	return nil
}
