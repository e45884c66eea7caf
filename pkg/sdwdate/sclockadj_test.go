// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	lease    string
	out, err bytes.Buffer
}

func newAdjustRig(t *testing.T, wrong time.Duration) *adjustRig {
	t.Helper()
	return &adjustRig{sim: clock.NewSimulated(worldNow(), wrong), root: fsx.Root(t.TempDir()), signals: make(chan os.Signal, 1), lease: clock.LeasePath}
}

// call runs the program and returns its exit code.
func (r *adjustRig) call(args ...string) int {
	r.out.Reset()
	r.err.Reset()
	env := cli.Env{Args: append([]string{"sclockadj"}, args...), Stdout: &r.out, Stderr: &r.err}
	return cli.Run(context.Background(), env, func(ctx context.Context, env cli.Env) error {
		return (&sclockadj{env: env, clock: r.sim, root: r.root, lease: r.lease, signals: r.signals}).run(ctx)
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

// killed leaves behind what a sclockadj does that is killed after a minute.
func (r *adjustRig) killed(t *testing.T) {
	t.Helper()
	r.living(t)
	r.owner(t, noProcess(t), 0)
}

// owner makes the lease another process's.
func (r *adjustRig) owner(t *testing.T, pid int, begun uint64) {
	t.Helper()
	data, err := r.root.ReadFile(r.lease, 4096)
	if err != nil {
		t.Fatal(err)
	}
	var l clock.Lease
	if err := json.Unmarshal(data, &l); err != nil {
		t.Fatal(err)
	}
	l.PID, l.Begun = pid, begun
	if data, err = json.Marshal(l); err != nil {
		t.Fatal(err)
	}
	if err := r.root.WriteAtomic(r.lease, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// noProcess is the number of a process that has ended.
func noProcess(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// living is a correction of a minute ago that goes on. The lease names the
// process of this test.
func (r *adjustRig) living(t *testing.T) {
	t.Helper()
	if err := r.root.MkdirAll(filepath.Dir(r.lease), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := clock.NewSlewer(clock.Options{Clock: r.sim, Policy: clock.Prompt(), Root: r.root, Lease: r.lease, Log: func(string) {}})
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
// one; and what a living process does is not undone behind its back.
func TestSclockadjOnce(t *testing.T) {
	r := newAdjustRig(t, -7*time.Second)
	r.living(t)
	for _, arg := range []string{"7000000000", "--restore"} {
		if code := r.call(arg); code != 1 || !strings.Contains(r.err.String(), fmt.Sprintf("process %d is moving the clock\nsclockadj: hint: ", os.Getpid())) {
			t.Errorf("%s: exit %d, %s", arg, code, &r.err)
		}
	}
	if calls := r.sim.Calls(); !slices.Equal(calls, []string{"tick 10050"}) || !r.root.Exists(r.lease) {
		t.Errorf("%v", calls)
	}
}

// TestSclockadjNumberAgain: the number of the dead process is another's by now:
// what the dead one left is undone all the same.
func TestSclockadjNumberAgain(t *testing.T) {
	r := newAdjustRig(t, -7*time.Second)
	r.living(t)
	stat := "1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n"
	write(t, r.root, fmt.Sprintf("/proc/%d/stat", os.Getpid()), fmt.Sprintf(stat, 500))
	r.owner(t, os.Getpid(), 500)
	if code := r.call("--restore"); code != 1 || !r.root.Exists(r.lease) {
		t.Errorf("the same process: exit %d", code)
	}
	r.owner(t, os.Getpid(), 499)
	if code := r.call("--restore"); code != 0 || r.root.Exists(r.lease) {
		t.Errorf("another one: exit %d, %s", code, &r.err)
	}
	if d, _ := r.sim.Discipline(); d.Tick != clock.NormalTick {
		t.Errorf("tick %d", d.Tick)
	}
}

// TestSclockadjHome: somebody runs sdwdate from home; its lease is there, and is
// found by the same account, and by root when told whose.
func TestSclockadjHome(t *testing.T) {
	env := cli.Env{Environ: []string{"HOME=/home/user"}}
	const lease = "/home/user/sdwdate/slew.lease"
	if own, roots := ownLease(env, 1000), ownLease(env, 0); own != lease || roots != clock.LeasePath {
		t.Errorf("%s, root's %s", own, roots)
	}
	if other := ownLease(cli.Env{Environ: []string{"HOME=/run/sdwdate"}}, 1000); other != clock.LeasePath {
		t.Error(other)
	}
	r := newAdjustRig(t, -7*time.Second)
	r.lease = lease
	r.living(t)
	r.lease = clock.LeasePath
	if code := r.call("--restore", "/home/user"); code != 1 || !strings.Contains(r.err.String(), "is moving the clock") {
		t.Errorf("alive: exit %d, %s", code, &r.err)
	}
	r.lease = lease
	r.owner(t, noProcess(t), 0)
	r.lease = clock.LeasePath
	if code := r.call("--restore"); code != 0 || r.out.Len() != 0 {
		t.Errorf("another's: exit %d, %s", code, &r.out)
	}
	for _, home := range []string{"/etc", "/home", "/home/../etc", "home/user", "/home/user/sdwdate"} {
		if code := r.call("--restore", home); code != 1 || !strings.Contains(r.err.String(), "is no home directory below /home") {
			t.Errorf("%s: exit %d, %s", home, code, &r.err)
		}
	}
	if code := r.call("--restore", "/home/user"); code != 0 || r.out.String() != "set the tick from 10050 back to 10000\n" || r.root.Exists(lease) {
		t.Errorf("dead: exit %d, %s%s", code, &r.out, &r.err)
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
