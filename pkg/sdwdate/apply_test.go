// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/clock/clocktest"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

func init() { clocktest.Forbid() }

const (
	testStatus    = "/run/sdwdate"
	testState     = "/var/lib/sdwdate"
	testTolerance = 100
)

// clockRig is an applier on a simulated machine.
type clockRig struct {
	*applier
	sim   *clock.Simulated
	lines []string
}

func (r *clockRig) infof(format string, args ...any)  { r.add("INFO", format, args...) }
func (r *clockRig) warnf(format string, args ...any)  { r.add("WARNING", format, args...) }
func (r *clockRig) errorf(format string, args ...any) { r.add("ERROR", format, args...) }
func (r *clockRig) add(level, format string, args ...any) {
	r.lines = append(r.lines, level+" "+fmt.Sprintf(format, args...))
}

func (r *clockRig) has(t *testing.T, line string) {
	t.Helper()
	if !slices.Contains(r.lines, line) {
		t.Errorf("no line %q in\n%s", line, strings.Join(r.lines, "\n"))
	}
}

func worldNow() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

func newClockRig(t *testing.T, wrong time.Duration) *clockRig {
	t.Helper()
	r := &clockRig{sim: clock.NewSimulated(worldNow(), wrong)}
	root := fsx.Root(t.TempDir())
	for _, dir := range []string{testStatus, testState} {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.applier = &applier{root: root, status: testStatus, state: testState, log: r}
	r.start(t)
	return r
}

// start is the start of the daemon.
func (r *clockRig) start(t *testing.T) {
	t.Helper()
	s, err := clock.NewSlewer(clock.Options{Clock: r.sim, Policy: clock.Daemon(), Root: r.root, Lease: clock.LeasePath, Log: func(line string) { r.infof("%s", line) }})
	if err != nil {
		t.Fatal(err)
	}
	r.slewer = s
}

func (r *clockRig) put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(r.root.Path(path), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (r *clockRig) read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(r.root.Path(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// correct applies what a perfect round would have measured.
func (r *clockRig) correct(floor int64) error {
	return r.apply(-r.sim.Wrong(), r.sim.Sample(), floor, testTolerance)
}

func TestDecide(t *testing.T) {
	now := worldNow()
	for _, c := range []struct {
		name        string
		offset      time.Duration
		floor       int64
		first, once bool
		want        step
	}{
		{"first", 7 * time.Second, 0, true, false, stepJump},
		{"first, by nothing", 0, 0, true, true, stepNone},
		{"later", 7 * time.Second, 0, false, false, stepSlew},
		{"later, back", -7 * time.Second, 0, false, false, stepSlew},
		{"asked for", -7 * time.Second, 0, false, true, stepJump},
		{"replay", 0, now.Unix() + 101, true, true, stepRefused},
		{"just no replay", 0, now.Unix() + 100, false, false, stepNone},
		{"replay, rounded", 499 * time.Millisecond, now.Unix() + 101, false, false, stepRefused},
		{"no replay, rounded", 500 * time.Millisecond, now.Unix() + 101, false, false, stepSlew},
	} {
		got := correction{Now: now, Offset: c.offset, Floor: c.floor, Tolerance: testTolerance, First: c.first, JumpOnce: c.once}.decide()
		if got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestFloorProperties: the floor never falls, is never beyond what the network
// said unless it was before, and what was accepted is accepted again.
func TestFloorProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := correction{
			Now:       time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "now"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")),
			Offset:    time.Duration(rapid.Int64Range(-1e18, 1e18).Draw(t, "offset")),
			Floor:     rapid.Int64Range(0, 4e9).Draw(t, "floor"),
			Tolerance: testTolerance,
			First:     rapid.Bool().Draw(t, "first"), JumpOnce: rapid.Bool().Draw(t, "once"),
		}
		next := c.nextFloor()
		if next < c.Floor || next > max(c.Floor, c.Unixtime()) {
			t.Fatalf("floor %d -> %d", c.Floor, next)
		}
		refused := c.decide() == stepRefused
		if refused != (c.Unixtime() < c.Floor-testTolerance) {
			t.Fatalf("refused: %v", refused)
		}
		again := c
		again.Floor = next
		if !refused && again.decide() == stepRefused {
			t.Fatal("its own floor refuses it")
		}
	})
}

// TestAcceptance01_JumpOrder: the first correction is one jump; the files
// appear in order, and only when the clock is right.
func TestAcceptance01_JumpOrder(t *testing.T) {
	r := newClockRig(t, -7*time.Second)
	r.sim.Refuse = func(string) error {
		if r.root.Exists(testStatus+"/first_success") || r.root.Exists(testStatus+"/success") {
			t.Error("success before the clock was set")
		}
		return nil
	}
	if err := r.correct(1e9); err != nil {
		t.Fatal(err)
	}
	if calls := r.sim.Calls(); !slices.Equal(calls, []string{"step 7s"}) || r.sim.Wrong() != 0 {
		t.Errorf("%v, wrong by %v", calls, r.sim.Wrong())
	}
	for _, name := range []string{"first_success", "success"} {
		if text := r.read(t, testStatus+"/"+name); text != "" {
			t.Errorf("%s: %q", name, text)
		}
	}
	unixtime := fmt.Sprint(worldNow().Unix())
	if got := r.read(t, testState+"/time-replay-protection-utc-unixtime"); got != unixtime {
		t.Errorf("floor %q, want %q", got, unixtime)
	}
	if got := r.read(t, testState+"/time-replay-protection-utc-humanreadable"); got != "2026-11-25 12:00:00" {
		t.Errorf("floor %q", got)
	}
	for _, line := range []string{
		"replay_protection_unixtime: 1000000000", "old_unixtime              : 1795607993.000000000", "new_unixtime              : 1795608000.000000000",
		"replay_protection_time          : 2001-09-09 01:46:40", "old_unixtime_human_readable     : 2026-11-25 11:59:53",
		"new_unixtime_human_readable     : 2026-11-25 12:00:00",
		"Time Replay Protection: write 1795608000 to file: /var/lib/sdwdate/time-replay-protection-utc-unixtime",
	} {
		r.has(t, "INFO "+line)
	}
}

// TestAcceptance02_Slew: later corrections are gradual.
func TestAcceptance02_Slew(t *testing.T) {
	r := newClockRig(t, -7*time.Second)
	r.put(t, testStatus+"/first_success", "")
	if err := r.correct(1e9); err != nil {
		t.Fatal(err)
	}
	if calls := r.sim.Calls(); !slices.Equal(calls, []string{"tick 10050"}) || !r.slewer.Active() {
		t.Errorf("%v", calls)
	}
	r.has(t, "INFO Gradually adjusting the time: +7.000000 s at +5000 ppm (tick 10050), takes 23m27s.")
	if wake, _, err := r.slewer.Wait(context.Background(), time.Hour); wake != clock.Elapsed || err != nil {
		t.Fatalf("%v, %v", wake, err)
	}
	if off := r.sim.Wrong().Abs(); off > time.Millisecond || r.slewer.Active() || r.sim.Backwards() != 0 || r.root.Exists(clock.LeasePath) {
		t.Errorf("off by %v, active %v, back by %v, calls %v", off, r.slewer.Active(), r.sim.Backwards(), r.sim.Calls())
	}
}

// TestAcceptance03_SingleShot: an ordinary correction is one call.
func TestAcceptance03_SingleShot(t *testing.T) {
	for wrong, want := range map[time.Duration]string{time.Second: "single -1s", -time.Second: "single 1s"} {
		r := newClockRig(t, wrong)
		r.put(t, testStatus+"/first_success", "")
		if err := r.correct(1e9); err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.slewer.Wait(context.Background(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if calls := r.sim.Calls(); !slices.Equal(calls, []string{want}) || r.sim.Wrong().Abs() > time.Microsecond {
			t.Errorf("%v, wrong by %v", calls, r.sim.Wrong())
		}
	}
}

// TestAcceptance06_FastClock: a fast clock that is corrected gradually does not
// store its own time as the floor (D1).
func TestAcceptance06_FastClock(t *testing.T) {
	r := newClockRig(t, 3000*time.Second)
	r.put(t, testStatus+"/first_success", "")
	if err := r.correct(1e9); err != nil {
		t.Fatal(err)
	}
	if got := r.read(t, testState+"/"+fileFloor); got != fmt.Sprint(worldNow().Unix()) {
		t.Fatalf("floor %s, want the network's time", got)
	}
	if err := r.slewer.Close(); err != nil {
		t.Fatal(err)
	}
	r.sim.Advance(10 * time.Minute)
	r.start(t)
	if err := r.correct(worldNow().Unix()); err != nil {
		t.Errorf("the next round: %v", err)
	}
}

// TestAcceptance07_Floor: a floor a little ahead of the servers is their
// inaccuracy; one far ahead is a replay, and nothing is touched.
func TestAcceptance07_Floor(t *testing.T) {
	r := newClockRig(t, time.Minute)
	before := worldNow().Unix() + 50
	if err := r.correct(before); err != nil {
		t.Fatal(err)
	}
	if got := r.read(t, testState+"/"+fileFloor); got != fmt.Sprint(before) {
		t.Errorf("the floor fell to %s", got)
	}
	r = newClockRig(t, time.Minute)
	r.put(t, testStatus+"/clock_jump_do_once", "")
	if err := r.correct(worldNow().Unix() + 200); !errors.Is(err, errReplay) {
		t.Errorf("%v, want a refusal", err)
	}
	if len(r.sim.Calls()) != 0 || r.root.Exists(testStatus+"/success") || r.root.Exists(testState+"/"+fileFloor) || !r.root.Exists(testStatus+"/clock_jump_do_once") {
		t.Errorf("touched: %v", r.sim.Calls())
	}
	r.has(t, "ERROR Time Replay Protection: ERROR. See above. new_unixtime earlier than time_replay_protection_minium_unixtime_int.")
}

// TestJumpOnce: one correction jumps because somebody asked, the next does not.
func TestJumpOnce(t *testing.T) {
	r := newClockRig(t, 90*time.Second)
	r.put(t, testStatus+"/first_success", "")
	r.put(t, testStatus+"/clock_jump_do_once", "")
	if err := r.correct(1e9); err != nil {
		t.Fatal(err)
	}
	if calls := r.sim.Calls(); !slices.Equal(calls, []string{"step -1m30s"}) || r.root.Exists(testStatus+"/clock_jump_do_once") {
		t.Errorf("%v", calls)
	}
	r.sim.SetByOther(20 * time.Second)
	if err := r.correct(1e9); err != nil || !r.slewer.Active() {
		t.Errorf("%v: %v", err, r.sim.Calls())
	}
}

// TestClockChangedMeanwhile: an offset that was measured before somebody set
// the clock is worth nothing.
func TestClockChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(*clock.Simulated){
		"step":    func(s *clock.Simulated) { s.SetByOther(time.Minute) },
		"suspend": func(s *clock.Simulated) { s.Suspend(time.Hour, 0) },
	} {
		r := newClockRig(t, -7*time.Second)
		measured := r.sim.Sample()
		change(r.sim)
		if err := r.apply(7*time.Second, measured, 1e9, testTolerance); !errors.Is(err, errClockChanged) || len(r.sim.Calls()) != 0 {
			t.Errorf("%s: %v, %v", name, err, r.sim.Calls())
		}
	}
}

// TestNotPermitted: nothing says success where the clock could not be set
// (D16).
func TestNotPermitted(t *testing.T) {
	for _, later := range []bool{false, true} {
		r := newClockRig(t, -7*time.Second)
		if later {
			r.put(t, testStatus+"/first_success", "")
		}
		r.sim.Refuse = func(string) error { return unix.EPERM }
		err := r.correct(1e9)
		if !errors.Is(err, unix.EPERM) || !strings.Contains(describeClockError(err), "CAP_SYS_TIME") {
			t.Errorf("%v, want EPERM", err)
		}
		if r.root.Exists(testStatus+"/success") || r.root.Exists(testState+"/"+fileFloor) || r.root.Exists(clock.LeasePath) {
			t.Error("there are files that tell of a success")
		}
	}
}

// TestNoRoomForState: the clock is set, and the error says what could not be
// written.
func TestNoRoomForState(t *testing.T) {
	r := newClockRig(t, -7*time.Second)
	r.state = "/missing"
	if err := r.correct(1e9); err == nil || !strings.Contains(err.Error(), "/missing") {
		t.Errorf("%v", err)
	}
}

// TestRepair: what Tor knows moves a slow clock, forward only, and within the
// bounds (D32).
func TestRepair(t *testing.T) {
	now := worldNow()
	for _, c := range []struct {
		name string
		to   time.Time
		want bool
	}{
		{"forward", now.Add(time.Hour), true},
		{"no change", now, false},
		{"back", now.Add(-time.Hour), false},
		{"before the floor", now.Add(9 * time.Minute), false},
		{"beyond all", time.Unix(1999936801, 0), false},
	} {
		r := newClockRig(t, 0)
		done, err := r.repair(c.to, now.Add(10*time.Minute).Unix(), 1999936800)
		if err != nil || done != c.want || done != (len(r.sim.Calls()) == 1) {
			t.Errorf("%s: %v, %v, %v", c.name, done, err, r.sim.Calls())
		}
		if done && !r.sim.Now().Equal(c.to) {
			t.Errorf("%s: %v", c.name, r.sim.Now())
		}
	}
}

// TestStopWords: the log's words when a round ends.
func TestStopWords(t *testing.T) {
	r := newClockRig(t, -7*time.Second)
	r.put(t, testStatus+"/first_success", "")
	if err := errors.Join(r.correct(1e9), r.stop(), r.stop()); err != nil {
		t.Fatal(err)
	}
	if last := r.lines[len(r.lines)-2:]; !slices.Equal(last, []string{"INFO Terminated sclockadj process.", "INFO sclockadj process not running, ok."}) {
		t.Errorf("%q", last)
	}
	if d, _ := r.sim.Discipline(); d.Tick != clock.NormalTick {
		t.Errorf("tick %d", d.Tick)
	}
}

// TestSyncHardwareClock: only where there is something to call, and with no
// effect but a line in the log.
func TestSyncHardwareClock(t *testing.T) {
	r := newClockRig(t, 0)
	r.syncHardwareClock(context.Background())
	if len(r.lines) != 0 {
		t.Errorf("%q", r.lines)
	}
	program := func(path, text string) {
		t.Helper()
		if err := r.root.MkdirAll(path[:strings.LastIndex(path, "/")], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(r.root.Path(path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program(hwclockPath, "")
	program(leaprunPath, "#!/bin/sh\n[ \"$*\" = sdwdate-sync-hwclock ] || exit 7\n")
	r.syncHardwareClock(context.Background())
	r.has(t, "INFO Hardware clock synchronised.")
	program(leaprunPath, "#!/bin/sh\nexit 3\n")
	r.lines = nil
	r.syncHardwareClock(context.Background())
	if len(r.lines) != 1 || !strings.HasPrefix(r.lines[0], "INFO The hardware clock was not synchronised: ") {
		t.Errorf("%q", r.lines)
	}
	program(whonix.QubesMarker, "")
	r.lines = nil
	r.syncHardwareClock(context.Background())
	if len(r.lines) != 0 {
		t.Errorf("Qubes: %q", r.lines)
	}
}
