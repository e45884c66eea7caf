// SPDX-License-Identifier: GPL-3.0-or-later

package clock

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"whonix-networking/pkg/fsx"
)

// The scenarios of this file are named after those of chrony's simulation
// where there is one; each ends with a band in which the clock must be.

// band fails unless the clock is right within limit.
func (r *rig) band(t *testing.T, limit time.Duration) {
	t.Helper()
	if off := r.Wrong(); off.Abs() > limit {
		t.Errorf("wrong by %v, at most %v; calls %v", off, limit, r.Calls())
	}
}

// normal fails unless the kernel has everything back.
func (r *rig) normal(t *testing.T) {
	t.Helper()
	d, err := r.Discipline()
	if err != nil || d.Tick != NormalTick || r.root.Exists(LeasePath) {
		t.Errorf("tick %d, lease %v, %v", d.Tick, r.root.Exists(LeasePath), err)
	}
}

func (r *rig) begin(t *testing.T, offset time.Duration) Plan {
	t.Helper()
	plan, err := r.Start(offset)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func (r *rig) begun(t *testing.T) {
	t.Helper()
	if d, _ := r.Discipline(); d.Tick == NormalTick || !r.root.Exists(LeasePath) || !r.Active() {
		t.Fatalf("no correction is under way: %v", r.Calls())
	}
}

func TestLargeTimeOffset(t *testing.T) {
	for _, c := range []struct {
		wrong time.Duration
		tick  int64
		takes time.Duration
	}{
		{-2 * time.Second, 10050, 402 * time.Second},
		{2 * time.Second, 9950, 398 * time.Second},
		{-18 * time.Second, 10050, time.Hour + 18*time.Second},
		{-10 * time.Minute, 10500, 3*time.Hour + 30*time.Minute},
		{time.Minute, 9833, 3532734 * time.Millisecond}, // 16 700 ppm
		{-time.Hour, 10500, 21 * time.Hour},
	} {
		r := newRig(t, c.wrong, Daemon())
		plan := r.begin(t, -c.wrong)
		if plan.Tick != c.tick || (plan.Takes-c.takes).Abs() > time.Second {
			t.Errorf("%v: %v, want tick %d for %v", c.wrong, plan, c.tick, c.takes)
		}
		r.begun(t)
		r.wait(t, plan.Takes+time.Minute)
		r.band(t, time.Millisecond)
		r.normal(t)
		if r.Backwards() != 0 {
			t.Errorf("%v: back by %v", c.wrong, r.Backwards())
		}
	}
}

// TestSmallTimeOffset: one call, and nothing to look after.
func TestSmallTimeOffset(t *testing.T) {
	for _, wrong := range []time.Duration{1500 * time.Millisecond, -1500 * time.Millisecond, time.Microsecond} {
		r := newRig(t, wrong, Daemon())
		plan := r.begin(t, -wrong)
		if r.Active() || plan.Tick != 0 || len(r.Calls()) != 1 {
			t.Errorf("%v: %v, calls %v", wrong, plan, r.Calls())
		}
		r.wait(t, plan.Takes+time.Second)
		r.band(t, 2*time.Microsecond)
		r.normal(t)
	}
}

// TestPrompt: sclockadj's rate, 1 s in less than four minutes.
func TestPrompt(t *testing.T) {
	r := newRig(t, -time.Second, Prompt())
	plan := r.begin(t, time.Second)
	r.wait(t, 4*time.Minute)
	r.band(t, 10*time.Microsecond)
	r.normal(t)
	if plan.Tick != 10050 || plan.Takes > 4*time.Minute {
		t.Errorf("%v", plan)
	}
}

// TestLargeFrequencyOffset: what a bad oscillator adds meanwhile is not taken
// for the correction, nor is what the kernel already does against it.
func TestLargeFrequencyOffset(t *testing.T) {
	for _, ppm := range []float64{-300, 300} {
		r := newRig(t, -10*time.Second, Daemon())
		r.Drift = ppm
		r.TuneByOther(Discipline{Tick: NormalTick, Frequency: int64(-ppm * (1 << 16)), Status: unix.STA_UNSYNC})
		plan := r.begin(t, 10*time.Second)
		r.wait(t, plan.Takes+time.Minute)
		r.band(t, 3*time.Millisecond)
		r.normal(t)
		if d, _ := r.Discipline(); d.Frequency != int64(-ppm*(1<<16)) {
			t.Errorf("the frequency became %d", d.Frequency)
		}
	}
}

// TestTunedTick: the tick that an administrator set is the one that comes back.
func TestTunedTick(t *testing.T) {
	r := newRig(t, -10*time.Second, Daemon())
	r.TuneByOther(Discipline{Tick: 10003})
	plan := r.begin(t, 10*time.Second)
	if plan.Tick != 10053 {
		t.Errorf("%v", plan)
	}
	r.wait(t, plan.Takes+time.Minute)
	if d, _ := r.Discipline(); d.Tick != 10003 {
		t.Errorf("tick %d", d.Tick)
	}
}

// TestExternalStep: somebody sets the clock in the midst of a correction, or
// before: the correction ends, what is left is forgotten, the caller is told.
func TestExternalStep(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour, 20 * time.Millisecond} {
		r := newRig(t, -10*time.Second, Daemon())
		r.begin(t, 10*time.Second)
		r.At(5*time.Minute, func() { r.SetByOther(step) })
		wake, change := r.wait(t, time.Hour)
		if wake != Stepped || change.Suspended != 0 || (change.Step-step).Abs() > time.Millisecond {
			t.Errorf("%v: %v, %+v", step, wake, change)
		}
		if passed := r.World().Sub(r.begin0()); passed > 5*time.Minute+time.Second {
			t.Errorf("%v: noticed after %v", step, passed)
		}
		r.normal(t)
		r.SetByOther(step)
		if wake, _ := r.wait(t, time.Hour); wake != Stepped {
			t.Errorf("a step while nobody waited: %v", wake)
		}
		if wake, _ := r.wait(t, time.Hour); wake != Elapsed {
			t.Errorf("one step was told twice: %v", wake)
		}
	}
}

// begin0 is when each simulated world begins.
func (r *rig) begin0() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

// TestSuspend: the machine sleeps in the midst of a correction: the clock may
// be anything afterwards. It is told apart from a step.
func TestSuspend(t *testing.T) {
	r := newRig(t, -10*time.Second, Daemon())
	r.begin(t, 10*time.Second)
	r.At(time.Minute, func() { r.Suspend(8*time.Hour, 700*time.Millisecond) })
	wake, change := r.wait(t, time.Hour)
	if wake != Stepped || change.Step != 0 || (change.Suspended-8*time.Hour-700*time.Millisecond).Abs() > time.Millisecond {
		t.Errorf("%v, %+v", wake, change)
	}
	if passed := r.World().Sub(r.begin0()); passed > 8*time.Hour+time.Minute+time.Second {
		t.Errorf("noticed after %v", passed)
	}
	r.normal(t)
}

// TestOwnStep: a jump is no foreign step, and ends a correction.
func TestOwnStep(t *testing.T) {
	r := newRig(t, -10*time.Second, Daemon())
	r.begin(t, 10*time.Second)
	r.wait(t, 100*time.Second)
	if err := r.Jump(-r.Wrong()); err != nil {
		t.Fatal(err)
	}
	r.normal(t)
	if wake, change := r.wait(t, time.Hour); wake != Elapsed {
		t.Errorf("%v, %+v", wake, change)
	}
	r.band(t, time.Microsecond)
}

// TestJumpIsVerified: a clock that takes the call and does not move, as a
// sandbox might, is an error.
func TestJumpIsVerified(t *testing.T) {
	r := newRig(t, -10*time.Second, Daemon())
	r.Refuse = func(string) error { r.SetByOther(-10 * time.Second); return nil }
	if err := r.Jump(10 * time.Second); !errors.Is(err, ErrNotMoved) {
		t.Errorf("%v, want ErrNotMoved", err)
	}
}

// TestNewRound: a correction in the midst of another takes its place.
func TestNewRound(t *testing.T) {
	r := newRig(t, -60*time.Second, Daemon())
	r.begin(t, 60*time.Second)
	r.wait(t, 10*time.Minute)
	left, err := r.Left()
	if err != nil || (left+r.Wrong()).Abs() > time.Millisecond {
		t.Errorf("left %v, wrong by %v, %v", left, r.Wrong(), err)
	}
	plan := r.begin(t, -r.Wrong())
	r.wait(t, plan.Takes+time.Minute)
	r.band(t, time.Millisecond)
	r.begin(t, time.Second) // by a single shot
	r.wait(t, time.Minute)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if left, err := r.Left(); left != 0 || err != nil {
		t.Errorf("%v, %v", left, err)
	}
	if (r.Wrong() - 30*time.Millisecond).Abs() > time.Millisecond {
		t.Errorf("wrong by %v, want a minute's share", r.Wrong())
	}
}

// TestRestoredAfterKill: the process dies in the midst of a correction, with
// nothing of it running any more. The next one, or --restore, undoes it; once.
func TestRestoredAfterKill(t *testing.T) {
	for name, restore := range map[string]func(*testing.T, *rig){
		"next start": func(t *testing.T, r *rig) { r.open(t, Daemon()) },
		"restore": func(t *testing.T, r *rig) {
			done, err := Restore(r.Simulated, r.root, LeasePath)
			if err != nil || done != "set the tick from 10050 back to 10000" {
				t.Errorf("%q, %v", done, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, -10*time.Second, Daemon())
			r.begin(t, 10*time.Second)
			r.begun(t)
			r.Advance(20 * time.Second) // 0.1 s are absorbed, 10 s after the death
			restore(t, r)
			r.normal(t)
			before := r.Wrong()
			if (before + 9900*time.Millisecond).Abs() > time.Millisecond {
				t.Errorf("wrong by %v", before)
			}
			r.Advance(time.Hour)
			if r.Wrong() != before {
				t.Errorf("the clock is still %v an hour too fast", r.Wrong()-before)
			}
			calls := len(r.Calls())
			if done, err := Restore(r.Simulated, r.root, LeasePath); done != "" || err != nil || len(r.Calls()) != calls {
				t.Errorf("again: %q, %v", done, err)
			}
		})
	}
}

// TestForeignTickIsLeftAlone: without a lease, and with one that is not about
// it.
func TestForeignTickIsLeftAlone(t *testing.T) {
	r := newRig(t, 0, Daemon())
	r.TuneByOther(Discipline{Tick: 10020})
	if done, err := Restore(r.Simulated, r.root, LeasePath); done != "" || err != nil {
		t.Errorf("%q, %v", done, err)
	}
	lease := Lease{Boot: bootID(r.root), Tick: NormalTick, Set: 10050, Raw: 1}
	if err := writeLease(r.root, LeasePath, lease); err != nil {
		t.Fatal(err)
	}
	if done, err := Restore(r.Simulated, r.root, LeasePath); !strings.Contains(done, "left alone") || err != nil {
		t.Errorf("%q, %v", done, err)
	}
	if d, _ := r.Discipline(); d.Tick != 10020 || r.root.Exists(LeasePath) || len(r.Calls()) != 0 {
		t.Errorf("tick %d, calls %v", d.Tick, r.Calls())
	}
}

// TestLeaseOfAnotherBoot: by its name, or from the future where the name is
// hidden.
func TestLeaseOfAnotherBoot(t *testing.T) {
	for name, c := range map[string]struct {
		boot string
		raw  time.Duration
		ours bool
	}{
		"same":              {"here", 1, true},
		"other":             {"there", 1, false},
		"hidden":            {"", 1, true},
		"hidden and future": {"", 1000 * time.Hour, false},
	} {
		r := newRig(t, 0, Daemon())
		r.TuneByOther(Discipline{Tick: 10050})
		if err := errors.Join(r.root.MkdirAll("/proc/sys/kernel/random", 0o755), r.root.WriteAtomic(bootPath, []byte("here\n"), 0o644),
			writeLease(r.root, LeasePath, Lease{Boot: c.boot, Tick: NormalTick, Set: 10050, Raw: c.raw})); err != nil {
			t.Fatal(err)
		}
		if _, ok := Current(r.Simulated, r.root, LeasePath); ok != c.ours {
			t.Errorf("%s: current: %v", name, ok)
		}
		done, err := Restore(r.Simulated, r.root, LeasePath)
		d, _ := r.Discipline()
		if err != nil || (d.Tick == NormalTick) != c.ours || r.root.Exists(LeasePath) {
			t.Errorf("%s: %q, %v, tick %d", name, done, err, d.Tick)
		}
	}
}

// TestLeaseGarbage: a lease that tells nothing means that the tick may be ours:
// it becomes the normal one. No link is followed.
func TestLeaseGarbage(t *testing.T) {
	contents := map[string]string{
		"empty": "", "text": "not json", "cut": `{"boot_id":"`, "list": "[1,2]", "numbers": `{"baseline_tick":1,"set_tick":10050,"raw_start_ns":1}`,
		"huge": strings.Repeat("x", leaseMax+1), "negative": `{"baseline_tick":10000,"set_tick":10050,"raw_start_ns":-1}`,
	}
	for name, text := range contents {
		r := newRig(t, 0, Daemon())
		r.TuneByOther(Discipline{Tick: 10050})
		if err := os.WriteFile(r.root.Path(LeasePath), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		done, err := Restore(r.Simulated, r.root, LeasePath)
		if err != nil || !strings.HasPrefix(done, LeasePath+": damaged: set the tick from 10050 back to 10000") {
			t.Errorf("%s: %q, %v", name, done, err)
		}
		r.normal(t)
	}
	r := newRig(t, 0, Daemon())
	victim := r.root.Path("/victim")
	if err := errors.Join(os.WriteFile(victim, []byte("{}"), 0o600), os.Symlink(victim, r.root.Path(LeasePath))); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(r.Simulated, r.root, LeasePath); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(victim); err != nil || r.root.Exists(LeasePath) {
		t.Errorf("%v", err)
	}
}

// TestNotPermitted: without the capability nothing is changed, and nothing is
// left that says otherwise.
func TestNotPermitted(t *testing.T) {
	r := newRig(t, -10*time.Second, Daemon())
	r.Refuse = func(string) error { return unix.EPERM }
	for name, err := range map[string]error{"jump": r.Jump(10 * time.Second), "tick": second(r.Start(10 * time.Second)), "single shot": second(r.Start(time.Second))} {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v, want EPERM", name, err)
		}
	}
	if r.Active() || len(r.Calls()) != 0 {
		t.Errorf("calls %v", r.Calls())
	}
	r.normal(t)
}

func second(_ Plan, err error) error { return err }

// TestCapabilityLost: a tick that cannot be set back keeps its lease, for the
// next process.
func TestCapabilityLost(t *testing.T) {
	r := newRig(t, -10*time.Second, Daemon())
	r.begin(t, 10*time.Second)
	r.Refuse = func(string) error { return unix.EPERM }
	if err := r.Close(); !errors.Is(err, unix.EPERM) || !r.root.Exists(LeasePath) {
		t.Errorf("%v, lease %v", err, r.root.Exists(LeasePath))
	}
	if _, err := Restore(r.Simulated, r.root, LeasePath); !errors.Is(err, unix.EPERM) || !r.root.Exists(LeasePath) {
		t.Errorf("%v, lease %v", err, r.root.Exists(LeasePath))
	}
	r.Refuse = nil
	r.open(t, Daemon())
	r.normal(t)
}

// TestNoLeaseNoSlew: where the lease cannot be written the rate is not changed.
func TestNoLeaseNoSlew(t *testing.T) {
	r := newRig(t, -10*time.Second, Daemon())
	if err := os.RemoveAll(r.root.Path("/run/sdwdate")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Start(10 * time.Second); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if d, _ := r.Discipline(); d.Tick != NormalTick || r.Active() {
		t.Errorf("tick %d", d.Tick)
	}
}

// TestLeaseComesFirst: whenever the tick is changed, a lease is there.
func TestLeaseComesFirst(t *testing.T) {
	r := newRig(t, -10*time.Second, Daemon())
	r.Refuse = func(call string) error {
		if !r.root.Exists(LeasePath) {
			t.Errorf("%s without a lease", call)
		}
		return nil
	}
	r.begin(t, 10*time.Second)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if calls := r.Calls(); !slices.Equal(calls, []string{"tick 10050", "tick 10000"}) {
		t.Errorf("%v", calls)
	}
}

// TestAnotherDiscipline: what a stopped daemon left behind is ended once; one
// that comes back is at work, and the clock is its own.
func TestAnotherDiscipline(t *testing.T) {
	r := newRig(t, -10*time.Second, Daemon())
	r.TuneByOther(Discipline{Tick: NormalTick, Status: unix.STA_PLL | unix.STA_UNSYNC})
	r.begin(t, 10*time.Second)
	if calls := r.Calls(); !slices.Equal(calls, []string{"status 0x40", "step 0s", "tick 10050"}) || len(r.logs) != 1 {
		t.Errorf("%v, %q", calls, r.logs)
	}
	r.At(time.Minute, func() { r.TuneByOther(Discipline{Tick: 10050, Status: unix.STA_PLL}) })
	if _, _, err := r.Slewer.Wait(context.Background(), time.Hour); !errors.Is(err, ErrSteered) {
		t.Errorf("%v, want ErrSteered", err)
	}
	r.normal(t)
	calls := len(r.Calls())
	if _, err := r.Start(10 * time.Second); !errors.Is(err, ErrSteered) || len(r.Calls()) != calls {
		t.Errorf("%v, %v", err, r.Calls())
	}
}

// TestInterference: a tick or frequency that another program sets meanwhile is
// that program's.
func TestInterference(t *testing.T) {
	for _, c := range []struct {
		theirs Discipline
		after  int64
	}{
		{Discipline{Tick: 10007}, 10007},
		{Discipline{Tick: NormalTick}, NormalTick},
		{Discipline{Tick: 10050, Frequency: 1 << 16}, NormalTick},
	} {
		r := newRig(t, -10*time.Second, Daemon())
		r.begin(t, 10*time.Second)
		r.At(time.Minute, func() { r.TuneByOther(c.theirs) })
		if _, _, err := r.Slewer.Wait(context.Background(), time.Hour); !errors.Is(err, ErrInterfered) {
			t.Errorf("%+v: %v", c.theirs, err)
		}
		if d, _ := r.Discipline(); d.Tick != c.after || r.Active() || r.root.Exists(LeasePath) {
			t.Errorf("%+v: tick %d", c.theirs, d.Tick)
		}
	}
}

// TestEnded: when the context ends, the owner's Close sets everything back.
func TestEnded(t *testing.T) {
	r := newRig(t, -10*time.Second, Daemon())
	r.begin(t, 10*time.Second)
	ctx, cancel := context.WithCancel(context.Background())
	r.At(90*time.Second, cancel)
	if wake, _, err := r.Slewer.Wait(ctx, time.Hour); wake != Ended || err != nil {
		t.Errorf("%v, %v", wake, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	r.normal(t)
}

// TestMaxChange: no policy, tick or offset makes a rate beyond the limits, the
// kernel's or the administrator's, or one in the wrong direction.
func TestMaxChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Daemon()
		p.MaxPPM = rapid.IntRange(500, 100000).Draw(t, "MAX_SLEW_PPM")
		offset := time.Duration(rapid.Int64Range(-1<<62, 1<<62).Draw(t, "offset"))
		if rapid.Bool().Draw(t, "small") {
			offset %= 4000 * time.Second
		}
		tick := rapid.Int64Range(MinTick, MaxTick).Draw(t, "tick")
		plan := p.Plan(offset, tick)
		if plan.Tick == 0 {
			return
		}
		ppm := float64(plan.Tick-tick) * TickPPM
		switch {
		case plan.Tick < MinTick || plan.Tick > MaxTick:
			t.Fatalf("tick %d", plan.Tick)
		case plan.PPM != ppm || ppm > float64(p.MaxPPM) || ppm < -float64(p.MaxPPM):
			t.Fatalf("%v ppm for a plan of %v", ppm, plan)
		case (ppm > 0) != (offset > 0):
			t.Fatalf("the wrong direction: %v", plan)
		case plan.Takes < 0:
			t.Fatalf("takes %v", plan.Takes)
		}
	})
}

// TestMonotone: whatever the offset, the oscillator, the load of the machine and
// the moment of an end: slewing never takes the clock back, always
// knows what is left, and leaves the kernel as it was.
func TestMonotone(t *testing.T) {
	root := fsx.Root(t.TempDir())
	if err := root.MkdirAll("/run/sdwdate", 0o755); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		wrong := time.Duration(rapid.Int64Range(-int64(5*time.Minute), int64(5*time.Minute)).Draw(t, "wrong"))
		sim := NewSimulated(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), wrong)
		sim.Drift = float64(rapid.IntRange(-100, 100).Draw(t, "drift"))
		load := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "load"), 0))
		sim.Late = func() time.Duration { return time.Duration(load.Int64N(int64(3 * time.Second))) }
		base := Discipline{Tick: rapid.Int64Range(9990, 10010).Draw(t, "tick"), Frequency: rapid.Int64Range(-500<<16, 500<<16).Draw(t, "frequency")}
		sim.TuneByOther(base)
		// With everything off, the clock would run away by so much an hour.
		natural := time.Duration((base.ppm() + sim.Drift) / 1e6 * float64(time.Hour))
		policy := Daemon()
		policy.MaxPPM = 100000
		s, err := NewSlewer(Options{Clock: sim, Policy: policy, Root: root, Lease: LeasePath, Log: func(string) {}})
		if err != nil {
			t.Fatal(err)
		}
		plan, err := s.Start(-wrong)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if rapid.Bool().Draw(t, "interrupted") {
			sim.At(time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, "at")), cancel)
		}
		wake, _, err := s.Wait(ctx, plan.Takes+time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		passed := sim.World().Sub(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC))
		rest := sim.Wrong() - scale(natural, passed.Hours())
		left, err := s.Left()
		if err != nil || (rest+left).Abs() > 5*time.Millisecond || wake == Elapsed && (s.Active() || rest.Abs() > 300*time.Millisecond) {
			t.Fatalf("%v: %v left, known %v (wrong by %v, of that %v by itself), %v; %v", wake, rest, left, sim.Wrong(), sim.Wrong()-rest, err, sim.Calls())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		d, _ := sim.Discipline()
		if d != base || sim.Backwards() != 0 || root.Exists(LeasePath) {
			t.Fatalf("left %+v, back by %v", d, sim.Backwards())
		}
	})
}
