// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// window is when Tor's consensus is valid.
type window struct {
	After, Until time.Time
}

// judge tells whether a time lies within the window. It begins one second after
// valid-after: that very second is too early, as ever.
func (w window) judge(t int64) verdict {
	switch {
	case t <= w.After.Unix():
		return slow
	case t > w.Until.Unix():
		return fast
	default:
		return sane
	}
}

// evidence is what answers are held against.
type evidence struct {
	Bounds bounds
	Mode   string // CONSENSUS_CHECK
	// Window asks Tor; it may be asked for every answer.
	Window func() (window, error)
}

// finding is what is known of one answer.
type finding struct {
	settled
	Answer    answer
	Outcome   outcome
	Took      time.Duration
	Raw       int64 // seconds by which the Date is ahead of the clock at the end
	Problem   string
	Static    verdict
	Consensus string // a verdict, or what went wrong
	Window    window
}

var errLate = fmt.Errorf("the answer took longer than %v", rttMax)

// examine decides what an outcome is worth.
func (e evidence) examine(o order, out outcome) finding {
	f := finding{settled: settled{order: o, Status: statusError}, Outcome: out, Took: out.Span.EndRaw - out.Span.BeginRaw}
	switch {
	case out.TimedOut:
		f.Status = statusTimeout
		return f
	case out.Exit != 0:
		return f
	case len(out.Stderr) > 500:
		f.Problem = "stderr excessive string length"
		return f
	}
	a, err := parseAnswer(out.Stdout)
	if err == nil {
		err = a.check(out.Span)
	}
	if err == nil && time.Duration(a.RTT) > rttMax {
		err = errLate
	}
	if err != nil {
		f.Problem = err.Error()
		return f
	}
	f.Answer = a
	f.Measurement = measure(o.Pool, a.Unixtime, time.Unix(0, a.Realtime), time.Duration(a.RTT))
	f.Raw = a.Unixtime - out.Span.EndReal.Unix()
	f.Static = e.Bounds.judge(a.Unixtime)
	acceptable := e.consensus(&f)
	f.Status = statusDone
	if f.Static == sane && acceptable {
		f.Status = statusOK
	}
	return f
}

// consensus holds the answer against the consensus, and reports whether it may
// count.
func (e evidence) consensus(f *finding) bool {
	if e.Mode == "off" {
		f.Consensus = "off"
		return true
	}
	w, err := e.Window()
	if err != nil {
		f.Consensus = "error: " + err.Error()
		return e.Mode == "prefer"
	}
	f.Window = w
	v := w.judge(f.Answer.Unixtime)
	f.Consensus = string(v)
	return v == sane
}

// errNoConsensus says that Tor has none yet.
var errNoConsensus = errors.New("no consensus in Tor yet")

// parseWindow reads what Tor says of its consensus: two times in UTC.
func parseWindow(after, until string) (window, error) {
	if after == "" || until == "" {
		return window{}, errNoConsensus
	}
	var w window
	var err error
	if w.After, err = time.Parse(humanTime, after); err == nil {
		w.Until, err = time.Parse(humanTime, until)
	}
	const longest = 24 * time.Hour
	switch {
	case err != nil:
		return window{}, fmt.Errorf("the control port's answer is no time: %w", err)
	case !w.Until.After(w.After), w.Until.Sub(w.After) > longest:
		return window{}, fmt.Errorf("the control port names a consensus valid from %s until %s, which cannot be", after, until)
	}
	return w, nil
}

// print writes the report on a server, as the original does.
func (f finding) print(l *logger, e evidence) {
	l.report("remote %d: %s", f.ID, f.Source.URL)
	comment := f.Source.Comment
	if comment == "" {
		comment = "unknown-comment"
	}
	l.report("* comment: %s", comment)
	l.report("* took_time     : %s second(s)", seconds(f.Took))
	l.report("* half_took_time: %s second(s)", seconds(f.Took/2))
	if f.Status == statusError || f.Status == statusTimeout {
		if f.Problem != "" {
			l.report("* ERROR: %s", f.Problem)
		}
		l.report("* exit_code: %d", f.Outcome.Exit)
		l.report("* stdout: %s", orEmpty(f.Outcome.Stdout))
		l.report("* stderr: %s", orEmpty(f.Outcome.Stderr))
		l.report("* remote_status: %s", f.Status)
		return
	}
	after, until := "", ""
	if !f.Window.After.IsZero() {
		after, until = f.Window.After.Format(humanTime), f.Window.Until.Format(humanTime)
	}
	l.report("* replay_protection_unixtime: %d", e.Bounds.Floor)
	l.report("* remote_unixtime           : %d", f.Answer.Unixtime)
	l.report("* consensus/valid-after           : %s", after)
	l.report("* replay_protection_time          : %s", human(e.Bounds.Floor))
	l.report("* remote_time                     : %s", human(f.Answer.Unixtime))
	l.report("* consensus/valid-until           : %s", until)
	l.report("* time_diff_raw        : %d second(s)", f.Raw)
	l.report("* time_diff_lag_cleaned: %s second(s)", seconds(f.Measurement.Offset))
	l.report("* Time Replay Protection         : %s", f.Static)
	l.report("* Tor Consensus Time Sanity Check: %s", f.Consensus)
	status := "False"
	if f.Status == statusOK {
		status = "True"
	}
	l.report("* remote_status: %s", status)
}

func orEmpty(text []byte) string {
	const most = 500
	if s := strings.TrimSpace(string(text)); s != "" {
		return oneLine(s, most)
	}
	return "empty"
}

// printLists writes what the original writes after a round.
func printLists(l *logger, all []finding) {
	var urls, statuses []string
	var took, half, cleaned []time.Duration
	var times, raw []int64
	for _, f := range all {
		urls = append(urls, f.Source.URL)
		statuses = append(statuses, f.Status)
		took = append(took, f.Took)
		half = append(half, f.Took/2)
		times = append(times, f.Answer.Unixtime)
		raw = append(raw, f.Raw)
		cleaned = append(cleaned, f.Measurement.Offset)
	}
	for _, part := range []struct{ label, list string }{
		{"urls_list", pythonList(urls)},
		{"status_list", pythonList(statuses)},
		{"took_time_list", pythonFloats(took)},
		{"half_took_time_list", pythonFloats(half)},
		{"remote_unixtime_list", pythonInts(times)},
		{"time_diff_raw_int_list", pythonInts(raw)},
		{"time_diff_lag_cleaned_float_list", pythonFloats(cleaned)},
	} {
		l.report("remote_times.py: %s:", part.label)
		l.report("%s", part.list)
	}
}
