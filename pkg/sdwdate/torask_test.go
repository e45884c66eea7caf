// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
)

// TestTorAsk: each question, by both names, and the exit codes of before.
func TestTorAsk(t *testing.T) {
	w := newWorld(t, 1, 0)
	tor := w.fakeTor(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
	for _, line := range []string{"SIGNAL ACTIVE", "SIGNAL NEWNYM"} {
		tor.Answer(line, "250 OK")
	}
	tor.AnswerRaw("SETEVENTS STREAM", "250 OK\r\n650 STREAM 1 NEW 0 a:80\r\n650 STREAM 1 SUCCEEDED 2 a:80\r\n")
	ask := func(args ...string) (int, string, string) {
		var out, errOut bytes.Buffer
		code := cli.Run(context.Background(), cli.Env{Args: args, Stdout: &out, Stderr: &errOut}, w.control.torAsk)
		return code, out.String(), errOut.String()
	}
	const phase = "NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY=\"Done\" COUNT=7\n"
	for _, c := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"tor_bootstrap_check.py"}, 100, phase},
		{[]string{"tor-ask", "bootstrap"}, 100, phase},
		{[]string{"tor-circuit-established-check"}, 0, "1\n"},
		{[]string{"tor_circuit_built_check.py", "60"}, 0, "Circuit 9 built\n"},
		{[]string{"tor_stream_success_check.py", "60"}, 0, ""},
		{[]string{"tor_consensus_valid-after.py"}, 0, epoch.Add(-time.Hour).UTC().Format(humanTime) + "\n"},
		{[]string{"tor_consensus_valid-until.py"}, 0, epoch.Add(2*time.Hour).UTC().Format(humanTime) + "\n"},
		{[]string{"tor-dormant-check"}, 0, "0\n"},
		{[]string{"tor-signal-newnym"}, 0, ""},
	} {
		if code, out, errOut := ask(c.args...); code != c.code || out != c.out || errOut != "" {
			t.Errorf("%v: %d, %q, %q", c.args, code, out, errOut)
		}
	}
	if r := tor.Received(); !slices.Contains(r, "SIGNAL ACTIVE") || !slices.Contains(r, "SIGNAL NEWNYM") {
		t.Errorf("%q", r)
	}
	tor.Answer("GETINFO status/circuit-established", "250-status/circuit-established=0", "250 OK")
	if code, out, _ := ask("tor-circuit-established-check"); code != 1 || out != "0\n" {
		t.Errorf("%d, %q", code, out)
	}
	tor.Answer("GETINFO status/bootstrap-phase", "250-status/bootstrap-phase=PROGRESS=900", "250 OK")
	if code, out, _ := ask("tor_bootstrap_check.py"); code != 255 || out != "" {
		t.Errorf("%d, %q", code, out)
	}
	tor.Answer("EXTENDCIRCUIT 0", "551 no")
	if code, out, _ := ask("tor_circuit_built_check.py"); code != 1 || !strings.HasPrefix(out, "circuit build failed: ") {
		t.Errorf("%d, %q", code, out)
	}
	tor.AnswerRaw("EXTENDCIRCUIT 0", "250 EXTENDED 9\r\n")
	if code, out, _ := ask("tor_circuit_built_check.py", "1"); code != 1 || out != "no new circuit built within 1s\n" {
		t.Errorf("%d, %q", code, out)
	}
	w.control.addresses = w.control.addresses[:1]
	if code, _, errOut := ask("tor-dormant-check"); code != 255 || !strings.Contains(errOut, "could not be reached") {
		t.Errorf("%d, %q", code, errOut)
	}
}

// TestConsensusDel: Tor is stopped, the files are deleted, Tor is started; the
// second name only deletes; none of it as another account.
func TestConsensusDel(t *testing.T) {
	w := newWorld(t, 1, 0)
	w.write("/usr/bin/systemctl", "#!/bin/sh\necho \"$*\" >> \"${0%/*}/calls\"\n")
	if err := os.Chmod(w.root.Path("/usr/bin/systemctl"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		euid      int
		code      int
		deleted   bool
		restarted bool
	}{{"anon-consensus-del", 1000, 1, false, false}, {"anon-consensus-del-files", 1000, 1, false, false}, {"anon-consensus-del-files", 0, 0, true, false}, {"anon-consensus-del", 0, 0, true, true}} {
		for _, name := range []string{"cached-certs", "cached-microdesc-consensus", "cached-microdescs", "cached-microdescs.new", "state"} {
			w.write(torFolder+"/"+name, "x")
		}
		var out bytes.Buffer
		s := &suspend{env: cli.Env{Args: []string{c.name}, Stdout: &out, Stderr: &out}, root: w.root, euid: c.euid}
		code := cli.Run(context.Background(), s.env, func(ctx context.Context, _ cli.Env) error { return s.consensusDel(ctx) })
		calls, _ := w.root.ReadFile("/usr/bin/calls", 4096)
		if code != c.code || w.root.Exists(verifiedConsensus) == c.deleted || w.root.Exists(torFolder+"/cached-microdescs.new") == c.deleted ||
			!w.root.Exists(torFolder+"/state") || strings.Contains(string(calls), "restart tor") != c.restarted {
			t.Errorf("%+v: %d, %s, calls %q", c, code, out.String(), calls)
		}
	}
}
