// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/whonix"
)

// unsupported has four programs that torsocks cannot hold, and an isolator
// that says how it was called, or that it cannot work.
func unsupportedMachine(t *testing.T, isolates bool) *machine {
	t.Helper()
	m := newMachine(t)
	for _, name := range []string{"static", "setgid", "capable", "script"} {
		m.wrap("/usr/bin/" + name)
	}
	m.copy(binaries+"/time-privacy", "/usr/bin/static"+originalSuffix)
	m.copy(binaries+"/probe", "/usr/bin/setgid"+originalSuffix)
	if err := unix.Chmod(m.path("/usr/bin/setgid"+originalSuffix), 0o2755); err != nil {
		t.Fatal(err)
	}
	m.copy(binaries+"/probe", "/usr/bin/capable"+originalSuffix)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00" + strings.Repeat("\x00", 12) // net_bind_service, permitted and effective
	if err := unix.Setxattr(m.path("/usr/bin/capable"+originalSuffix), "security.capability", []byte(capability), 0); err != nil {
		t.Fatal(err)
	}
	m.write("/usr/bin/script"+originalSuffix, "#!/usr/bin/static"+originalSuffix+" -f /run/x\n", 0o755)
	answer := "echo 'uwt: error: no user namespaces' >&2; exit 1"
	if isolates {
		answer = "exit 0"
	}
	m.write(isolatorPath, "#!/bin/sh\n[ \"$1\" != --check ] || { "+answer+"; }\necho isolated \"$@\"\n", 0o755)
	return m
}

func TestAcceptance18_Refused(t *testing.T) {
	m := unsupportedMachine(t, true).user("uwt_unsupported=refuse\n")
	for name, why := range map[string]string{"static": "static", "setgid": "setgid", "capable": "capabilities", "script": "static"} {
		m.run(name).want(126).notRun().says("ignores LD_PRELOAD", why, "refusing to run it unisolated", "uwt_unsupported")
	}
	// uwtexec, which old configurations may call, refuses by itself.
	for _, name := range []string{"static", "setgid"} {
		exec := "export uwtwrapper_parent=/usr/bin/" + name + "; exec /usr/libexec/uwt/uwtexec"
		m.run("export LD_PRELOAD=/usr/lib/x86_64-linux-gnu/torsocks/libtorsocks.so; "+exec).want(126).notRun().
			says("uwtexec: ERROR: '/usr/bin/"+name+".anondist-orig' ignores LD_PRELOAD (", "); refusing to run it unisolated.\n")
		if s := m.run("export LD_PRELOAD=libindp.so; "+exec, "UWT_DEV_PASSTHROUGH=1").want(0); s.stdout == "" {
			t.Error("the program did not run")
		}
	}
	m.run("LD_PRELOAD=libtorsocks.so uwtwrapper_parent=/usr/bin/rawdog exec /usr/libexec/uwt/uwtexec x y").want(0).wantArgs("/usr/bin/rawdog", "x", "y")
	m.run("/usr/libexec/uwt/uwtexec").want(127).says("uwtwrapper_parent is not set")
}

func TestUnsupported(t *testing.T) {
	for _, c := range []struct {
		set      string
		isolates bool
		role     bool
		status   int
		stdout   string // what begins it
		says     []string
	}{
		{"", true, false, 0, "isolated --isolate --argv0=/usr/bin/static -- /usr/bin/static.anondist-orig -h\n", nil},
		{"", false, false, 126, "", []string{"no user namespaces", "refusing", "hint: "}},
		{"", false, true, 0, "usage: ", []string{"warning: ", "runs without stream isolation", "hint: "}},
		{"uwt_unsupported=isolate", false, true, 126, "", []string{"no user namespaces", "refusing"}},
		{"uwt_unsupported=warn", true, false, 0, "usage: ", []string{"warning: ", "hint: "}},
		{"uwt_unsupported=warn\nuwt_unsupported[/usr/bin/static]=refuse", true, true, 126, "", []string{"refusing"}},
		{"uwt_unsupported=warm", true, true, 126, "", []string{"/etc/uwt.d/50_user.conf:1: uwt_unsupported is \"warm\"", "refusing"}},
		{"uwtwrapper[/usr/bin/static]=0", false, false, 0, "usage: ", nil},
		{"timeprivacy[/usr/bin/static]=1\nuwt_unsupported=warn", true, false, 0, "usage: ", []string{"warning: "}},
	} {
		t.Run(c.set, func(t *testing.T) {
			m := unsupportedMachine(t, c.isolates).user(c.set + "\n")
			if c.role {
				m.write(whonix.WorkstationMarker, "", 0o644)
			}
			s := m.run("cd /; static -h").want(c.status).says(c.says...)
			if !strings.HasPrefix(s.stdout, c.stdout) || c.stdout == "" && s.stdout != "" || c.says == nil && s.stderr != "" {
				t.Errorf("stdout %q, want %q; stderr %q", s.stdout, c.stdout, s.stderr)
			}
		})
	}
	t.Run("environment", func(t *testing.T) {
		m := unsupportedMachine(t, true)
		m.run("static -h", "uwt_unsupported=refuse").want(126).notRun()
	})
}

func TestAcceptance19_TimePrivacy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	call := func(args ...string) (string, int) {
		cmd := exec.Command(binaries+"/time-privacy", args...)
		cmd.Env = []string{"HOME=" + dir, "PATH=/usr/bin"}
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	folder := dir + "/D/below"
	for _, want := range []string{"0:0:10", "0:0:20", "0:0:30"} {
		if got, status := call("-d", "30", "-m", "12", "-y", "2013", "-i", "10", "-f", folder); got != "2013-12-30 "+want+"\n" || status != 0 {
			t.Errorf("%q %d, want %s", got, status, want)
		}
	}
	set := func(hours, minutes, seconds string) {
		for name, text := range map[string]string{hoursFile: hours, minutesFile: minutes, secondsFile: seconds} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range [][5]string{
		{"23", "59", "59", "1", "0:0:0"}, {"08", "08\n", "08", "1", "8:8:9"}, {"", "x", "-1", "1", "0:0:1"}, {"99", "99", "99", "0", "23:59:59"},
		{"0", "0", "55", "125", "0:3:0"}, {"9999999999999999999999", "0", "0", "0", "23:0:0"}, {"0", "0", "0", "", "0:0:1"}, {"1", "2", "3", "18446744073709551615", "8:2:18"},
	} {
		set(c[0], c[1], c[2])
		if got, _ := call("-y", "1", "-m", "2", "-d", "3", "-f", folder, "-i", c[3]); got != "1-2-3 "+c[4]+"\n" {
			t.Errorf("%v: %q", c, got)
		}
	}
	for args, said := range map[string]string{
		"-i x": "increment is not a digit.\n", "-y x": "year is not a digit.\n", "-m 1a": "month is not a digit.\n", "-d -1": "day is not a digit.\n",
		"-r 5 -i 5": "You can not combine -r and -i.\n", "-r x": "randomincrement must be a positive number.\n", "-i": "-i: its value is missing", "nothing-here": "neither an option nor a command",
	} {
		if got, status := call(strings.Fields(args)...); status != 1 || !strings.Contains(got, said) {
			t.Errorf("%s: %q %d", args, got, status)
		}
	}
	if got, status := call("-h"); status != 0 || !strings.HasPrefix(got, "usage: ") {
		t.Errorf("-h: %q %d", got, status)
	}
	today := time.Now().Format("2006-01-02")
	if got, status := call("-r", "5", "true", "-x"); status != 0 || !strings.HasPrefix(got, today) {
		t.Errorf("a command behind the options: %q %d", got, status)
	}
	if fi, err := os.Stat(dir + "/.timeprivacy"); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", fi, err)
	}
}

func TestAcceptance19_NothingIsLost(t *testing.T) {
	t.Parallel()
	const runs = 50
	folder := t.TempDir()
	results := make(chan string, runs)
	for range runs {
		go func() {
			out, _ := exec.Command(binaries+"/time-privacy", "-f", folder, "-y", "1", "-m", "1", "-d", "1").CombinedOutput()
			results <- string(out)
		}()
	}
	seen := map[string]bool{}
	for range runs {
		seen[<-results] = true
	}
	if len(seen) != runs || !seen[fmt.Sprintf("1-1-1 0:0:%d\n", runs)] {
		t.Errorf("%d different times of %d: %v", len(seen), runs, seen)
	}
}

// TestTimeOfDay: faketime shows the program what time_privacy says, each
// program its own, and nothing is made in the current directory (U7).
func TestTimeOfDay(t *testing.T) {
	m := newMachine(t).user("timeprivacy[\"/usr/bin/rawdog\"]=1\n")
	for want := 1; want <= 2; want++ {
		s := m.run("cd /run; rawdog x; ls -A /run", "TZ=UTC").want(0).wantIsolated(true).wantArgs("/usr/bin/rawdog", "x")
		unixTime, _ := strconv.ParseInt(s.item("time"), 10, 64)
		at := time.Unix(unixTime, 0).UTC()
		if at.Hour() != 0 || at.Minute() != 0 || at.Second() < want || // time goes on there too
			!strings.Contains(s.env("LD_PRELOAD"), "faketime") || s.env("uwtwrapper_zeroarg") != "" {
			t.Errorf("the program sees %v; %s", at, s.env("LD_PRELOAD"))
		}
		if strings.Contains(s.stdout, "~") {
			t.Errorf("%q", s.stdout)
		}
	}
	if _, err := os.Stat(m.path("/root/.timeprivacy/rawdog/seconds_file")); err != nil {
		t.Error(err)
	}
	// What faketime cannot hold says so, however it runs.
	m.wrap("/usr/bin/static")
	m.copy(binaries+"/time-privacy", "/usr/bin/static"+originalSuffix)
	m.write(isolatorPath, "#!/bin/sh\necho isolated \"$@\"\n", 0o755)
	const real = "warning: '/usr/bin/static.anondist-orig' ignores LD_PRELOAD (/usr/bin/static.anondist-orig: static): it sees the real time\n"
	for _, set := range []string{"", "uwt_unsupported=warn\n", "uwtwrapper_global=0\n"} {
		m.user("timeprivacy[/usr/bin/static]=1\n" + set).run("static -h").want(0).says(real)
	}
	m.user("timeprivacy_global=1\ntimeprivacy[/usr/bin/rawdog]=0\n").run("rawdog").want(0).quiet()
	m.user("timeprivacy_global=1\nuwtwrapper_global=0\n").run("rawdog").want(0).wantIsolated(false).wantArgs("/usr/bin/rawdog")
	// A folder that cannot be written ends it, in the original's words.
	if err := os.RemoveAll(m.path("/root/.timeprivacy")); err != nil {
		t.Fatal(err)
	}
	m.write("/root/.timeprivacy", "", 0o644)
	m.run("rawdog").want(1).notRun().says("the time cannot be kept", "## uwtwrapper BUG.")
}

// TestChain: other settings of torsocks and uwtexec are run as they stand.
func TestChain(t *testing.T) {
	m := newMachine(t)
	m.write("/usr/bin/mine", "#!/bin/sh\necho mine \"$@\"\n", 0o755)
	for conf, want := range map[string]string{
		"torsocks_bin=\"mine -i\"":                          "mine -i /usr/libexec/uwt/uwtexec a\n",
		"uwtexec_bin=mine\nuwtwrapper_global=0":             "mine a\n",
		"torsocks_bin=\"mine /nowhere*\"\nuwtexec_bin=\"\"": "mine /usr/libexec/uwt/uwtexec a\n",
	} {
		if s := m.user(conf + "\n").run("rawdog a").want(0).quiet(); s.stdout != want {
			t.Errorf("%s: %q", conf, s.stdout)
		}
	}
	m.user("torsocks_bin=\"torsocks -i\"\n").run("rawdog a").want(0).quiet().wantIsolated(true).wantArgs("/usr/bin/rawdog", "a")
	m.user("torsocks_bin=not-here\n").run("rawdog a").want(127).notRun().says("exec: not-here: not found")
	// An administrator's own torsocks is run, not what it would be in Debian.
	m.write("/usr/local/bin/torsocks", "#!/bin/sh\necho own \"$@\"\n", 0o755)
	if s := m.user("").run("rawdog a").want(0); s.stdout != "own /usr/libexec/uwt/uwtexec a\n" {
		t.Errorf("%q", s.stdout)
	}
}

// TestBound: the program gets the address of the interface by bindp-launcher,
// or by the library that is configured.
func TestBound(t *testing.T) {
	m, n := newMachine(t), newNamespace(t)
	m.write(bindpPath, "#!/bin/sh\necho \"$BIND_ADDR$LD_PRELOAD\" \"$@\"\n", 0o755)
	m.wrap("/usr/bin/onionshare")
	m.copy(binaries+"/probe", "/usr/bin/onionshare"+originalSuffix)
	const there = "ip link add eth0 type veth peer eth9; ip addr add 10.152.152.11/18 dev eth0; ip addr add 10.152.152.12/18 dev eth0 label eth0:1; cd /; "
	m.in(n, "onionshare a").want(0).wantIsolated(false).wantArgs("/usr/bin/onionshare", "a").
		says("uwtwrapper: WARNING: no IPv4 address on 'eth0'; '/usr/bin/onionshare' listens where it chooses.\n")
	if s := m.in(n, there+"onionshare a").want(0).quiet(); s.stdout != "10.152.152.11 --argv0=/usr/bin/onionshare -- /usr/bin/onionshare.anondist-orig a\n" {
		t.Errorf("%q", s.stdout)
	}
	if s := m.in(n, "/bin/onionshare a", "BIND_ADDR=192.0.2.1").want(0).quiet(); s.stdout != "192.0.2.1 --argv0=/bin/onionshare -- /bin/onionshare.anondist-orig a\n" {
		t.Errorf("%q", s.stdout)
	}
	if s := m.user("bindp_interface=eth0:1\n").in(n, "onionshare").want(0).quiet(); !strings.HasPrefix(s.stdout, "10.152.152.12 ") {
		t.Errorf("%q", s.stdout)
	}
	s := m.user("bindp_so=/usr/lib/own.so\n").in(n, "onionshare b").want(0).wantArgs("/usr/bin/onionshare", "b")
	if s.env("LD_PRELOAD") != " /usr/lib/own.so" || s.env("BIND_ADDR") != "10.152.152.11" {
		t.Errorf("%q %q", s.env("LD_PRELOAD"), s.env("BIND_ADDR"))
	}
	m.user("bindp_use[\"/usr/bin/onionshare\"]=false\n").in(n, "onionshare").want(0).wantIsolated(true)
	m.user("bindp_dispatch=true\n").in(n, "rawdog").want(0)
	m.user("bindp_use[\"/usr/bin/rawdog\"]=1\n").in(n, "rawdog").want(0).wantIsolated(true)
}

// TestHostile: nothing in the environment or the arguments makes the program
// run otherwise than it would, and nothing of the shell's start-up runs (U25).
func TestHostile(t *testing.T) {
	m := newMachine(t)
	evil := []string{"BASH_ENV=/run/evil", "ENV=/run/evil", "SHELLOPTS=xtrace", "IFS=/", "PS4=$(touch /run/done)", "BASH_FUNC_source%%=() { touch /run/done; }",
		"BASH_FUNC_builtin%%=() { touch /run/done; }", "LD_LIBRARY_PATH=/run", "GLOBIGNORE=*", "POSIXLY_CORRECT=1", "BASH_XTRACEFD=3", "CDPATH=/run"}
	m.write("/run/evil", "touch /run/done\n", 0o755)
	m.write("/run/libtorsocks.so", "", 0o644)
	for _, conf := range []string{"", ": $((1))\n"} {
		s := m.user(conf).direct(evil, "rawdog", "a\nb", "\xff").want(0).quiet().wantIsolated(true).wantArgs("/usr/bin/rawdog", "a\nb", "\xff")
		if s.env("IFS") != "/" || s.env("SHELLOPTS") != "xtrace" || !strings.HasPrefix(s.env("LD_PRELOAD"), "/usr/lib/") {
			t.Errorf("%q", s.items("env"))
		}
		if _, err := os.Stat(m.path("/run/done")); err == nil {
			t.Error("something of the environment ran")
		}
	}
	s := m.run("rawdog", "LD_PRELOAD=/lib/x86_64-linux-gnu/libdl.so.2").want(0)
	if got := s.env("LD_PRELOAD"); !strings.HasSuffix(got, "libtorsocks.so:/lib/x86_64-linux-gnu/libdl.so.2") {
		t.Errorf("%q", got)
	}
	// A library that only has the name of torsocks' in its own isolates nothing.
	for _, preload := range []string{"/nowhere/libtorsocks.so", "/usr/lib/x86_64-linux-gnu/torsocks/libtorsocks.so.old", "/nowhere/usr/lib/x86_64-linux-gnu/torsocks/libtorsocks.so"} {
		s := m.direct([]string{"LD_PRELOAD=" + preload}, "rawdog").want(0)
		if got, rest, _ := strings.Cut(s.env("LD_PRELOAD"), ":"); !strings.HasPrefix(got, "/usr/lib/") && got != "libtorsocks.so" || rest != preload {
			t.Errorf("%s: %q", preload, s.env("LD_PRELOAD"))
		}
	}
	// Many arguments, and long ones.
	if s := m.user("").run("rawdog $(seq 100000)").want(0).quiet(); len(s.items("arg")) != 100001 {
		t.Errorf("%d arguments", len(s.items("arg")))
	}
	m.user(": $((1))\n").run("rawdog $(seq 100000)").want(0).quiet()
	// What an environment names does not run as root if others can change it.
	m.write("/run/x"+originalSuffix, "#!/bin/sh\necho ran\n", 0o777)
	m.run("/usr/libexec/uwt/uwtwrapper", "uwtwrapper_parent=/run/x").want(1).notRun().says("refusing to run it as root", "/run/x.anondist-orig can be changed by everybody")
	// So can they by a directory further up, and by one that the caller stands in.
	m.mkdir("/run/open/own")
	m.write("/run/open/own/x"+originalSuffix, "#!/bin/sh\necho ran\n", 0o755)
	if err := os.Chmod(m.path("/run/open"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{"/run/open/own/x", "./x", "x"} {
		m.run("cd /run/open/own; exec /usr/libexec/uwt/uwtwrapper", "uwtwrapper_parent="+parent).want(1).notRun().says("refusing to run it as root", "/run/open can be changed by everybody")
	}
}

// TestSetuidCaller: below a setuid program the dynamic linker would ignore
// LD_PRELOAD; privileges are dropped as bash does.
func TestSetuidCaller(t *testing.T) {
	m := newMachine(t)
	m.copy(binaries+"/uwtwrapper", "/usr/libexec/uwt/uwtwrapper")
	if err := unix.Chmod(m.path("/usr/libexec/uwt/uwtwrapper"), 0o4755); err != nil {
		t.Fatal(err)
	}
	m.run("chmod 755 /root; setpriv --reuid=65534 --regid=65534 --clear-groups rawdog").want(0).wantIsolated(true)
}

// TestEndlessFragment ends with Ctrl-C, as every waiting one does.
func TestEndlessFragment(t *testing.T) {
	m := newMachine(t).user("echo begins\nwhile true; do :; done\n")
	// Ctrl-C comes to the whole job, once the fragment runs.
	s := m.run(`set -m; rawdog 2>/run/said & until grep -q begins /run/said; do sleep 0.05; done; kill -INT -- -$!; wait $!`)
	if s.notRun().status != 130 {
		t.Errorf("status %d", s.status)
	}
}

// TestVerbose: each step is told on request.
func TestVerbose(t *testing.T) {
	m := newMachine(t)
	m.run("rawdog", "uwtwrapper_verbose=1").want(0).says("+ uwtwrapper: ", "exec /usr/bin/rawdog.anondist-orig")
	m.run("rawdog", "uwtwrapper_verbose=x").want(0).says("is no number")
}

// TestNoFormat: a script without its first line runs by the shell.
func TestNoFormat(t *testing.T) {
	m := newMachine(t)
	m.wrap("/usr/bin/bare")
	m.write("/usr/bin/bare"+originalSuffix, "exec rawdog \"$1\"\n", 0o755)
	m.run("bare 'a b'").want(0).quiet().wantIsolated(true).wantArgs("/usr/bin/rawdog", "a b")
	// What is no script either is not handed to the shell.
	m.write("/usr/bin/bare"+originalSuffix, "\x7fNOT\x00rawdog\n", 0o755)
	m.run("bare").want(126).notRun().says("exec format error")
}

// TestFunctions: redefined steps run in bash, and what they leave counts.
func TestFunctions(t *testing.T) {
	m := newMachine(t).user("sanity_tests_general() { uwtwrapper_global=0; export SEEN=\"$1\"; }\n")
	if s := m.run("rawdog arg").want(0).quiet().wantIsolated(false); s.env("SEEN") != "arg" {
		t.Errorf("%q", s.env("SEEN"))
	}
	m.user("alternatives_support() { exit 9; }\n").run("rawdog").want(9).notRun().says("alternatives_support")
	m.user("variables() { :; }\n").run("rawdog").want(0).wantIsolated(true).says("variables")
	if s := m.user("show_help() { echo mine >&2; }\n").run("/usr/libexec/uwt/uwtwrapper --help").want(0); s.stderr != "mine\n" {
		t.Errorf("%q", s.stderr)
	}
}

// TestRedirected: a fragment may choose another program.
func TestRedirected(t *testing.T) {
	m := newMachine(t)
	m.wrap("/usr/bin/other")
	m.user("uwtwrapper_parent=/usr/bin/rawdog\n").run("other x").want(0).quiet().wantArgs("/usr/bin/rawdog", "x")
}

func TestShow(t *testing.T) {
	m := newMachine(t)
	m.copy(binaries+"/uwt-settings-show", "/usr/bin/uwt-settings-show")
	const on = "uwt INFO: Stream isolation for some applications enabled. uwt / torsocks will be automatically prepended to some commands. What is that? See:\n" +
		"uwt INFO: https://www.whonix.org/wiki/Stream_Isolation/Easy\n"
	const off = "uwt INFO: disabled.\n"
	for _, c := range []struct{ conf, args, env, want string }{
		{"", "", "", on}, {"uwtwrapper[/usr/bin/x]=0", "", "", on}, {"uwtwrapper_global=0", "", "", off}, {"", "", "UWT_DEV_PASSTHROUGH=1", off},
		{"sleep 1000\nexit 3", "", "", on}, {"uwtwrapper[/usr/bin/x]=0", "-v", "", on + "uwt INFO: /usr/bin/x: disabled (/etc/uwt.d/50_user.conf:1)\n"},
	} {
		if s := m.user(c.conf+"\n").run("uwt-settings-show "+c.args, c.env).want(0).quiet(); s.stdout != c.want {
			t.Errorf("%q: %q", c.conf, s.stdout)
		}
	}
	m.run("uwt-settings-show x").want(2)
}

func TestControl(t *testing.T) {
	m := unsupportedMachine(t, true)
	m.copy(binaries+"/uwtctl", "/usr/bin/uwtctl")
	m.wrap("/usr/bin/gone")
	m.wrap("/usr/bin/yum")
	m.link("rawdog", "/usr/bin/yum"+originalSuffix)
	m.user("uwtwrapper[/usr/bin/capable]=0\nuwtwrapper[/usr/bin/unknown]=0\r\nuwt_unsupported[/usr/bin/static]=warn\n")
	read := func(s *seen) (map[string]entry, []string) {
		var r report
		if err := json.Unmarshal([]byte(s.stdout), &r); err != nil {
			t.Fatalf("%v: %q", err, s.stdout)
		}
		out := map[string]entry{}
		for _, p := range r.Programs {
			out[p.Name] = p
		}
		return out, r.Warnings
	}
	got, warnings := read(m.run("uwtctl check --json").want(1))
	for name, want := range map[string]string{
		"/usr/bin/rawdog": "torsocks true dynamic uwtwrapper_global /etc/uwt.d/30_uwt_default.conf:10", "/usr/bin/gone": "torsocks false  uwtwrapper_global /etc/uwt.d/30_uwt_default.conf:10",
		"/usr/bin/static": "warn true static uwt_unsupported[/usr/bin/static] /etc/uwt.d/50_user.conf:3", "/usr/bin/capable": "none true  uwtwrapper[/usr/bin/capable] /etc/uwt.d/50_user.conf:1",
		"/usr/bin/setgid": "isolate true setgid uwtwrapper_global /etc/uwt.d/30_uwt_default.conf:10", "/usr/bin/yum": "torsocks true dynamic uwtwrapper_global /etc/uwt.d/30_uwt_default.conf:10",
	} {
		p := got[name]
		if s := fmt.Sprint(p.Isolation, " ", p.Installed, " ", p.Type, " ", p.Setting, " ", p.Origin); s != want {
			t.Errorf("%s: %s, want %s", name, s, want)
		}
	}
	if !slices.Equal(got["/usr/bin/yum"].Links, []string{"/usr/bin/rawdog"}) || got["/usr/bin/static"].Slips == "" {
		t.Errorf("%+v", got)
	}
	all := strings.Join(warnings, "\n")
	for _, text := range []string{"/etc/uwt.d/50_user.conf:2: has a carriage return", "needs bash", "uwtwrapper[/usr/bin/unknown] is set, but no such program is wrapped"} {
		if !strings.Contains(all, text) {
			t.Errorf("%q lacks %q", all, text)
		}
	}
	if s := m.user("").run("uwtctl check").want(0).quiet(); !strings.Contains(s.stdout, "/usr/bin/rawdog\n    program    /usr/bin/rawdog.anondist-orig (dynamic)\n    isolation  torsocks (uwtwrapper_global, /etc/uwt.d/30_uwt_default.conf:10)\n") {
		t.Errorf("%q", s.stdout)
	}
	// A program that is typed past its wrapper.
	m.write("/usr/bin/past"+originalSuffix, "#!/bin/sh\n", 0o755)
	m.write("/usr/bin/past", "#!/bin/sh\n", 0o755)
	m.link(wrapperPath, "/usr/bin/past"+wrapperSuffix)
	if s := m.run("uwtctl check").want(1); !strings.Contains(s.stdout, "SLIPS      /usr/bin/past does not lead to its wrapper") {
		t.Errorf("%q", s.stdout)
	}
	m.user("exit 3\n").run("uwtctl check").want(1).notRun().says("no wrapped program would run: /etc/uwt.d/50_user.conf")
	m.run("uwtctl").want(2).says("uwtctl check")
	m.run("uwtctl check --xml").want(2)
}
