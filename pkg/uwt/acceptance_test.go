// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"strconv"
	"strings"
	"testing"
)

// The tests are named after the lines of the contract's section 12.

func TestAcceptance01_Verbatim(t *testing.T) {
	m := newMachine(t)
	s := m.run(`echo -n "shell=$$"; printf '\0'; exec rawdog a 'b c' '' '*'`, "PROBE_EXIT=37").want(37).quiet().wantIsolated(true)
	s.wantArgs("/usr/bin/rawdog", "a", "b c", "", "*")
	if s.env("TORSOCKS_LOG_LEVEL") != "1" || s.env("uwtwrapper_counter") != "1" || s.env("uwtwrapper_parent") != "/usr/bin/rawdog" || s.env("uwtwrapper_zeroarg") != "" {
		t.Errorf("%q", s.items("env"))
	}
	if s.item("shell") == "" || s.item("shell") != s.item("pid") {
		t.Errorf("the pid has changed from %s to %s", s.item("shell"), s.item("pid"))
	}
	if got := s.item("exe"); got != "/usr/bin/rawdog.anondist-orig" {
		t.Errorf("what runs is %s", got)
	}
}

func TestAcceptance02_Names(t *testing.T) {
	m := newMachine(t)
	m.link("/usr/bin/rawdog", "/usr/local/bin/rd")
	for script, want := range map[string]string{
		"/usr/bin/rawdog.anondist":            "/usr/bin/rawdog",
		"cd /usr/bin; ./rawdog":               "./rawdog",
		"/bin/rawdog":                         "/bin/rawdog",
		"(exec -a foo /usr/bin/rawdog)":       "/usr/bin/rawdog",
		"rd":                                  "/usr/local/bin/rd",
		"cd /usr/bin; PATH=:/bin; rawdog":     "./rawdog",
		"cd /usr/bin; PATH=/bin ./rawdog":     "./rawdog",
		"(exec -a '' /usr/bin/rawdog)":        "/usr/bin/rawdog",
		"cd /usr/libexec; ../bin/./rawdog":    "../bin/./rawdog",
		"cd /usr/bin; ./rawdog.anondist":      "./rawdog",
		"export uwtwrapper_zeroarg=x; rawdog": "/usr/bin/rawdog",
		"export uwtwrapper_parent=/x; rawdog": "/usr/bin/rawdog",
	} {
		m.run(script).want(0).quiet().wantIsolated(true).wantArgs(want)
	}
}

func TestAcceptance03_Nesting(t *testing.T) {
	m := newMachine(t)
	if s := m.run("rawdog", "uwtwrapper_counter=8").want(0); s.env("uwtwrapper_counter") != "9" {
		t.Errorf("counter %s", s.env("uwtwrapper_counter"))
	}
	s := m.run("rawdog", "uwtwrapper_counter=9").want(255).notRun()
	if want := "uwtwrapper uwt wrapper ERROR: More than uwtwrapper_counter '10' nested executions (uwtwrapper_max: '10').\n"; s.stderr != want {
		t.Errorf("%q, want %q", s.stderr, want)
	}
	m.run("rawdog; ls /tmp/uwt-evil", "uwtwrapper_counter=a[$(touch /tmp/uwt-evil)]").want(2).says("no decimal number", "No such file")
	m.run("rawdog", "uwtwrapper_counter=08").want(0)
	m.run("rawdog", "uwtwrapper_max=x", "uwtwrapper_counter=9").want(255)
	m.run("rawdog", "uwtwrapper_max=100", "uwtwrapper_counter=50").want(0)
	// Eleven wrappers above each other end at the tenth.
	m.wrap("/usr/bin/git")
	m.write("/usr/bin/git"+originalSuffix, "#!/bin/sh\necho again >&2\nexec git\n", 0o755)
	if s := m.run("git").want(255); strings.Count(s.stderr, "again") != 9 {
		t.Errorf("%q", s.stderr)
	}
}

func TestAcceptance04_NameIsNotInherited(t *testing.T) {
	m := newMachine(t)
	m.wrap("/usr/bin/git")
	m.write("/usr/bin/git"+originalSuffix, "#!/bin/sh\nexec rawdog h\n", 0o755)
	m.run("git").want(0).quiet().wantArgs("/usr/bin/rawdog", "h")
}

func TestAcceptance05_LinksToPrograms(t *testing.T) {
	m := newMachine(t)
	m.copy(binaries+"/probe", "/usr/lib/x/prog")
	m.wrap("/usr/bin/far")
	m.link("/usr/lib/x/prog", "/usr/bin/far"+originalSuffix)
	m.wrap("/usr/bin/near")
	m.link("../lib/x/prog", "/usr/bin/near"+originalSuffix)
	for _, name := range []string{"far", "near"} {
		s := m.run("cd /; " + name).want(0).quiet().wantIsolated(true).wantArgs("/usr/bin/" + name)
		if s.item("exe") != "/usr/lib/x/prog" {
			t.Errorf("%s: what runs is %s", name, s.item("exe"))
		}
	}
	// A link to another wrapper: yum is dnf-3.
	m.wrap("/usr/bin/yum")
	m.link("rawdog", "/usr/bin/yum"+originalSuffix)
	if s := m.run("cd /; yum x").want(0).quiet().wantIsolated(true).wantArgs("/usr/bin/yum", "x"); s.env("uwtwrapper_counter") != "2" {
		t.Errorf("counter %s", s.env("uwtwrapper_counter"))
	}
	// aptitude is an alternative of aptitude-curses.
	m.wrap("/usr/bin/aptitude-curses")
	m.copy(binaries+"/probe", "/usr/bin/aptitude-curses"+originalSuffix)
	m.link("/etc/alternatives/aptitude", "/usr/bin/aptitude")
	m.link("/usr/bin/aptitude-curses", "/etc/alternatives/aptitude")
	s := m.run("aptitude").want(0).quiet().wantIsolated(true).wantArgs("/usr/bin/aptitude")
	if s.env("uwtwrapper_counter") != "3" || s.env("uwtwrapper_parent") != "/usr/bin/aptitude-curses" {
		t.Errorf("counter %s, parent %s", s.env("uwtwrapper_counter"), s.env("uwtwrapper_parent"))
	}
	// Links that lead round in a circle end.
	m.wrap("/usr/bin/round")
	m.link("about", "/usr/bin/round"+originalSuffix)
	m.wrap("/usr/bin/about")
	m.link("round", "/usr/bin/about"+originalSuffix)
	m.run("round").want(255).notRun()
	m.user("nested_protection() { true; }\n")
	m.run("round").want(126).notRun().says("too many links")
	m.link("self"+originalSuffix, "/usr/bin/self"+originalSuffix)
	m.wrap("/usr/bin/self")
	m.run("self").want(1).notRun()
}

func TestAcceptance06_Missing(t *testing.T) {
	m := newMachine(t)
	for _, name := range []string{"gone", "plain", "dir", "bad"} {
		m.wrap("/usr/bin/" + name)
	}
	m.write("/usr/bin/plain"+originalSuffix, "x", 0o644)
	m.mkdir("/usr/bin/dir" + originalSuffix)
	m.write("/usr/bin/bad"+originalSuffix, "#!/no/such/interpreter\n", 0o755)
	m.run("gone").want(1).notRun().says("uwtwrapper uwt wrapper ERROR: file '/usr/bin/gone.anondist-orig' does not exist.\n", "sudo apt install gone")
	m.run("plain").want(1).notRun().says("uwtwrapper uwt wrapper ERROR: file '/usr/bin/plain.anondist-orig' is not executable.\n")
	m.run("dir").want(126).notRun().says("is a directory")
	m.run("bad").want(127).notRun().says("required file not found")
	m.write("/usr/local/bin/command-not-found", "#!/bin/sh\necho \"$@\" >&2\nexit 33\n", 0o755)
	m.run("gone").want(33).says("--ignore-installed gone\n")
}

func TestAcceptance07_ByHand(t *testing.T) {
	m := newMachine(t)
	for _, path := range []string{"/usr/libexec/uwt/uwtwrapper", "/usr/lib/uwtwrapper"} {
		m.run(path).want(255).notRun().says("ERROR: You are not supposed to run '/usr/libexec/uwt/uwtwrapper' manually from the command line.\n", "--help")
		for _, option := range []string{"--help", "-h", "'-?'"} {
			if s := m.run(path + " " + option).want(0).quiet(); !strings.Contains(s.stdout, "/etc/uwt.d") || !strings.Contains(s.stdout, "https://www.whonix.org/wiki/Stream_Isolation") {
				t.Errorf("%q", s.stdout)
			}
		}
		m.run(path + " -- --help").want(255)
		m.write("/usr/local/bin/my", "#!/bin/bash\nexport uwtwrapper_parent=\"${BASH_SOURCE[0]}\"\nexec "+path+" \"$@\"\n", 0o755)
		m.copy(binaries+"/probe", "/usr/local/bin/my"+originalSuffix)
		m.run("my x").want(0).quiet().wantIsolated(true).wantArgs("/usr/local/bin/my", "x")
	}
	m.run("rawdog --help").want(0).wantArgs("/usr/bin/rawdog", "--help")
	m.run("rawdog --version").want(0).wantArgs("/usr/bin/rawdog", "--version")
	m.user("uwtwrapper[\"/usr/local/bin/my\"]=\"0\"\n")
	m.run("my").want(0).wantIsolated(false)
}

func TestAcceptance08_Switches(t *testing.T) {
	m := newMachine(t)
	for _, text := range []string{
		`uwtwrapper["/usr/bin/rawdog"]="0"`, `uwtwrapper[/usr/bin/rawdog]=0`, `uwtwrapper['/usr/bin/rawdog']='0'`,
		`uwtwrapper=( [/usr/bin/rawdog]=0 )`, `uwtwrapper+=( ["/usr/bin/rawdog"]="0" )`,
		`for p in rawdog git; do uwtwrapper["/usr/bin/$p"]="0"; done`, `uwtwrapper_global="0"`,
		`case "$uwtwrapper_parent" in *rawdog) uwtwrapper_global=0 ;; esac`,
	} {
		m.user(text + "\n").run("rawdog").want(0).quiet().wantIsolated(false).wantArgs("/usr/bin/rawdog")
		m.run("/bin/rawdog").want(0).wantIsolated(false)
	}
	for _, text := range []string{
		"uwtwrapper_global=0\nuwtwrapper[/usr/bin/rawdog]=1", `uwtwrapper["/usr/bin/rawdog"]="no"`, `uwtwrapper["/usr/bin/rawdogs"]="0"`, `uwtwrapper_global="no"`,
	} {
		m.user(text + "\n").run("rawdog").want(0).quiet().wantIsolated(true)
	}
}

func TestAcceptance09_NestingRedefined(t *testing.T) {
	m := newMachine(t).user("nested_protection() {\n   true\n}\n")
	if s := m.run("rawdog", "uwtwrapper_counter=50").want(0).quiet().wantIsolated(true); s.env("uwtwrapper_counter") != "50" {
		t.Errorf("counter %s", s.env("uwtwrapper_counter"))
	}
}

func TestAcceptance10_CarriageReturns(t *testing.T) {
	newMachine(t).user("uwtwrapper_global=\"0\"\r\n").run("rawdog").want(0).wantIsolated(true).says("/etc/uwt.d/50_user.conf:1", "carriage return")
}

func TestAcceptance11_Streams(t *testing.T) {
	m := newMachine(t).user("echo said\nread -r line || true\n[ \"$line\" = x ] && uwtwrapper_global=0\n")
	s := m.run("echo x | rawdog", "PROBE_READ=1").want(0).wantIsolated(true).says("said\n")
	if s.item("read") != "x\n" || strings.Contains(s.stdout, "said") {
		t.Errorf("the program read %q; %.100q", s.item("read"), s.stdout)
	}
}

func TestAcceptance12_Refusals(t *testing.T) {
	m := newMachine(t).user("exit 42\n")
	if s := m.run("rawdog").want(42).notRun(); s.stderr != "uwtwrapper: '/etc/uwt.d/50_user.conf' ended execution of '/usr/bin/rawdog' with exit status 42.\n" {
		t.Errorf("%q", s.stderr)
	}
	m.user("exit 0\n").run("rawdog").want(1).notRun()
	m.user("x=1\nif true\n").run("rawdog").want(1).notRun().says("/etc/uwt.d/50_user.conf: line 3: syntax error", "## uwtwrapper BUG.\n")
	m.user("x=$(false)\n").run("rawdog").want(1).notRun().says("/etc/uwt.d/50_user.conf:1:", "## BASH_COMMAND: 'x=$(false)'\n", "## uwtwrapper_parent: '/usr/bin/rawdog'\n")
	m.user("x=1\n")
	m.write("/etc/uwt.d/60.conf", "x=1\n", 0o600)
	s := m.run(`setpriv --reuid=65534 --clear-groups rawdog`).want(1).notRun()
	s.says("/etc/uwt.d/60.conf", "permission denied")
	m.write("/etc/uwt.d/60.conf", "x=1\n", 0o666)
	m.run("rawdog").want(1).notRun().says("/etc/uwt.d/60.conf", "can be changed by everybody")
	m.run(`setpriv --reuid=65534 --clear-groups rawdog`).want(0)
}

func TestAcceptance13_Effects(t *testing.T) {
	m := newMachine(t).user("export FOO=1\ncd /\numask 077\nulimit -Sn 123\n")
	s := m.run("cd /usr; ulimit -Sn 300; rawdog").want(0).quiet().wantIsolated(true)
	if s.env("FOO") != "1" || s.item("cwd") != "/" || s.item("umask") != strconv.Itoa(0o077) || s.item("files") != "123" {
		t.Errorf("%s %s %s %s", s.env("FOO"), s.item("cwd"), s.item("umask"), s.item("files"))
	}
}

func TestAcceptance15_Passthrough(t *testing.T) {
	m := newMachine(t)
	for _, name := range []string{"curl", "dnf-3"} {
		m.wrap("/usr/bin/" + name)
		m.copy(binaries+"/probe", "/usr/bin/"+name+originalSuffix)
	}
	for _, name := range []string{"rawdog", "curl", "dnf-3"} {
		m.run(name+" -K x", "UWT_DEV_PASSTHROUGH=1").want(0).quiet().wantIsolated(false).wantArgs("/usr/bin/"+name, "-K", "x")
	}
	m.run("rawdog", "UWT_DEV_PASSTHROUGH=0").want(0).wantIsolated(true)
}

func TestAcceptance20_Inherited(t *testing.T) {
	m := newMachine(t)
	for _, conf := range []string{"", ": $((1))\n"} {
		s := m.user(conf).run("ulimit -Sn 300; trap '' QUIT PIPE TERM; rawdog").want(0).quiet()
		// Signals 3, 13 and 15; 32 and 33 belong to the C library.
		ignored, err := strconv.ParseUint(s.item("ignored"), 16, 64)
		if err != nil || ignored&^(1<<31|1<<32) != 1<<2|1<<12|1<<14 || s.item("files") != "300" {
			t.Errorf("ignored %s, files %s", s.item("ignored"), s.item("files"))
		}
	}
}
