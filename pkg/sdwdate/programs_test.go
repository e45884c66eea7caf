// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

func TestWrapper(t *testing.T) {
	for _, c := range []struct {
		args []string
		path string
		argv string
		out  string
	}{
		{nil, "/usr/bin/leaprun", "[/usr/bin/leaprun sdwdate-libexec]", "WARNING: Starting sdwdate"},
		{[]string{"--once"}, "/usr/bin/leaprun", "[/usr/bin/leaprun sdwdate-libexec]", "WARNING: Starting sdwdate"},
		{[]string{"--status"}, "/usr/libexec/sdwdate/sdwdate", "[/usr/libexec/sdwdate/sdwdate --status]", ""},
		{[]string{"--check-config", "--json"}, "/usr/libexec/sdwdate/sdwdate", "[/usr/libexec/sdwdate/sdwdate --check-config --json]", ""},
		{[]string{"--help"}, "", "[]", "usage: sdwdate "},
	} {
		var out bytes.Buffer
		var path string
		var argv []string
		env := cli.Env{Args: append([]string{"/usr/bin/sdwdate"}, c.args...), Stdout: &out, Stderr: io.Discard}
		code := cli.Run(context.Background(), env, func(_ context.Context, env cli.Env) error {
			return wrapperAt("/", func(p string, a, _ []string) error {
				path, argv = p, a
				return os.ErrNotExist
			})(env)
		})
		if path != c.path || fmt.Sprint(argv) != c.argv || !strings.HasPrefix(out.String(), c.out) || (c.out == "") != (out.Len() == 0) || (code == 0) != (path == "") {
			t.Errorf("%v: %s %v, code %d, %q", c.args, path, argv, code, out.String())
		}
	}
}

// TestLogViewer: the command, and no message that steers the terminal.
func TestLogViewer(t *testing.T) {
	root := fsx.Root(t.TempDir())
	write(t, root, journalViewer, "#!/bin/sh\nprintf '%s\\n' \"$*\"\nprintf 'a\\033[2Jb\\302\\233c \\303\\274\\r\\n'\nexit 3\n")
	if err := os.Chmod(root.Path(journalViewer), 0o755); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	env := cli.Env{Args: []string{"sdwdate-log-viewer"}, Stdout: &out, Stderr: &errOut}
	code := cli.Run(context.Background(), env, logViewerAt(root))
	const args = "--boot --output cat --no-pager -f -n 10000 _SYSTEMD_UNIT=qubes-sync-time.service + _SYSTEMD_UNIT=qubes-sync-time.timer + _SYSTEMD_UNIT=timesanitycheck.service + " +
		"_SYSTEMD_UNIT=bootclockrandomization.service + _SYSTEMD_UNIT=sdwdate.service + _SYSTEMD_UNIT=sdwdate-start-anondate-set-file-watcher.service + " +
		"_SYSTEMD_UNIT=whonix-firewall.service + SYSLOG_IDENTIFIER=suspend-pre + SYSLOG_IDENTIFIER=suspend-post + SYSLOG_IDENTIFIER=anondate + _AUDIT_TYPE_NAME=SECCOMP"
	if out.String() != args+"\na_[2Jb\xc2_c ü_\n" || errOut.String() != "+ /bin/journalctl "+args+"\n" || code != 3 {
		t.Errorf("code %d, %q, %q", code, out.String(), errOut.String())
	}
}

// TestTester: every server is asked, and what becomes of each is told.
func TestTester(t *testing.T) {
	w := newWorld(t, 4, 0)
	w.net.servers[w.pools[1][2]].exit = 5
	w.net.servers[w.pools[2][0]].offset = 100 * time.Hour
	var out bytes.Buffer
	c, _ := loadConf(w.root)
	limits, _, _ := loadBounds(w.root)
	tester := tester{env: cli.Env{Stdout: &out, Stderr: io.Discard}, root: w.root, net: w.net, chunk: 3, headTime: "1", now: w.clock.Now,
		boot: func() time.Duration { return w.clock.Sample().Boot }, evidence: evidence{Bounds: limits, Mode: "require", Window: func() (window, error) { return w.ask(context.Background()) }}}
	var exit *cli.Exit
	if err := tester.run(context.Background(), c, nil); !errors.As(err, &exit) || exit.Code != 1 {
		t.Errorf("%v", err)
	}
	for _, text := range []string{"### Pool 1 (4 URL(s))\n", "pool 1 url " + w.pools[0][0] + ": ONLINE  unixtime=1", "pool 2 url " + w.pools[1][2] + ": OFFLINE  status=error (Curl --head also Not OK)\nFAILED_URL " + w.pools[1][2] + "\n",
		"pool 3 url " + w.pools[2][0] + ": REACHABLE-but-INVALID  status=done", "Pool 2: 3 ONLINE, 1 OFFLINE\n", "TOTAL: 10 ONLINE, 2 OFFLINE\n"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("no %q in\n%s", text, out.String())
		}
	}
	if len(w.net.asked) != 12 {
		t.Errorf("%d were asked", len(w.net.asked))
	}
	if err := tester.run(context.Background(), c, []string{w.pools[0][1]}); err != nil || len(w.net.asked) != 13 {
		t.Errorf("one alone: %v", err)
	}
	out.Reset()
	env := cli.Env{Args: []string{"onion-list-all"}, Stdout: &out, Stderr: io.Discard}
	if code := cli.Run(context.Background(), env, testerAt(w.root)); code != 0 || strings.Count(out.String(), " proof\n") != 12 {
		t.Errorf("%d, %s", code, out.String())
	}
}

// TestOptions: questions to the daemon's program.
func TestOptions(t *testing.T) {
	w := newWorld(t, 3, 3*time.Second)
	ask := func(args ...string) (int, string, string) {
		var out, errOut bytes.Buffer
		env := cli.Env{Args: append([]string{"sdwdate"}, args...), Stdout: &out, Stderr: &errOut, Now: time.Now}
		code := cli.Run(context.Background(), env, daemonAt(w.root))
		return code, out.String(), errOut.String()
	}
	if code, _, errOut := ask("--status"); code != 1 || errOut != "sdwdate: error: sdwdate has not run since boot\n" {
		t.Errorf("%d, %s", code, errOut)
	}
	if err := w.once(); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := ask("--status"); code != 0 || !strings.HasPrefix(out, "success: Success.\nlast checked ") || !strings.Contains(out, "(pools [0 1 2])") {
		t.Errorf("%d, %s", code, out)
	}
	if code, out, _ := ask("--json"); code != 0 || !strings.HasPrefix(out, `{"icon":"success","message":"Success.","state":"success"`) || !strings.Contains(out, `"clock_set":true`) {
		t.Errorf("%d, %s", code, out)
	}
	if code, out, errOut := ask("--check-config"); code != 0 || out != "pools: 3, 3 and 3 servers\n" || errOut != "" {
		t.Errorf("%d, %s, %s", code, out, errOut)
	}
	w.configuration("RANDOMIZE_TIME=perhaps\n\"http://x\"\n")
	if code, _, errOut := ask("--check-config"); code != 1 || strings.Count(errOut, "\n") != 2 || !strings.Contains(errOut, "sdwdate: error: /etc/sdwdate.d/30_default.conf:16: RANDOMIZE_TIME: ") {
		t.Errorf("%d, %s", code, errOut)
	}
	if code, out, _ := ask("--show-pools"); code != 0 || strings.Count(out, "\n") != 9 || !strings.HasPrefix(out, "0 - http://") {
		t.Errorf("%d, %s", code, out)
	}
	if code, _, _ := ask("--check-netvm"); code != 0 {
		t.Errorf("%d", code)
	}
	if code, _, errOut := ask("--once"); code != 1 || !strings.HasSuffix(errOut, " - sdwdate - ERROR - Exit error... sdwdate should not be run as root!\n") {
		t.Errorf("%d, %s", code, errOut)
	}
}
