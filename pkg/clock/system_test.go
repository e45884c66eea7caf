// SPDX-License-Identifier: GPL-3.0-or-later

package clock

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/clock/clocktest"
	"whonix-networking/pkg/fsx"
)

func init() { clocktest.Forbid() }

// TestForbidden: outside a machine of its own no test can change the clock,
// and the error is the one that programs look for.
func TestForbidden(t *testing.T) {
	if clocktest.Own() {
		t.Fatal("this test is for a machine whose clock is not ours")
	}
	c := System()
	for name, err := range map[string]error{
		"step": c.Step(0), "tick": c.SetTick(NormalTick), "status": c.SetStatus(unix.STA_UNSYNC), "single shot": c.SingleShot(0),
	} {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v, want EPERM", name, err)
		}
	}
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{}); !errors.Is(err, unix.EPERM) {
		t.Errorf("clock_settime: %v, want EPERM", err)
	}
}

// TestSystemReads: what needs no capability.
func TestSystemReads(t *testing.T) {
	c := System()
	d, err := c.Discipline()
	if err != nil || d.Tick < MinTick || d.Tick > MaxTick {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := c.SingleShotLeft(); err != nil {
		t.Error(err)
	}
	a, b := c.Sample(), c.Sample()
	if b.Monotonic < a.Monotonic || b.Raw < a.Raw || b.Boot < a.Boot || a.Boot < a.Monotonic-a.Spread || Between(a, b).Any() {
		t.Errorf("%+v, then %+v", a, b)
	}
	if off := time.Until(c.Now()).Abs(); off > time.Minute {
		t.Errorf("off by %v", off)
	}
}

// TestSystemWatch: a wait ends when the time is over or the context is, before
// it as well as meanwhile; the next wait does not end for the last one's
// context.
func TestSystemWatch(t *testing.T) {
	c := System()
	w, err := c.Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	wait := func(ctx context.Context, d time.Duration, want Wake) {
		t.Helper()
		if got, err := w.Wait(ctx, d); got != want || err != nil {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	before := c.Sample().Boot
	wait(context.Background(), 20*time.Millisecond, Elapsed)
	if passed := c.Sample().Boot - before; passed < 20*time.Millisecond {
		t.Errorf("waited %v", passed)
	}
	wait(context.Background(), 0, Elapsed)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	wait(ctx, time.Hour, Ended)
	wait(ctx, time.Hour, Ended)
	wait(context.Background(), time.Millisecond, Elapsed)
}

// TestSystemSlewer: on the machine's own clock everything works that needs no
// capability, and nothing else does anything.
func TestSystemSlewer(t *testing.T) {
	root := fsx.Root(t.TempDir())
	if err := root.MkdirAll("/run/sdwdate", 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := NewSlewer(Options{Clock: System(), Policy: Daemon(), Root: root, Lease: LeasePath, Log: func(line string) { t.Error(line) }})
	if err != nil {
		t.Fatal(err)
	}
	if wake, change, err := s.Wait(context.Background(), 20*time.Millisecond); wake != Elapsed || change.Any() || err != nil {
		t.Errorf("%v, %+v, %v", wake, change, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Millisecond, cancel)
	if wake, _, err := s.Wait(ctx, time.Hour); wake != Ended || err != nil {
		t.Errorf("%v, %v", wake, err)
	}
	for _, offset := range []time.Duration{time.Second, 10 * time.Second} {
		if _, err := s.Start(offset); !errors.Is(err, unix.EPERM) || s.Active() || root.Exists(LeasePath) {
			t.Errorf("%v: %v, want EPERM", offset, err)
		}
	}
	if err := s.Jump(time.Second); !errors.Is(err, unix.EPERM) {
		t.Errorf("%v, want EPERM", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
