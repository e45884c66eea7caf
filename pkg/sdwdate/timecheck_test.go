// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/whonix"
)

// timeCheck runs onion-time-check in the world, and returns its exit code, its
// output, and what it became, if it became another program.
func (w *world) timeCheck(euid int, args ...string) (code int, out, became string) {
	var stdout, stderr bytes.Buffer
	env := cli.Env{Args: args, Stdout: &stdout, Stderr: &stderr, Now: w.clock.Now}
	t := &timeCheck{root: w.root, euid: euid, clock: w.clock, control: w.control, db: w.db,
		replace: func(_ string, argv, _ []string) error { became = strings.Join(argv, " "); return os.ErrPermission }}
	code = cli.Run(context.Background(), env, func(ctx context.Context, env cli.Env) error {
		t.env = env
		return t.run(ctx)
	})
	return code, stdout.String() + stderr.String(), became
}

// TestTimeCheck: the program comes to the daemon's conclusions, and has a wrong
// clock repaired by the watcher, once a minute, instead of touching it.
func TestTimeCheck(t *testing.T) {
	const name, request = "onion-time-pre-script", statusDir + "/" + fileAnondateAsked
	w := newWorld(t, 1, 0)
	w.write("/etc/passwd", "sdwdate:x:104:104::/run/sdwdate:/bin/false\n")
	w.fakeTor(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
	code, out, _ := w.timeCheck(104, name)
	if code != prepared || !strings.HasPrefix(out, "__ \n__ ### START: ### onion-time-pre-script\n") || !strings.Contains(out, "__ Status: First run after boot.") ||
		!strings.HasSuffix(out, "__ ### END: ### Exiting with exit_code '0' indicating 'success'.\n") || w.root.Exists(request) {
		t.Errorf("ready: %d, %s", code, out)
	}
	slow := w.fakeTor(epoch.Add(4*time.Hour), epoch.Add(7*time.Hour))
	slow.Answer("EXTENDCIRCUIT 0", "551 no")
	for i, want := range []string{"anondate: asked for.", "seconds ago already.", "anondate: asked for."} {
		code, out, _ := w.timeCheck(104, name)
		if code != prepareWait || !strings.Contains(out, want) || w.root.Exists(request) != (i != 1) || len(w.clock.Calls()) != 0 {
			t.Errorf("a slow clock, %d: %d, %s", i, code, out)
		}
		if err := os.Remove(w.root.Path(request)); i != 1 && err != nil {
			t.Fatal(err)
		}
		stamp := w.root.Path(request + ".stamp")
		when := w.clock.Now().Add(-time.Second)
		if i == 1 {
			when = w.clock.Now().Add(time.Hour) // an age that cannot be
		}
		if err := os.Chtimes(stamp, when, when); err != nil {
			t.Fatal(err)
		}
	}
	w.write("/etc/tor/torrc", "DisableNetwork 1\n")
	if code, out, _ := w.timeCheck(0, name); code != prepareUser || !strings.Contains(out, "Tor is disabled") || !w.root.Exists(anondateDir+"/"+fileAfterBoot) {
		t.Errorf("disabled, by root: %d, %s", code, out)
	}
	if code, _, _ := w.timeCheck(0, "onion-time-check", "tor-enabled"); code != 1 {
		t.Errorf("tor-enabled: %d", code)
	}
}

// TestTimeCheckOfOthers: who may not ask Tor has it asked; has_netvm_on_qubes is
// for everybody.
func TestTimeCheckOfOthers(t *testing.T) {
	w := newWorld(t, 1, 0)
	w.write("/etc/passwd", "sdwdate:x:104:104::/run/sdwdate:/bin/false\n")
	if code, out, became := w.timeCheck(1000, "onion-time-pre-script"); code != 1 || became != "" || !strings.Contains(out, "must run as root, or as sdwdate") {
		t.Errorf("neither: %d, %s, %q", code, out, became)
	}
	w.write(sudoPath, "")
	if _, _, became := w.timeCheck(1000, "onion-time-pre-script"); became != "/usr/bin/sudo --user=sdwdate -- "+preScript {
		t.Error(became)
	}
	w.write(leaprunPath, "")
	if _, _, became := w.timeCheck(1000, "onion-time-pre-script"); became != "/usr/bin/leaprun onion-time-pre-script" {
		t.Error(became)
	}
	if code, _, _ := w.timeCheck(1000, "has_netvm_on_qubes"); code != 0 {
		t.Errorf("outside Qubes: %d", code)
	}
	w.write(qubesdbRead, "")
	w.write(whonix.QubesMarker, "")
	if code, _, _ := w.timeCheck(1000, "has_netvm_on_qubes"); code != 1 {
		t.Errorf("in Qubes, without a network: %d", code)
	}
}

// TestOwnScript: our program under the script's name is no script that somebody
// has put there.
func TestOwnScript(t *testing.T) {
	w := newWorld(t, 1, 0)
	w.write(timeCheckPath, "#!/bin/sh\nexit 0\n")
	if err := os.Chmod(w.root.Path(timeCheckPath), 0o755); err != nil {
		t.Fatal(err)
	}
	for target, own := range map[string]bool{"onion-time-check": true, timeCheckPath: true, "../../bin/mine": false, "": false} {
		_ = os.Remove(w.root.Path(preScript))
		w.write("/usr/bin/mine", "#!/bin/sh\nexit 0\n")
		if err := os.Chmod(w.root.Path("/usr/bin/mine"), 0o755); err != nil {
			t.Fatal(err)
		}
		switch target {
		case "":
			if err := os.Link(w.root.Path("/usr/bin/mine"), w.root.Path(preScript)); err != nil {
				t.Fatal(err)
			}
		default:
			if err := os.Symlink(target, w.root.Path(preScript)); err != nil {
				t.Fatal(err)
			}
		}
		if ownScript(w.root) != own || target != timeCheckPath && (scriptReady(w.root, "auto") == own || !scriptReady(w.root, "script") || scriptReady(w.root, "native")) {
			t.Errorf("%q: own %v, auto %v", target, ownScript(w.root), scriptReady(w.root, "auto"))
		}
	}
}

// TestTorEnabledCheck: the script says what the program does, alone and sourced.
func TestTorEnabledCheck(t *testing.T) {
	data, err := os.ReadFile("../../scripts/helper-scripts/tor_enabled_check")
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[string]string{"exit 0": "true", "exit 1": "false"} {
		dir := t.TempDir()
		text := strings.ReplaceAll(string(data), timeCheckPath, dir+"/onion-time-check")
		for name, text := range map[string]string{"onion-time-check": "#!/bin/sh\n[ \"$*\" = tor-enabled ] || exit 7\n" + code + "\n", "check": text} {
			if err := os.WriteFile(dir+"/"+name, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command(dir + "/check").Output()
		if err != nil || string(out) != want {
			t.Errorf("%s: %q, %v", code, out, err)
		}
		out, err = exec.Command("/bin/bash", "-euc", "source "+dir+"/check; check_tor_enabled_do; echo $TOR_ENABLED").Output()
		if err != nil || string(out) != map[string]string{"true": "1\n", "false": "0\n"}[want] {
			t.Errorf("%s, sourced: %q, %v", code, out, err)
		}
	}
}

// TestAnondateTester: every question, for root only.
func TestAnondateTester(t *testing.T) {
	w := newWorld(t, 1, 0)
	w.consensus(epoch.Add(-time.Hour), epoch.Add(2*time.Hour))
	r := w.anondate(0, "anondate-tester", "--prefer-verified")
	if r.code != 0 || strings.Count(r.out, "cmd_item: anondate --") != 9 || !strings.Contains(r.out, "cmd_item: anondate --current-time-in-valid-range --prefer-verified\noutput: \nexit_code: 0\n----------\n") ||
		!strings.Contains(r.out, "output: "+epoch.Add(-time.Hour).UTC().Format(humanTime)+"\nexit_code: 0\n") {
		t.Errorf("%+v", r)
	}
	w.write("/etc/passwd", "sdwdate:x:104:104::/run/sdwdate:/bin/false\n")
	if r := w.anondate(104, "anondate-tester"); r.code != codeAnondateAccount || r.out != "" {
		t.Errorf("%+v", r)
	}
}
