// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/torctl"
	"whonix-networking/pkg/torctl/tortest"
	"whonix-networking/pkg/whonix"
)

// exactly makes every server answer at once, with a Date that shows its pool's
// offset from the local clock.
func (w *world) exactly(offsets ...time.Duration) {
	for i, offset := range offsets {
		w.each(i, func(_ int, s *server) { s.offset, s.latency = offset, 0 })
	}
}

// TestAcceptance01_WholeRound: pools that are 5, 7 and 9 s ahead: one jump by 7,
// then the files, then the success, then the hardware clock.
func TestAcceptance01_WholeRound(t *testing.T) {
	w := newWorld(t, 3, 0)
	w.exactly(5*time.Second, 7*time.Second, 9*time.Second)
	ran := w.root.Path("/ran")
	w.write("/usr/bin/leaprun", "#!/bin/sh\necho \"$@\" >> "+ran+"\ncat "+w.root.Path("/run/sdwdate/status")+" >> "+ran+"\n")
	w.write("/usr/sbin/hwclock", "")
	for _, p := range []string{"/usr/bin/leaprun", "/usr/sbin/hwclock"} {
		if err := os.Chmod(w.root.Path(p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.once(); err != nil {
		t.Fatal(err)
	}
	w.background.Wait()
	if wrong := w.clock.Wrong() - 7*time.Second; wrong.Abs() > accuracy || w.steps() != 1 || len(w.clock.Calls()) != 1 {
		t.Errorf("off by %v, %v", wrong, w.clock.Calls())
	}
	for _, name := range []string{fileFirstSuccess, fileSuccess} {
		if !w.status.has(name) {
			t.Errorf("%s is missing", name)
		}
	}
	floor, _ := strconv.ParseInt(w.read(floorFile), 10, 64)
	if now := w.clock.Now().Unix(); floor < now-3 || floor > now+1 || w.read(floorHumanFile) != human(floor) {
		t.Errorf("floor %d, %q, now %d", floor, w.read(floorHumanFile), now)
	}
	const status = `{"icon": "success", "message": "Success."}`
	if got := strings.TrimRight(w.read("/run/sdwdate/status"), " "); got != status || w.read("/run/sdwdate/msg") != "Success." {
		t.Errorf("%s, %s", got, w.read("/run/sdwdate/msg"))
	}
	if got := w.read("/ran"); strings.TrimRight(got, " ") != "sdwdate-sync-hwclock\n"+status {
		t.Errorf("leaprun: %q", got)
	}
	w.inOrder("Initial time fetching in progress...", "Running sdwdate fetch loop. iteration: 1", "requested urls ['http", "End fetching remote times.",
		"median lag_cleaned time difference: +", "Not randomizing nanoseconds.", "new time difference               : +", "replay_protection_unixtime: ",
		"Time Replay Protection: write ", "INFO - Success.")
}

// TestHardwareClockWaits: while the clock is being moved it shows a time that is
// known to be wrong: the hardware clock gets it when that is over, and only then,
// and not at all when somebody else set the clock meanwhile (D16).
func TestHardwareClockWaits(t *testing.T) {
	for _, c := range []struct {
		offset        time.Duration
		before, after time.Duration // into the sleep
		disturb       func(*world)
		times         int
	}{
		{7 * time.Second, 15 * time.Minute, 20 * time.Minute, nil, 1}, // 1400 s by the tick, more or less
		{time.Second, 10 * time.Minute, time.Hour, nil, 1},            // 2000 s by a single shot, more or less
		{7 * time.Second, 10 * time.Minute, 30 * time.Minute, func(w *world) { w.clock.SetByOther(time.Hour) }, 0},
		{7 * time.Second, 10 * time.Minute, 30 * time.Minute, func(w *world) { w.clock.TuneByOther(clock.Discipline{Tick: 10001}) }, 0},
	} {
		w := newWorld(t, 3, 0)
		w.first()
		w.exactly(c.offset, c.offset, c.offset)
		w.write("/usr/bin/leaprun", "#!/bin/sh\necho \"$@\" >> "+w.root.Path("/ran")+"\n")
		w.write("/usr/sbin/hwclock", "")
		for _, p := range []string{"/usr/bin/leaprun", "/usr/sbin/hwclock"} {
			if err := os.Chmod(w.root.Path(p), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		ran := func() int {
			w.background.Wait()
			data, _ := os.ReadFile(w.root.Path("/ran"))
			return strings.Count(string(data), "sdwdate-sync-hwclock\n")
		}
		w.configure()
		good, err := w.cycle(context.Background())
		var foreign time.Duration
		sleep := func(span time.Duration) {
			if err := w.sleep(context.Background(), span, &foreign); err != nil {
				t.Fatal(err)
			}
		}
		sleep(c.before)
		if !good || err != nil || ran() != 0 {
			t.Fatalf("%v: %v, %v, hardware clock %d times while the clock was moved", c.offset, good, err, ran())
		}
		if c.disturb != nil {
			c.disturb(w)
		}
		sleep(c.after)
		if ran() != c.times || c.times > 0 && (w.clock.Wrong()-c.offset).Abs() > accuracy {
			t.Errorf("%v: hardware clock %d times, want %d; off by %v", c.offset, ran(), c.times, w.clock.Wrong()-c.offset)
		}
		if sleep(3 * time.Hour); ran() != c.times {
			t.Errorf("%v: again", c.offset)
		}
	}
}

// inOrder looks for texts in the log, one after the other.
func (w *world) inOrder(texts ...string) {
	w.t.Helper()
	log := w.out.String()
	for _, text := range texts {
		_, rest, ok := strings.Cut(log, text)
		if !ok {
			w.t.Errorf("%q is not in the log, or not in its place", text)
			return
		}
		log = rest
	}
}

// TestHarmlessLog: an ordinary life has no words that would alarm systemcheck.
func TestHarmlessLog(t *testing.T) {
	w := newWorld(t, 5, 3*time.Second)
	w.configuration("RANDOMIZE_TIME=true\n")
	w.live(24 * time.Hour)
	alarming := regexp.MustCompile(`(?i)warn|fail|error|killed|segfault|bug\b|fault`)
	for line := range strings.Lines(w.out.String()) {
		if alarming.MatchString(line) && !strings.Contains(line, "_list:") {
			t.Errorf("%s", line)
		}
	}
	w.inOrder("Randomizing nanoseconds.", "randomize                         : ", "Sleeping for ", " minutes, ok.", "Slept for about ", "Running sdwdate main loop. iteration: 2")
}

// TestAcceptance07_FloorOfARound: a floor 50 s ahead of the servers is accepted,
// one 200 s ahead refuses all of them.
func TestAcceptance07_FloorOfARound(t *testing.T) {
	for ahead, good := range map[time.Duration]bool{50 * time.Second: true, 200 * time.Second: false} {
		w := newWorld(t, 5, -10*time.Second)
		w.write(floorFile, fmt.Sprint(epoch.Add(ahead).Unix()))
		err := w.once()
		if (err == nil) != good || w.status.has(fileFail) == good || w.status.has(fileFirstSuccess) != good {
			t.Errorf("%v: %v, fail file %v", ahead, err, w.status.has(fileFail))
		}
		if good {
			continue
		}
		if len(w.clock.Calls()) != 0 || !strings.Contains(w.read("/run/sdwdate/status"), `"icon": "error"`) || !strings.Contains(w.out.String(), "* Time Replay Protection         : slow") {
			t.Errorf("calls %v, status %s", w.clock.Calls(), w.read("/run/sdwdate/status"))
		}
		if w.read(floorFile) != fmt.Sprint(epoch.Add(ahead).Unix()) {
			t.Errorf("the floor is %s", w.read(floorFile))
		}
	}
}

// TestAcceptance08_Consensus: begin, one later, end, one later; nothing without
// it.
func TestAcceptance08_Consensus(t *testing.T) {
	after := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	w := window{after, after.Add(3 * time.Hour)}
	for offset, want := range map[time.Duration]verdict{0: slow, time.Second: sane, 3 * time.Hour: sane, 3*time.Hour + time.Second: fast, -time.Hour: slow} {
		if got := w.judge(after.Add(offset).Unix()); got != want {
			t.Errorf("%v after the begin: %s", offset, got)
		}
	}
	for name, ask := range map[string]func(context.Context) (window, error){
		"absent": controlPort{addresses: []torctl.Address{{Network: "tcp", Address: "127.0.0.1:1"}}}.window,
		"empty":  func(context.Context) (window, error) { return parseWindow("", "") },
	} {
		for mode, good := range map[string]bool{"require": false, "prefer": true, "off": true} {
			w := newWorld(t, 5, time.Minute)
			w.configuration("CONSENSUS_CHECK=" + mode + "\n")
			w.ask = ask
			if err := w.once(); (err == nil) != good || good != (w.steps() == 1) {
				t.Errorf("%s, %s: %v, %v", name, mode, err, w.clock.Calls())
			}
			if mode == "require" && !strings.Contains(w.out.String(), "* Tor Consensus Time Sanity Check: error: ") {
				t.Errorf("%s: no line in the log", name)
			}
		}
	}
}

// TestLyingControlPort: windows that cannot be are none.
func TestLyingControlPort(t *testing.T) {
	for _, c := range [][2]string{
		{"2027-03-01 12:00:00", "2027-03-01 12:00:00"}, {"2027-03-01 12:00:00", "2027-03-01 11:00:00"}, {"2027-03-01 12:00:00", "2099-03-01 12:00:00"},
		{"x", "y"}, {"2027-03-01 12:00:00", ""}, {"2027-03-01T12:00:00Z", "2027-03-01T15:00:00Z"}, {"0000-00-00 00:00:00", "0000-00-00 03:00:00"},
	} {
		if w, err := parseWindow(c[0], c[1]); err == nil {
			t.Errorf("%v: %v", c, w)
		}
	}
	// One that opens the window for a lie: the static bounds still hold.
	w := newWorld(t, 5, 0)
	w.each(-1, func(_ int, s *server) { s.offset = 10 * 365 * 24 * time.Hour })
	w.ask = func(context.Context) (window, error) {
		at := epoch.Add(10 * 365 * 24 * time.Hour)
		return window{at.Add(-time.Hour), at.Add(2 * time.Hour)}, nil
	}
	if err := w.once(); err == nil || len(w.clock.Calls()) != 0 {
		t.Errorf("%v, %v", err, w.clock.Calls())
	}
}

// TestAcceptance09_FirstBoot: three tries in the first minute, at least one in
// five minutes later on, and a success as soon as there can be one.
func TestAcceptance09_FirstBoot(t *testing.T) {
	w := newWorld(t, 6, -time.Hour)
	w.each(-1, func(_ int, s *server) { s.exit, s.latency = 5, 0 })
	var tries []time.Time
	inner := w.ready
	w.ready = func(ctx context.Context) (int, string) {
		tries = append(tries, w.clock.World())
		return inner(ctx)
	}
	w.clock.At(30*time.Minute, func() { w.each(-1, func(_ int, s *server) { s.exit = 0 }) })
	w.live(36 * time.Minute)
	early := 0
	for i, at := range tries {
		if at.Sub(epoch) <= time.Minute {
			early++
		}
		if i > 0 && at.Sub(tries[i-1]) > 5*time.Minute+20*time.Second {
			t.Errorf("%v between tries", at.Sub(tries[i-1]))
		}
	}
	if early < 3 || !w.status.has(fileFirstSuccess) {
		t.Errorf("%d tries in the first minute, first success %v", early, w.status.has(fileFirstSuccess))
	}
	w.within(accuracy)
}

// TestUnwritable: folders that cannot be written: an error, no request, no
// change of the clock.
func TestUnwritable(t *testing.T) {
	for _, dir := range []string{"/var/lib/sdwdate", "/run/sdwdate"} {
		w := newWorld(t, 3, time.Hour)
		if err := os.Rename(w.root.Path(dir), w.root.Path(dir)+".away"); err != nil {
			t.Fatal(err)
		}
		if err := w.once(); err == nil || len(w.net.asked) != 0 || len(w.clock.Calls()) != 0 {
			t.Errorf("%s: %v, asked %v, %v", dir, err, w.net.asked, w.clock.Calls())
		}
		if !strings.Contains(w.out.String(), dir+" cannot be written") {
			t.Errorf("%s: no line in the log", dir)
		}
	}
}

// TestNoPools: an error and another try, never an end.
func TestNoPools(t *testing.T) {
	w := newWorld(t, 3, 0)
	w.write(confDir+"/30_default.conf", "")
	w.live(10 * time.Minute)
	if n := strings.Count(w.out.String(), "sdwdate could not build a list"); n < 5 {
		t.Errorf("%d tries", n)
	}
	w = newWorld(t, 3, 0)
	w.pools[1] = nil
	w.configuration("")
	if err := w.once(); err == nil || !strings.Contains(w.read("/run/sdwdate/msg"), "pool 1: Time is not set: <b>no valid time") {
		t.Errorf("%v, %s", err, w.read("/run/sdwdate/msg"))
	}
}

// TestDeadNetwork: a general timeout, named as one.
func TestDeadNetwork(t *testing.T) {
	w := newWorld(t, 6, 0)
	w.each(-1, func(_ int, s *server) { s.silent = true })
	if err := w.once(); err == nil || w.read("/run/sdwdate/msg") != text()[msgTimeout] || len(w.dead) != 0 {
		t.Errorf("%v, %s, %v", err, w.read("/run/sdwdate/msg"), w.dead)
	}
}

// TestClockSetDuringARound: by something else: nothing is set on top.
func TestClockSetDuringARound(t *testing.T) {
	w := newWorld(t, 3, time.Minute)
	w.clock.At(500*time.Millisecond, func() { w.clock.SetByOther(time.Hour) })
	if err := w.once(); err == nil || len(w.clock.Calls()) != 0 || w.read("/run/sdwdate/msg") != msgForeignClock {
		t.Errorf("%v, %v, %s", err, w.clock.Calls(), w.read("/run/sdwdate/msg"))
	}
}

// TestNoCapability: an error that ends the daemon.
func TestNoCapability(t *testing.T) {
	w := newWorld(t, 3, time.Minute)
	w.clock.Refuse = func(string) error { return unix.EPERM }
	var stop *errStop
	if err := w.once(); !errors.As(err, &stop) || stop.code != 1 || !strings.Contains(w.read("/run/sdwdate/msg"), "CAP_SYS_TIME") {
		t.Errorf("%v, %s", err, w.read("/run/sdwdate/msg"))
	}
}

// TestAcceptance22_FloorFiles: overrides decide alone, also when they are lower;
// what is invalid is named by its right name.
func TestAcceptance22_FloorFiles(t *testing.T) {
	const low, high = "1500000000\n", "1900000000"
	for _, c := range []struct {
		files   map[string]string
		floor   int64
		wrong   string // file named in the error
		notices int
	}{
		{nil, builtinFloor, "", 0},
		{map[string]string{floorFile: high}, 1900000000, "", 0},
		{map[string]string{floorFile: low}, builtinFloor, "", 0},
		{map[string]string{floorFile: "junk", "/etc/minimum-unixtime": high + " \n"}, 1900000000, "", 1},
		{map[string]string{"/etc/minimum-unixtime.override": low, floorFile: high}, 1500000000, "", 0},
		{map[string]string{"/etc/minimum-unixtime.override": "x", floorFile: high}, 0, "/etc/minimum-unixtime.override", 0},
		{map[string]string{"/usr/local/etc/minimum-unixtime.override": "12345678901"}, 0, "/usr/local/etc/minimum-unixtime.override", 0},
		{map[string]string{"/usr/local/etc/minimum-unixtime.override": low, "/etc/minimum-unixtime.override": "x"}, 1500000000, "", 0},
		{map[string]string{ceilingFile: "soon"}, builtinFloor, "", 1},
	} {
		w := newWorld(t, 1, 0)
		for path, text := range c.files {
			w.write(path, text)
		}
		b, notices, err := loadBounds(w.root)
		if (err == nil) != (c.wrong == "") || err == nil && b.Floor != c.floor || len(notices) != c.notices || err != nil && !strings.HasPrefix(err.Error(), c.wrong+": ") {
			t.Errorf("%v: %+v, %v, %v", c.files, b, notices, err)
		}
		var out, errOut strings.Builder
		env := cli.Env{Args: []string{"minimum-unixtime-show"}, Stdout: &out, Stderr: &errOut, Now: w.clock.Now}
		code := cli.Run(context.Background(), env, func(_ context.Context, env cli.Env) error { return minimumAt(w.root)(env) })
		if want := fmt.Sprintln(c.floor); (code == 0) != (c.wrong == "") || code == 0 && (out.String() != want || !strings.HasSuffix(errOut.String(), human(c.floor)+"\n")) || code != 0 && !strings.Contains(errOut.String(), c.wrong) {
			t.Errorf("%v: %d, %q, %q", c.files, code, out.String(), errOut.String())
		}
	}
	w := newWorld(t, 3, 0)
	w.write("/etc/minimum-unixtime.override", "x")
	if err := w.once(); err == nil || len(w.net.asked) != 0 {
		t.Errorf("a round without a floor: %v", err)
	}
}

// TestMinimumTools: minimum-time-check and timesanitycheck.
func TestMinimumTools(t *testing.T) {
	w := newWorld(t, 1, 0)
	for _, c := range []struct {
		args []string
		now  time.Time
		code int
		out  string
	}{
		{[]string{"minimum-time-check", "1900000000"}, epoch, 0, ""},
		{[]string{"minimum-time-check", fmt.Sprint(builtinFloor)}, epoch, 0, ""},
		{[]string{"minimum-time-check", fmt.Sprint(builtinFloor - 1)}, epoch, 1, ""},
		{[]string{"minimum-time-check"}, epoch, 1, ""},
		{[]string{"minimum-time-check", "x"}, epoch, 1, ""},
		{[]string{"timesanitycheck"}, epoch, 0, "Within minimum time '2026-11-01 00:00:00' and expiration timestamp '2033-05-17 10:00:00', ok.\n"},
		{[]string{"timesanitycheck"}, time.Unix(1, 0), 2, "The clock is slow.\n(Current time is less than the minimum time '2026-11-01 00:00:00'.)\n"},
		{[]string{"timesanitycheck"}, time.Unix(2000000000, 0), 3, "The clock is fast.\n(Current time is more than the expiration timestamp '2033-05-17 10:00:00'.)\n"},
	} {
		var out, errOut strings.Builder
		env := cli.Env{Args: c.args, Stdout: &out, Stderr: &errOut, Now: func() time.Time { return c.now }}
		code := cli.Run(context.Background(), env, func(_ context.Context, env cli.Env) error { return minimumAt(w.root)(env) })
		if code != c.code || out.String() != c.out {
			t.Errorf("%v at %v: %d, %q, %q", c.args, c.now, code, out.String(), errOut.String())
		}
	}
}

// TestAcceptance20_Script: with a script that ends by 0, 1, 2, 7 or not at all:
// states, log lines and waits.
func TestAcceptance20_Script(t *testing.T) {
	for _, c := range []struct {
		body, result, icon string
	}{
		{"exit 1", "PREPARATION RESULT: onion-time-pre-script detected a known permanent (until the user fixes it) error status. Consider running systemcheck for more information.", "error"},
		{"exit 2", "PREPARATION RESULT: onion-time-pre-script recommended to wait. Consider running systemcheck for more information.", "busy"},
		{"exit 7", "PREPARATION RESULT: onion-time-pre-script detected a unknown permanent (until the user fixes it) error status. Consider running systemcheck for more information.", "error"},
	} {
		w := newWorld(t, 3, time.Minute)
		w.ready = nil
		runs := w.root.Path("/runs")
		w.script("echo out; echo err >&2\necho x >> " + runs + "\n[ $(wc -l < " + runs + ") -ge 14 ] && exit 0\n" + c.body)
		w.live(2 * time.Minute)
		w.inOrder("PREPARATION: running onion-time-pre-script...\nerr\n\nout\n", c.result, "PREPARATION:\nerr\n\nout\n\nPREPARATION RESULT: SUCCESS.", "Success.")
		if strings.Count(w.out.String(), c.result) != 1 {
			t.Errorf("%s: said %d times", c.body, strings.Count(w.out.String(), c.result))
		}
		// 1, 2, ..., 10, 10, ... s between 14 runs, and none afterwards but an hour later.
		if n := strings.Count(w.read("/runs"), "x"); n != 14 {
			t.Errorf("%s: %d runs", c.body, n)
		}
		if !w.status.has(fileFirstSuccess) {
			t.Errorf("%s: no success", c.body)
		}
	}
	for _, c := range [][2]string{{"exit 1", "error"}, {"exit 2", "busy"}, {"exit 7", "error"}} {
		w := newWorld(t, 3, 0)
		w.ready = nil
		w.script(c[0])
		w.live(30 * time.Second)
		if got := w.read("/run/sdwdate/status"); !strings.HasPrefix(got, `{"icon": "`+c[1]+`", "message": "Preparation not done yet. For more information, see: sdwdate-gui`) {
			t.Errorf("%s: %s", c[0], got)
		}
	}
	for repeated, want := range []time.Duration{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10} {
		if got := waiting(repeated); got != want*time.Second {
			t.Errorf("after %d repetitions %v", repeated, got)
		}
	}
}

func (w *world) script(body string) {
	w.t.Helper()
	w.write(preScript, "#!/bin/sh\n"+body+"\n")
	if err := os.Chmod(w.root.Path(preScript), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// TestScriptHangs: it is ended with all that it started, and counts as one that
// says to wait.
func TestScriptHangs(t *testing.T) {
	w := newWorld(t, 1, 0)
	w.script("sleep 1000 & echo begun; wait")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	code, text := runScript(w.root, cli.Env{})(ctx)
	if code != prepareWait || !strings.Contains(text, "did not end within") || time.Since(begin) > 20*time.Second {
		t.Errorf("%d, %q after %v", code, text, time.Since(begin))
	}
}

// fakeTor is a control port with the usual answers.
func (w *world) fakeTor(after, until time.Time) *tortest.Tor {
	w.t.Helper()
	tor := &tortest.Tor{Methods: "NULL"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	tor.Answer("GETINFO dormant", "250-dormant=0", "250 OK")
	tor.Answer("GETINFO status/circuit-established", "250-status/circuit-established=1", "250 OK")
	tor.Answer("GETINFO status/bootstrap-phase", `250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done" COUNT=7`, "250 OK")
	from, to := "", ""
	if !after.IsZero() {
		from, to = after.UTC().Format(humanTime), until.UTC().Format(humanTime)
	}
	tor.Answer("GETINFO consensus/valid-after", "250-consensus/valid-after="+from, "250 OK")
	tor.Answer("GETINFO consensus/valid-until", "250-consensus/valid-until="+to, "250 OK")
	tor.AnswerRaw("EXTENDCIRCUIT 0", "250 EXTENDED 9\r\n650 CIRC 8 FAILED\r\n650 CIRC 9 EXTENDED\r\n650 CIRC 9 BUILT\r\n")
	tor.Serve(l)
	w.t.Cleanup(tor.Close)
	w.control = controlPort{root: w.root, addresses: []torctl.Address{{Network: "tcp", Address: "127.0.0.1:1"}, {Network: "tcp", Address: l.Addr().String()}}}
	w.ready = nil
	w.ask = w.control.window
	return tor
}

// TestAcceptance20_Native: without a script, on every kind of machine: prepared,
// and a whole round.
func TestAcceptance20_Native(t *testing.T) {
	for _, marker := range []string{"", whonix.GatewayMarker, whonix.WorkstationMarker} {
		w := newWorld(t, 3, 10*time.Minute)
		tor := w.fakeTor(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
		if marker != "" {
			w.write(marker, "")
		}
		if marker == whonix.WorkstationMarker { // what onion-grater forbids
			for _, line := range []string{"GETINFO dormant", "GETINFO status/bootstrap-phase", "EXTENDCIRCUIT 0"} {
				tor.Answer(line, "510 Command filtered")
			}
		}
		w.live(time.Minute)
		w.within(accuracy)
		w.inOrder("PREPARATION:", "__ ### START: ###", "Status: First run after boot.", "Static Time Sanity Check: Within minimum time", "Conclusion: Tor already reports circuit confirmed.",
			"__ ### END: ### Exiting with exit_code '0' indicating 'success'.", "PREPARATION RESULT: SUCCESS.", "INFO - Success.")
		if marker != whonix.WorkstationMarker {
			w.inOrder("Tor Dormant Result: No, not dormant, good. (tor_dormant_type: 'check-ok')", "Tor reports: NOTICE BOOTSTRAP PROGRESS=100 TAG=done", "Tor circuit: established",
				"Clock within consensus parameters consensus/valid-after '2027-03-01 11:00:00' and consensus/valid-until '2027-03-01 14:00:00'.", "Circuit confirmation: yes")
		} else if slices.Contains(tor.Received(), "EXTENDCIRCUIT 0") {
			t.Error("a Workstation asked for a circuit")
		}
		if !w.status.has(fileAfterBoot) {
			t.Error("the next run would be a first one")
		}
	}
}

// TestNativeConclusions: what else Tor may say.
func TestNativeConclusions(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*world, *tortest.Tor)
		code   int
		line   string
	}{
		{"unreachable", func(w *world, _ *tortest.Tor) { w.control.addresses = w.control.addresses[:1] }, 1, "Tor Bootstrap Result: Tor's Control Port could not be reached."},
		{"disabled", func(w *world, _ *tortest.Tor) { w.write("/etc/tor/torrc", "DisableNetwork 0\n disablenetwork\t1 \n") }, 1, "Tor enabled check: Tor is disabled. Please enable Tor in the Tor config."},
		{"dormant", func(_ *world, tor *tortest.Tor) {
			tor.Answer("GETINFO dormant", "250-dormant=1", "250 OK")
			tor.Answer("SIGNAL ACTIVE", "250 OK")
			tor.Answer("SIGNAL NEWNYM", "250 OK")
		}, 0, "Tor Dormant Result: Yes, dormant."},
		{"no consensus, bootstrapping", func(_ *world, tor *tortest.Tor) {
			tor.Answer("GETINFO consensus/valid-after", "250-consensus/valid-after=", "250 OK")
			tor.Answer("GETINFO status/circuit-established", "250-status/circuit-established=0", "250 OK")
			tor.Answer("GETINFO status/bootstrap-phase", "250-status/bootstrap-phase=WARN BOOTSTRAP PROGRESS=5 TAG=conn REASON=TIMEOUT COUNT=1", "250 OK")
			tor.Answer("EXTENDCIRCUIT 0", "551 Couldn't start circuit")
		}, 2, "Tor Consensus Time Sanity Check: Might not have downloaded a Tor consensus yet."},
		{"circuit fails", func(_ *world, tor *tortest.Tor) {
			tor.AnswerRaw("EXTENDCIRCUIT 0", "250 EXTENDED 9\r\n650 CIRC 9 FAILED\r\n")
		}, 0, "Conclusion: Tor already reports circuit established."},
		{"bootstrapped only", func(_ *world, tor *tortest.Tor) {
			tor.AnswerRaw("EXTENDCIRCUIT 0", "250 EXTENDED 9\r\n650 CIRC 9 CLOSED\r\n")
			tor.Answer("GETINFO status/circuit-established", "250-status/circuit-established=0", "250 OK")
		}, 0, "Conclusion:  No Tor circuit established yet, but Tor bootstrap progress (tor_bootstrap_percent) is 100."},
	} {
		w := newWorld(t, 1, 0)
		tor := w.fakeTor(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
		w.configure()
		c.change(w, tor)
		code, text := w.native(context.Background())
		if code != c.code || !strings.Contains(text, "\n__ "+c.line) || len(w.clock.Calls()) != 0 {
			t.Errorf("%s: %d, %s", c.name, code, text)
		}
	}
}

// TestRepairFromConsensus: a slow clock is set to the middle of the consensus; a
// fast one is left alone.
func TestRepairFromConsensus(t *testing.T) {
	w := newWorld(t, 1, -48*time.Hour)
	tor := w.fakeTor(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
	tor.Answer("EXTENDCIRCUIT 0", "551 no")
	w.configure()
	code, _ := w.native(context.Background())
	if w.clock.Wrong() != 30*time.Minute || code != prepareWait {
		t.Errorf("%d, off by %v", code, w.clock.Wrong())
	}
	if code, text := w.native(context.Background()); code != prepared {
		t.Errorf("%d, %s", code, text)
	}
	w = newWorld(t, 1, 48*time.Hour)
	tor = w.fakeTor(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
	tor.Answer("EXTENDCIRCUIT 0", "551 no")
	w.configure()
	if code, text := w.native(context.Background()); code != prepareWait || len(w.clock.Calls()) != 0 || !strings.Contains(text, "The clock might be too fast.") {
		t.Errorf("%d, %v, %s", code, w.clock.Calls(), text)
	}
}

// TestAcceptance25_Certificate: Tor's log names the begin of a certificate, and
// the clock is before the release: in 2090 it is none, a year after the floor it
// is taken once a boot. A consensus that does not call the clock slow outweighs
// it: nothing is set by it then, also where that calls the clock fast.
func TestAcceptance25_Certificate(t *testing.T) {
	const form = "Jan _2 15:04:05 2006 GMT"
	floor := time.Unix(builtinFloor, 0)
	year := floor.AddDate(1, 0, 0)
	for _, c := range []struct {
		from, until, clock time.Time // of the certificate, of the consensus, which is none if zero
		want               time.Time // what the clock is set to
	}{
		{time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC), time.Time{}, floor.Add(-time.Hour), floor},
		{year, time.Time{}, floor.Add(-time.Hour), year},
		{year, floor.Add(-100 * time.Second), floor.Add(time.Hour), time.Time{}},
		{year, floor.Add(-48 * time.Hour), floor.Add(-time.Hour), floor},
	} {
		w := newWorld(t, 1, 0)
		w.clock.SetByOther(c.clock.Sub(epoch))
		tor := w.fakeTor(time.Time{}, time.Time{})
		tor.Answer("EXTENDCIRCUIT 0", "551 no")
		if !c.until.IsZero() {
			tor.Answer("GETINFO consensus/valid-after", "250-consensus/valid-after="+human(c.until.Add(-3*time.Hour).Unix()), "250 OK")
			tor.Answer("GETINFO consensus/valid-until", "250-consensus/valid-until="+human(c.until.Unix()), "250 OK")
		}
		w.write(torLog, "Certificate not yet valid. Either their clock is set wrong, or your clock is wrong.\n(certificate lifetime runs from "+
			c.from.UTC().Format(form)+" through "+c.from.AddDate(1, 0, 0).UTC().Format(form)+". Your time is x.)\n")
		w.configure()
		code, text := w.native(context.Background())
		if want := map[bool]int{true: 0, false: 1}[c.want.IsZero()]; code != prepareWait || w.steps() != want ||
			want > 0 && w.clock.Now().Sub(c.want).Abs() > time.Minute {
			t.Errorf("%+v: %d, %v, now %v\n%s", c, code, w.clock.Calls(), w.clock.Now(), text)
		}
		if c.want != year {
			continue
		}
		w.clock.SetByOther(floor.Add(-time.Hour).Sub(w.clock.Now()))
		if _, _ = w.native(context.Background()); w.clock.Now().Sub(floor).Abs() > time.Minute {
			t.Errorf("by the certificate again in this boot: now %v, %v", w.clock.Now(), w.clock.Calls())
		}
	}
}

// TestTorEnabled: the last DisableNetwork of the last file decides.
func TestTorEnabled(t *testing.T) {
	for _, c := range []struct {
		files map[string]string
		want  bool
	}{
		{nil, true}, {map[string]string{"/etc/tor/torrc": "DisableNetwork 1"}, false},
		{map[string]string{"/etc/tor/torrc": "DisableNetwork 1", "/usr/local/etc/torrc.d/40 mine": "disablenetwork  0"}, true},
		{map[string]string{"/etc/tor/torrc": "#DisableNetwork 1\nDisableNetwork 11\nDisableNetwork"}, true},
		{map[string]string{"/etc/tor/torrc": "DisableNetwork 1", whonix.TemplateMarker: ""}, true},
	} {
		w := newWorld(t, 1, 0)
		for path, text := range c.files {
			w.write(path, text)
		}
		if got := torEnabled(w.root); got != c.want {
			t.Errorf("%v: %v", c.files, got)
		}
	}
}

// standing is a clock that goes with the machine's, and that nobody can set:
// changes of its rate are only noted.
type standing struct {
	clock.Clock
	mu    sync.Mutex
	tick  int64
	calls []string
}

func (s *standing) Discipline() (clock.Discipline, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clock.Discipline{Tick: s.tick}, nil
}

func (s *standing) Step(time.Duration) error               { return errors.New("not in this test") }
func (s *standing) SetStatus(int32) error                  { return nil }
func (s *standing) SingleShot(time.Duration) error         { return nil }
func (s *standing) SingleShotLeft() (time.Duration, error) { return 0, nil }

func (s *standing) SetTick(tick int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick = tick
	s.calls = append(s.calls, fmt.Sprint("tick ", tick))
	return nil
}

// ticks are the changes so far, and what is set now.
func (s *standing) ticks() ([]string, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls), s.tick
}

// TestAcceptance05_Signals: SIGTERM and SIGINT in every stage: the code, within
// two seconds, with everything put back and told.
func TestAcceptance05_Signals(t *testing.T) {
	for _, stage := range []string{"preparation", "fetch", "slewing", "sleep"} {
		for signal, code := range map[unix.Signal]int{unix.SIGTERM: 143, unix.SIGINT: 130} {
			t.Run(fmt.Sprint(stage, " ", unix.SignalName(signal)), func(t *testing.T) { endIn(t, stage, signal, code) })
		}
	}
}

func endIn(t *testing.T, stage string, signal unix.Signal, code int) {
	w := newWorld(t, 3, 0)
	manager := filepath.Join(t.TempDir(), "notify")
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: manager, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	still := &standing{Clock: clock.System(), tick: clock.NormalTick}
	d := w.daemon
	d.env.Environ = []string{"NOTIFY_SOCKET=" + manager}
	d.clock, d.slewer = still, nil
	d.log.now = time.Now
	if err := d.equip(); err != nil {
		t.Fatal(err)
	}
	w.first()
	reached := make(chan struct{}, 1)
	at := func() {
		select {
		case reached <- struct{}{}:
		default:
		}
	}
	program := w.root.Path("/fetcher")
	w.write("/fetcher", "#!/bin/sh\ntouch "+w.root.Path("/asked")+"\nsleep 1000 & echo $! >> "+w.root.Path("/pids")+"\nwait\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	switch stage {
	case "preparation":
		d.ready = func(context.Context) (int, string) { at(); return prepareWait, "wait" }
	case "fetch":
		d.transport = newChildren(program, still)
		go func() {
			appears(t, d.root.Path("/pids")) // the child's own child runs
			at()
		}()
	default:
		offset := 600 * time.Second
		if stage == "sleep" {
			offset = time.Second
		}
		d.transport = &direct{clock: still, offset: offset, seen: func() {}}
		d.ask = func(context.Context) (window, error) {
			return window{time.Unix(1, 0), time.Unix(builtinCeiling, 0)}, nil
		}
		go func() {
			appears(t, d.root.Path("/run/sdwdate/"+fileSleepLong))
			at()
		}()
	}
	result := make(chan error, 1)
	go func() { result <- d.live(context.Background(), false) }()
	select {
	case <-reached:
	case err := <-result:
		t.Fatalf("ended by itself: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the stage was not reached")
	}
	if calls, tick := still.ticks(); stage == "slewing" && tick != 10500 { // the highest rate that is allowed
		t.Errorf("not slewing: %v", calls)
	}
	begin := time.Now()
	if err := unix.Kill(os.Getpid(), signal); err != nil {
		t.Fatal(err)
	}
	select {
	case err = <-result:
	case <-time.After(time.Minute):
		t.Fatal("it did not end")
	}
	const most = 2 * time.Second
	if took := time.Since(begin); took > most+3*time.Second { // for a machine with much else to do
		t.Errorf("ended after %v", took)
	}
	if cli.Code(err) != code {
		t.Errorf("%v, want code %d", err, code)
	}
	if got := w.read("/run/sdwdate/status"); !strings.HasPrefix(got, `{"icon": "error", "message": "sdwdate stopped by user or system."}`) {
		t.Errorf("status %s", got)
	}
	if _, tick := still.ticks(); d.status.has(fileSleepLong) || tick != clock.NormalTick || d.root.Exists("/run/sdwdate/slew.lease") {
		t.Errorf("left behind: sleep_long %v, tick %d", d.status.has(fileSleepLong), tick)
	}
	w.inOrder(fmt.Sprintf("Signal %s received.", unix.SignalName(signal)), fmt.Sprintf("Exiting with exit_code '%d' because or reason '%s received'.", code, unix.SignalName(signal)),
		"sdwdate stopped by user or system.", "sclockadj process", "End.")
	w.notified(told, "READY=1", "STATUS=Starting...", "STATUS=Running sdwdate main loop. iteration: 1", "STATUS=Shutting down...", "WATCHDOG=1", "STOPPING=1")
	if stage == "fetch" {
		for _, pid := range strings.Fields(w.read("/pids")) {
			n, _ := strconv.Atoi(pid)
			if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n)); err == nil && !strings.Contains(string(state), ") Z ") {
				t.Errorf("process %d of a child still runs", n)
			}
		}
	}
}

// notified looks for messages to the service manager, in order.
func (w *world) notified(from *net.UnixConn, want ...string) {
	w.t.Helper()
	_ = from.SetReadDeadline(time.Now().Add(5 * time.Second))
	buffer := make([]byte, 4096)
	var got []string
	for _, text := range want {
		for {
			n, err := from.Read(buffer)
			if err != nil {
				w.t.Errorf("%q was not told, but %q", text, got)
				return
			}
			got = append(got, string(buffer[:n]))
			if string(buffer[:n]) == text {
				break
			}
		}
	}
}

// appears waits until a file is there.
func appears(t *testing.T, path string) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Error(err)
		return
	}
	watch := os.NewFile(uintptr(fd), "inotify")
	defer watch.Close()
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MODIFY); err != nil {
		t.Error(err)
		return
	}
	buffer := make([]byte, 4096)
	for {
		if fi, err := os.Stat(path); err == nil && (fi.Size() > 0 || filepath.Base(path) == fileSleepLong) {
			return
		}
		if _, err := watch.Read(buffer); err != nil {
			t.Error(err)
			return
		}
	}
}

// direct answers at once, with an offset.
type direct struct {
	clock  clock.Clock
	offset time.Duration
	seen   func()
	queue  []outcome
}

func (d *direct) start(orders []order, _ how) {
	for _, o := range orders {
		d.answer(o)
	}
}

func (d *direct) answer(o order) {
	now := d.clock.Sample()
	text := fmt.Sprintf(`{"unixtime":%d,"rtt_ns":0,"realtime_ns":%d,"raw_ns":%d,"took_ns":0,"status":200}`, now.Real.Add(d.offset).Unix(), now.Real.UnixNano(), now.Raw)
	d.queue = append(d.queue, outcome{ID: o.ID, Stdout: []byte(text), Span: span{BeginRaw: now.Raw, EndRaw: now.Raw, EndReal: now.Real}})
	d.seen()
}

func (d *direct) wait(context.Context, time.Duration) (outcome, bool) {
	if len(d.queue) == 0 {
		return outcome{}, false
	}
	o := d.queue[0]
	d.queue = d.queue[1:]
	return o, true
}

func (d *direct) stop() { d.queue = nil }

// TestHangup: SIGHUP ends a sleep; the configuration is read again.
func TestHangup(t *testing.T) {
	w := newWorld(t, 3, 0)
	still := &standing{Clock: clock.System(), tick: clock.NormalTick}
	d := w.daemon
	d.clock, d.slewer = still, nil
	if err := d.equip(); err != nil {
		t.Fatal(err)
	}
	w.first()
	fetches := make(chan struct{}, 100)
	d.transport = &direct{clock: still, offset: time.Second, seen: func() { fetches <- struct{}{} }}
	d.ask = func(context.Context) (window, error) {
		return window{time.Unix(1, 0), time.Unix(builtinCeiling, 0)}, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- d.live(ctx, false) }()
	wait := func() {
		t.Helper()
		select {
		case <-fetches:
		case <-time.After(time.Minute):
			t.Fatal("nobody was asked")
		}
	}
	for range 6 { // two in each pool
		wait()
	}
	appears(t, d.root.Path("/run/sdwdate/"+fileSleepLong))
	if err := unix.Kill(os.Getpid(), unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	wait()
	cancel()
	<-result
}
