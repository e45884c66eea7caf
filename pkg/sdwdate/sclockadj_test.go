// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/fsx"
)

// adjustRig is sclockadj on a simulated machine.
type adjustRig struct {
	sim      *clock.Simulated
	root     fsx.Root
	signals  chan os.Signal
	out, err bytes.Buffer
}

func newAdjustRig(t *testing.T, wrong time.Duration) *adjustRig {
	t.Helper()
	return &adjustRig{sim: clock.NewSimulated(worldNow(), wrong), root: fsx.Root(t.TempDir()), signals: make(chan os.Signal, 1)}
}

// call runs the program and returns its exit code.
func (r *adjustRig) call(args ...string) int {
	r.out.Reset()
	r.err.Reset()
	env := cli.Env{Args: append([]string{"sclockadj"}, args...), Stdout: &r.out, Stderr: &r.err}
	return cli.Run(context.Background(), env, func(ctx context.Context, env cli.Env) error {
		return (&sclockadj{env: env, clock: r.sim, root: r.root, signals: r.signals}).run(ctx)
	})
}

// TestSclockadj: it returns when the clock is right, not before.
func TestSclockadj(t *testing.T) {
	for arg, wrong := range map[string]time.Duration{
		"1000000000": -time.Second, "-1000000000": time.Second, "+7000000000": -7 * time.Second, "5000000": -5 * time.Millisecond,
		"-3600000000000": time.Hour,
	} {
		r := newAdjustRig(t, wrong)
		if code := r.call(arg); code != 0 || r.out.Len()+r.err.Len() != 0 {
			t.Errorf("%s: exit %d, %s%s", arg, code, &r.out, &r.err)
		}
		if off := r.sim.Wrong().Abs(); off > time.Millisecond || r.sim.Backwards() != 0 || r.root.Exists(clock.LeasePath) {
			t.Errorf("%s: wrong by %v, back by %v", arg, r.sim.Wrong(), r.sim.Backwards())
		}
	}
}

// TestSclockadjOneSecond: 1 s takes less than four minutes.
func TestSclockadjOneSecond(t *testing.T) {
	r := newAdjustRig(t, -time.Second)
	r.call("1000000000")
	if took := r.sim.World().Sub(worldNow()); took > 4*time.Minute {
		t.Errorf("took %v", took)
	}
	for _, call := range r.sim.Calls() {
		if strings.HasPrefix(call, "tick ") && call != "tick 10050" && call != "tick 10000" {
			t.Errorf("%s", call)
		}
	}
}

// TestSclockadjSignals: a signal sets the rate back first; the exit codes are
// those of a shell.
func TestSclockadjSignals(t *testing.T) {
	for sig, code := range map[unix.Signal]int{unix.SIGTERM: 143, unix.SIGINT: 130, unix.SIGHUP: 129} {
		r := newAdjustRig(t, -7*time.Second)
		r.signals = make(chan os.Signal)
		r.sim.At(time.Minute, func() {
			r.signals <- sig
			// What is left of the correction, some thousand waits, must not be
			// over before the program hears of it.
			r.sim.Late = func() time.Duration { time.Sleep(time.Millisecond); return 0 }
		})
		if got := r.call("7000000000"); got != code || r.err.Len() != 0 {
			t.Errorf("%v: exit %d, want %d, %s", sig, got, code, &r.err)
		}
		d, _ := r.sim.Discipline()
		left, _ := r.sim.SingleShotLeft()
		if d.Tick != clock.NormalTick || left != 0 || r.root.Exists(clock.LeasePath) {
			t.Errorf("%v: tick %d, left %v", sig, d.Tick, left)
		}
	}
}

// TestSclockadjDisturbed: what makes the rest meaningless ends it with an error
// that says how much that is.
func TestSclockadjDisturbed(t *testing.T) {
	for want, do := range map[string]func(*clock.Simulated){
		"another program set the clock: ":           func(s *clock.Simulated) { s.SetByOther(time.Hour) },
		"the machine slept: ":                       func(s *clock.Simulated) { s.Suspend(time.Hour, 0) },
		"another program changed the clock's rate":  func(s *clock.Simulated) { s.TuneByOther(clock.Discipline{Tick: 10001}) },
		"another program steers the clock (STA_PLL": func(s *clock.Simulated) { s.TuneByOther(clock.Discipline{Tick: 10050, Status: unix.STA_PLL}) },
	} {
		r := newAdjustRig(t, -7*time.Second)
		r.sim.At(time.Minute, func() { do(r.sim) })
		if code := r.call("7000000000"); code != 1 || !strings.HasPrefix(r.err.String(), "sclockadj: error: "+want) || strings.Count(r.err.String(), "\n") != 1 {
			t.Errorf("%s: exit %d, %s", want, code, &r.err)
		}
		if d, _ := r.sim.Discipline(); d.Tick == 10050 || r.root.Exists(clock.LeasePath) {
			t.Errorf("%s: tick %d", want, d.Tick)
		}
	}
}

// killed leaves behind what a sclockadj does that is killed after a minute. The
// lease names the process of this test.
func (r *adjustRig) killed(t *testing.T) {
	t.Helper()
	if err := r.root.MkdirAll(statusDir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := clock.NewSlewer(clock.Options{Clock: r.sim, Policy: clock.Prompt(), Root: r.root, Lease: clock.LeasePath, Log: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start(-r.sim.Wrong()); err != nil {
		t.Fatal(err)
	}
	r.sim.Advance(time.Minute)
}

// TestAcceptance04_Restore: what was left is undone once, and only what was
// ours.
func TestAcceptance04_Restore(t *testing.T) {
	r := newAdjustRig(t, -7*time.Second)
	r.killed(t)
	if code := r.call("--restore"); code != 0 || r.out.String() != "set the tick from 10050 back to 10000\n" {
		t.Errorf("exit %d, %s%s", code, &r.out, &r.err)
	}
	d, _ := r.sim.Discipline()
	calls := r.sim.Calls()
	if d.Tick != clock.NormalTick || r.root.Exists(clock.LeasePath) || !slices.Equal(calls, []string{"tick 10050", "tick 10000", "single 0s"}) {
		t.Errorf("tick %d, %v", d.Tick, calls)
	}
	if code := r.call("--restore"); code != 0 || r.out.Len()+r.err.Len() != 0 || len(r.sim.Calls()) != len(calls) {
		t.Errorf("again: exit %d, %s, %v", code, &r.err, r.sim.Calls())
	}
	r.sim.TuneByOther(clock.Discipline{Tick: 10020})
	if code := r.call("--restore"); code != 0 || r.out.Len()+r.err.Len() != 0 || len(r.sim.Calls()) != len(calls) {
		t.Errorf("a foreign tick: exit %d, %s, %v", code, &r.err, r.sim.Calls())
	}
}

// TestSclockadjOnce: two at a time would take each other's rate for the normal
// one.
func TestSclockadjOnce(t *testing.T) {
	r := newAdjustRig(t, -7*time.Second)
	r.killed(t)
	if code := r.call("7000000000"); code != 1 || !strings.Contains(r.err.String(), "is moving the clock already\nsclockadj: hint: sclockadj --restore ends that\n") {
		t.Errorf("exit %d, %s", code, &r.err)
	}
	if calls := r.sim.Calls(); !slices.Equal(calls, []string{"tick 10050"}) {
		t.Errorf("%v", calls)
	}
}

// TestSclockadjStatus: what is under way can be seen.
func TestSclockadjStatus(t *testing.T) {
	r := newAdjustRig(t, -7*time.Second)
	if code := r.call("--status"); code != 0 || r.out.String() != "tick: 10000\nfrequency: +0.000 ppm\nremaining: 0 ns\n" {
		t.Errorf("exit %d, %s", code, &r.out)
	}
	r.killed(t)
	if code := r.call("--status"); code != 0 || !strings.Contains(r.out.String(), "tick: 10050\n") || !strings.Contains(r.out.String(), "\nnormal tick: 10000\nremaining: 6700000000 ns\n") {
		t.Errorf("exit %d, %s", code, &r.out)
	}
}

// TestSclockadjNotPermitted: without the capability it fails, and says why
// (D16).
func TestSclockadjNotPermitted(t *testing.T) {
	r := newAdjustRig(t, -7*time.Second)
	r.sim.Refuse = func(string) error { return unix.EPERM }
	if code := r.call("7000000000"); code != 1 || !strings.Contains(r.err.String(), "CAP_SYS_TIME") || r.root.Exists(clock.LeasePath) {
		t.Errorf("exit %d, %s", code, &r.err)
	}
}

// FuzzParseAdjustment: what is taken is what strconv would take of a plain
// number, and within the limits.
func FuzzParseAdjustment(f *testing.F) {
	for _, seed := range []string{"1", "-1", "+5", "0", "", "-", "--1", "1e9", "0x10", " 1", "9223372036854775808", "31622400000000001", "1_000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		offset, err := parseAdjustment(text)
		switch {
		case err == nil && (offset == 0 || offset.Abs() > mostAdjustment):
			t.Errorf("%q became %v", text, offset)
		case err == nil && strings.ContainsAny(text, " _xXeE."):
			t.Errorf("%q was taken", text)
		case err != nil && (offset != 0 || strings.Contains(err.Error(), "\n") || errors.Is(err, unix.EPERM)):
			t.Errorf("%q: %v, %v", text, offset, err)
		}
	})
}
