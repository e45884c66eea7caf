// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
)

// anondateRun is what a program of the family did.
type anondateRun struct {
	code        int
	out, errOut string
	journal     []string
}

// anondate runs one of the family in the simulated world, as an account.
func (w *world) anondate(euid int, args ...string) (r anondateRun) {
	var out, errOut bytes.Buffer
	a := &anondate{env: cli.Env{Args: args, Stdout: &out, Stderr: &errOut, Now: w.clock.Now}, root: w.root, euid: euid, clock: w.clock, ask: w.ask,
		journal: func(line string) { r.journal = append(r.journal, line) }}
	r.code = cli.Run(context.Background(), a.env, func(ctx context.Context, env cli.Env) error {
		a.env = env
		return a.run(ctx)
	})
	r.out, r.errOut = out.String(), errOut.String()
	return r
}

func (w *world) consensus(after, until time.Time) {
	w.ask = func(context.Context) (window, error) { return window{after, until}, nil }
}

const refused = "Certificate not yet valid. Either their clock is set wrong, or your clock is wrong.\n(certificate lifetime runs from Mar  1 10:00:00 2027 GMT through Mar  1 10:00:00 2028 GMT. Your time is x.)\n"

// TestAnondateActions: one question each, the first of the list.
func TestAnondateActions(t *testing.T) {
	w := newWorld(t, 1, 0)
	w.consensus(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
	after, until := epoch.Add(-time.Hour).UTC().Format(humanTime)+"\n", epoch.Add(2*time.Hour).UTC().Format(humanTime)+"\n"
	w.write(verifiedConsensus, "network-status-version 3\nvalid-until 2027-03-01 14:00:00\n")
	for _, c := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"--has-consensus"}, 0, ""},
		{[]string{"--has-consensus", "--unverified-only"}, 1, ""},
		{[]string{"--prefer-verified", "--has-consensus"}, 0, ""},
		{[]string{"--current-time-in-valid-range"}, 0, ""},
		{[]string{"--show-valid-after"}, 0, after},
		{[]string{"--show-valid-until", "--show-valid-after"}, 0, after},
		{[]string{"--verbose", "--show-valid-until"}, 0, until},
		{[]string{"--show-middle-range"}, 0, epoch.Add(30*time.Minute).UTC().Format(humanTime) + "\n"},
		{[]string{"--tor-cert-lifetime-valid"}, 0, ""},
		{[]string{"--tor-cert-valid-after"}, 1, ""},
		{[]string{"--user-permission"}, 0, "root\n"},
		{[]string{"--group-permission"}, 0, "root\n"},
		{[]string{"--group-permission", "--unverified-only"}, 4, ""},
		{[]string{"--show"}, 111, ""},
		{nil, 1, ""},
	} {
		if r := w.anondate(0, append([]string{"anondate"}, c.args...)...); r.code != c.code || r.out != c.out {
			t.Errorf("%v: %+v, want %d, %q", c.args, r, c.code, c.out)
		}
	}
	w.write(torLog, refused)
	if r := w.anondate(0, "anondate", "--tor-cert-lifetime-valid"); r.code != 1 {
		t.Errorf("a refused certificate: %+v", r)
	}
	if r := w.anondate(0, "anondate", "--tor-cert-valid-after"); r.code != 0 || r.out != "Mar  1 10:00:00 2027 GMT\n" {
		t.Errorf("a refused certificate: %+v", r)
	}
	w.clock.SetByOther(100 * time.Minute) // its last half hour
	if r := w.anondate(0, "anondate", "--current-time-in-valid-range"); r.code != 1 || r.errOut != "" {
		t.Errorf("%+v", r)
	}
	w.consensus(epoch.Add(-time.Hour), epoch.Add(3*time.Hour))
	if r := w.anondate(0, "anondate", "--current-time-in-valid-range"); r.code != 1 || !strings.Contains(r.errOut, "valid for 4h0m0s instead of 3h0m0s") {
		t.Errorf("%+v", r)
	}
	if err := os.RemoveAll(w.root.Path(torFolder)); err != nil {
		t.Fatal(err)
	}
	if r := w.anondate(0, "anondate", "--has-consensus"); r.code != 4 {
		t.Errorf("no folder: %+v", r)
	}
	for _, name := range []string{"anondate", "anondate-get", "anondate-set"} {
		if r := w.anondate(65534, name); r.code != 112 || len(w.clock.Calls()) != 0 {
			t.Errorf("%s as nobody: %+v", name, r)
		}
	}
}

// TestAnondateSet: the clock goes forward only, to what Tor knows, and within
// the bounds.
func TestAnondateSet(t *testing.T) {
	for _, c := range []struct {
		name     string
		wrong    time.Duration
		window   bool
		log      string
		get, set int
		to       time.Time // zero: the clock is left alone
	}{
		{"right", 0, true, "", 0, 3, time.Time{}},
		{"slow", -48 * time.Hour, true, "", 0, 0, epoch.Add(30 * time.Minute)},
		{"fast", 48 * time.Hour, true, "", 0, 3, time.Time{}},
		{"certificate", -48 * time.Hour, false, refused, 2, 2, time.Date(2027, 3, 1, 10, 0, 0, 0, time.UTC)},
		{"absurd certificate", -48 * time.Hour, false, strings.ReplaceAll(refused, "2027", "2032"), 0, 3, time.Time{}},
		{"nothing", -48 * time.Hour, false, "", 0, 3, time.Time{}},
		{"before the minimum", time.Unix(1e9, 0).Sub(epoch), false, "", 0, 0, time.Unix(builtinFloor, 0)},
	} {
		w := newWorld(t, 1, c.wrong)
		w.ask = func(context.Context) (window, error) { return window{}, errUnreachable }
		if c.window {
			w.consensus(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
		}
		if c.log != "" {
			w.write(torLog, c.log)
		}
		if r := w.anondate(0, "anondate-get"); r.code != c.get || len(w.clock.Calls()) != 0 || !strings.HasPrefix(r.errOut, "______ anondate-get: ") ||
			!c.to.IsZero() && r.out != c.to.UTC().Format(time.DateTime)+"\n" {
			t.Errorf("%s: get: %+v", c.name, r)
		}
		before := w.clock.Now()
		r := w.anondate(0, "anondate-set")
		if r.code != c.set || len(r.journal) == 0 || (w.steps() == 0) != c.to.IsZero() {
			t.Errorf("%s: set: %+v, %v", c.name, r, w.clock.Calls())
		}
		if want := c.to; !want.IsZero() && w.clock.Now().Sub(want).Abs() > time.Second || want.IsZero() && w.clock.Now().Sub(before).Abs() > time.Second {
			t.Errorf("%s: the clock shows %v", c.name, w.clock.Now())
		}
		for _, name := range []string{fileGetStdout, fileGetStderr, fileSetCurrent, fileSetOld} {
			if !w.root.IsFile(anondateDir + "/" + name) {
				t.Errorf("%s: no %s", c.name, name)
			}
		}
	}
}

// TestAcceptance25_AnondateSet: a certificate sets the clock once a boot, by
// whichever account, and never to 2090.
func TestAcceptance25_AnondateSet(t *testing.T) {
	w := newWorld(t, 1, -48*time.Hour)
	w.ask = func(context.Context) (window, error) { return window{}, errUnreachable }
	w.write("/etc/passwd", "sdwdate:x:0:0::/run/sdwdate:/bin/false\n")
	w.write(torLog, strings.ReplaceAll(refused, "2027", "2090"))
	if r := w.anondate(0, "anondate-set"); r.code != 3 || w.steps() != 0 {
		t.Errorf("2090: %+v", r)
	}
	w.write(torLog, refused)
	if r := w.anondate(0, "anondate-set"); r.code != 2 || w.steps() != 1 {
		t.Errorf("first: %+v", r)
	}
	w.clock.SetByOther(-24 * time.Hour)
	if r := w.anondate(0, "anondate-set"); r.code != 3 || w.steps() != 1 {
		t.Errorf("second: %+v", r)
	}
	if err := os.Rename(w.root.Path(anondateDir), w.root.Path(anondateDir)+".old"); err != nil {
		t.Fatal(err)
	}
	w.write(statusDir+"/"+fileCertificate, "")
	if r := w.anondate(0, "anondate-set"); r.code != 3 || w.steps() != 1 {
		t.Errorf("after sdwdate's: %+v", r)
	}
}

// TestAnondateSetTells: the journal hears of news only; a clock that cannot be
// set is an error; a link in the folder is not followed.
func TestAnondateSetTells(t *testing.T) {
	w := newWorld(t, 1, 0)
	w.consensus(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
	if err := os.MkdirAll(w.root.Path(anondateDir), 0o755); err != nil {
		t.Fatal(err)
	}
	w.write("/etc/victim", "untouched")
	if err := os.Symlink(w.root.Path("/etc/victim"), w.root.Path(anondateDir+"/"+fileGetStdout)); err != nil {
		t.Fatal(err)
	}
	if r := w.anondate(0, "anondate-set"); r.code != 3 || len(r.journal) == 0 || !strings.HasPrefix(r.errOut, "____ anondate-set: ") {
		t.Errorf("%+v", r)
	}
	if r := w.anondate(0, "anondate-set"); r.code != 3 || len(r.journal) != 0 || r.errOut == "" {
		t.Errorf("again: %+v", r)
	}
	if text, err := w.root.ReadFile("/etc/victim", 100); err != nil || string(text) != "untouched" {
		t.Errorf("%q, %v", text, err)
	}
	w.write("/etc/minimum-unixtime.override", "x")
	if r := w.anondate(0, "anondate-set"); r.code != 1 || !strings.Contains(r.errOut, "/etc/minimum-unixtime.override: ") {
		t.Errorf("no floor: %+v", r)
	}
	if err := os.Remove(w.root.Path("/etc/minimum-unixtime.override")); err != nil {
		t.Fatal(err)
	}
	slow := newWorld(t, 1, -48*time.Hour)
	slow.consensus(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
	a := &anondate{env: cli.Env{Args: []string{"anondate-set"}, Stderr: &bytes.Buffer{}}, root: slow.root, clock: stuck{slow.clock}, ask: slow.ask, journal: func(string) {}}
	if err := a.run(context.Background()); err == nil || !strings.Contains(err.Error(), clock.ErrNotMoved.Error()) {
		t.Errorf("a clock that stands: %v", err)
	}
}

// stuck is a clock that cannot be set and does not say so.
type stuck struct{ *clock.Simulated }

func (stuck) Step(time.Duration) error { return nil }
