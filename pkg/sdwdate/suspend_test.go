// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// sleeper is a machine with stand-ins for what is called, which note it.
type sleeper struct {
	root fsx.Root
	out  bytes.Buffer
	err  bytes.Buffer
	log  []string // the journal
}

func newSleeper(t *testing.T) *sleeper {
	t.Helper()
	m := &sleeper{root: fsx.Root(t.TempDir())}
	m.program(t, "qubesdb-read", "")
	m.program(t, "systemctl", "exit 0")
	m.program(t, "whonix_firewall", `echo "firewall_mode=$firewall_mode" >> "$calls"`)
	m.program(t, "anon-consensus-del", "")
	m.file(t, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nsdwdate:x:4321:4322::/run/sdwdate:/bin/sh\n")
	return m
}

func (m *sleeper) file(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.root.Path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.root.Path(path), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// program is a stand-in: it notes its call, and then does what the script says.
func (m *sleeper) program(t *testing.T, name, script string) {
	t.Helper()
	m.file(t, "/usr/bin/"+name, "#!/bin/sh\ncalls='"+m.root.Path("/calls")+"'\necho '"+name+"'\" $*\" >> \"$calls\"\n"+script+"\n")
}

// calls is what was called since it was asked last.
func (m *sleeper) calls(t *testing.T) []string {
	t.Helper()
	data, _ := os.ReadFile(m.root.Path("/calls"))
	os.Remove(m.root.Path("/calls"))
	var list []string
	for line := range strings.Lines(string(data)) {
		list = append(list, strings.TrimSpace(line))
	}
	return list
}

func (m *sleeper) env(name string, args ...string) cli.Env {
	m.out.Reset()
	m.err.Reset()
	return cli.Env{Args: append([]string{name}, args...), Stdout: &m.out, Stderr: &m.err, Now: func() time.Time { return worldNow() }}
}

func (m *sleeper) suspend(when string, euid int) int {
	m.log = nil
	env := m.env("/usr/libexec/sdwdate/suspend-" + when)
	return cli.Run(context.Background(), env, func(ctx context.Context, env cli.Env) error {
		return (&suspend{env: env, root: m.root, euid: euid, journal: func(l string) { m.log = append(m.log, l) }}).run(ctx, when)
	})
}

func (m *sleeper) exists(name string) bool { return m.root.Exists(statusDir + "/" + name) }

// TestSuspend: there and back, on a machine where all is well.
func TestSuspend(t *testing.T) {
	m := newSleeper(t)
	m.file(t, statusDir+"/first_success", "")
	m.file(t, statusDir+"/success", "")
	if code := m.suspend("pre", 0); code != 0 {
		t.Errorf("exit %d: %s", code, &m.out)
	}
	want := []string{
		"systemctl --no-pager status sdwdate", "systemctl --no-pager stop sdwdate", "whonix_firewall", "firewall_mode=timesync-fail-closed",
		"systemctl --no-pager status tor", "systemctl --no-pager stop tor", "systemctl --no-pager stop vanguards",
	}
	if calls := m.calls(t); !slices.Equal(calls, want) {
		t.Errorf("%q", calls)
	}
	if m.exists("first_success") || m.exists("success") || !m.exists(fileSdwdateRan) || !m.exists(fileTorRan) {
		t.Error("the wrong files are there")
	}
	line := regexp.MustCompile(`^2026-11-25 12:00:00 - /usr/libexec/sdwdate/suspend-pre - (INFO|ERROR) - \S`)
	lines := strings.Split(strings.TrimSpace(m.out.String()), "\n")
	for _, l := range lines {
		if !line.MatchString(l) {
			t.Errorf("%q", l)
		}
	}
	if !slices.Equal(lines, m.log) {
		t.Errorf("the journal has %q", m.log)
	}
	if code := m.suspend("post", 0); code != 0 {
		t.Errorf("exit %d: %s", code, &m.out)
	}
	if calls := m.calls(t); !slices.Equal(calls, []string{"anon-consensus-del", "systemctl --no-pager --no-block restart sdwdate"}) {
		t.Errorf("%q", calls)
	}
	if m.exists(fileSdwdateRan) || m.exists(fileTorRan) || !m.exists("clock_jump_do_once") {
		t.Error("the wrong files are there")
	}
}

// TestSuspendNothingRan: what did not run before does not run afterwards.
func TestSuspendNothingRan(t *testing.T) {
	m := newSleeper(t)
	m.program(t, "systemctl", "exit 3")
	for _, when := range []string{"pre", "post"} {
		if code := m.suspend(when, 0); code != 0 {
			t.Errorf("exit %d: %s", code, &m.out)
		}
	}
	if calls := m.calls(t); !slices.Equal(calls, []string{"systemctl --no-pager status sdwdate", "systemctl --no-pager status tor"}) {
		t.Errorf("%q", calls)
	}
}

// TestSuspendElsewhere: templates, other accounts, machines without Qubes.
func TestSuspendElsewhere(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*sleeper)
		euid   int
		code   int
		line   string
	}{
		{"template", func(m *sleeper) { m.file(t, whonix.TemplateMarker, "") }, 0, 0, "INFO - Skipping, because run in TemplateVM."},
		{"not root", func(*sleeper) {}, 1000, 2, "ERROR - Must run as root!"},
		{"no Qubes", func(m *sleeper) { os.Remove(m.root.Path("/usr/bin/qubesdb-read")) }, 0, 3, "wiki/Troubleshooting#Clock_Fix"},
	} {
		for _, when := range []string{"pre", "post"} {
			m := newSleeper(t)
			c.change(m)
			if code := m.suspend(when, c.euid); code != c.code || !strings.Contains(m.out.String(), c.line) || m.err.Len() != 0 {
				t.Errorf("%s: exit %d: %s%s", c.name, code, &m.out, &m.err)
			}
			if calls := m.calls(t); calls != nil || m.root.Exists(statusDir) {
				t.Errorf("%s: %q", c.name, calls)
			}
		}
	}
}

// TestAcceptance23_FailingSteps: a step that fails keeps no other from being
// made, and no link is followed (D29, D30).
func TestAcceptance23_FailingSteps(t *testing.T) {
	m := newSleeper(t)
	m.program(t, "systemctl", `case $2 in status) exit 0 ;; *) exit 1 ;; esac`)
	m.program(t, "whonix_firewall", "exit 1")
	m.file(t, statusDir+"/success", "")
	victim := m.root.Path("/victim")
	if err := os.Symlink(victim, m.root.Path(statusDir+"/"+fileTorRan)); err != nil {
		t.Fatal(err)
	}
	if code := m.suspend("pre", 0); code != 1 || strings.Count(m.out.String(), " - ERROR - ") != 3 {
		t.Errorf("exit %d: %s", code, &m.out)
	}
	if calls := m.calls(t); !slices.Contains(calls, "systemctl --no-pager stop tor") || !slices.Contains(calls, "whonix_firewall") || m.exists("success") {
		t.Errorf("%q", calls)
	}
	if _, err := os.Lstat(victim); err == nil {
		t.Error("root followed a link")
	}
	if fi, err := os.Lstat(m.root.Path(statusDir + "/" + fileTorRan)); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("%v, %v", fi, err)
	}
	m.program(t, "systemctl", "exit 0")
	m.program(t, "anon-consensus-del", "exit 7")
	if code := m.suspend("post", 0); code != 1 || !strings.Contains(m.out.String(), "anon-consensus-del: exit status 7") {
		t.Errorf("exit %d: %s", code, &m.out)
	}
	want := []string{"anon-consensus-del", "systemctl --no-pager restart tor", "systemctl --no-pager --no-block restart sdwdate"}
	if calls := m.calls(t); !slices.Equal(calls, want) || !m.exists("clock_jump_do_once") || m.exists(fileTorRan) {
		t.Errorf("%q", calls)
	}
}

// TestSuspendPlantedMarkers: what is no regular file tells nothing.
func TestSuspendPlantedMarkers(t *testing.T) {
	m := newSleeper(t)
	m.file(t, "/target", "")
	if err := os.MkdirAll(m.root.Path(statusDir), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fileSdwdateRan, fileTorRan} {
		if err := os.Symlink(m.root.Path("/target"), m.root.Path(statusDir+"/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	if code := m.suspend("post", 0); code != 0 || m.calls(t) != nil {
		t.Errorf("exit %d: %s", code, &m.out)
	}
}

// TestSuspendWithoutHelpers: Tor forgets its consensus also where nothing is
// installed for that.
func TestSuspendWithoutHelpers(t *testing.T) {
	m := newSleeper(t)
	for _, name := range []string{"anon-consensus-del", "whonix_firewall"} {
		os.Remove(m.root.Path("/usr/bin/" + name))
	}
	for _, name := range []string{"cached-certs", "cached-microdesc-consensus", "cached-microdescs", "cached-microdescs.new", "state"} {
		m.file(t, "/var/lib/tor/"+name, "")
	}
	if code := m.suspend("pre", 0); code != 0 {
		t.Errorf("exit %d: %s", code, &m.out)
	}
	m.calls(t)
	if code := m.suspend("post", 0); code != 0 {
		t.Errorf("exit %d: %s", code, &m.out)
	}
	want := []string{
		"systemctl --no-pager stop tor", "systemctl --no-pager stop vanguards", "systemctl --no-pager is-enabled vanguards",
		"systemctl --no-pager restart vanguards", "systemctl --no-pager restart tor", "systemctl --no-pager --no-block restart sdwdate",
	}
	if calls := m.calls(t); !slices.Equal(calls, want) {
		t.Errorf("%q", calls)
	}
	left, err := os.ReadDir(m.root.Path("/var/lib/tor"))
	if err != nil || len(left) != 1 || left[0].Name() != "state" {
		t.Errorf("%v, %v", left, err)
	}
}

func (m *sleeper) jump(euid int) int {
	return cli.Run(context.Background(), m.env("/usr/sbin/sdwdate-clock-jump"), func(ctx context.Context, env cli.Env) error {
		return clockJump(ctx, env, m.root, euid)
	})
}

// TestClockJump: what says that the clock is right goes, the request comes, as
// the daemon's own.
func TestClockJump(t *testing.T) {
	m := newSleeper(t)
	gone := []string{anondateDir + "/" + fileCertificate, statusDir + "/" + fileCertificate, statusDir + "/first_success"}
	for _, path := range gone {
		m.file(t, path, "")
	}
	m.file(t, statusDir+"/success", "")
	if code := m.jump(0); code != 0 || m.out.Len()+m.err.Len() != 0 {
		t.Errorf("exit %d: %s%s", code, &m.out, &m.err)
	}
	for _, path := range gone {
		if m.root.Exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(m.root.Path(statusDir+"/clock_jump_do_once"), &st); err != nil || st.Uid != 4321 || st.Gid != 4322 || st.Mode != unix.S_IFREG|0o644 {
		t.Errorf("%v %o %d:%d", err, st.Mode, st.Uid, st.Gid)
	}
	if calls := m.calls(t); !slices.Equal(calls, []string{"systemctl --no-pager --no-block restart sdwdate"}) || !m.exists("success") {
		t.Errorf("%q", calls)
	}
}

func TestClockJumpNotRoot(t *testing.T) {
	m := newSleeper(t)
	if code := m.jump(1000); code != 1 || m.out.String() != "/usr/sbin/sdwdate-clock-jump: ERROR: Must be run as root (sudo)!\n" || m.err.Len() != 0 || m.calls(t) != nil {
		t.Errorf("exit %d: %s%s", code, &m.out, &m.err)
	}
}

// TestClockJumpGoesOn: the daemon is restarted although the file could not be
// made; and the exit code tells (D29).
func TestClockJumpGoesOn(t *testing.T) {
	m := newSleeper(t)
	m.file(t, "/run/sdwdate", "a file where a folder should be")
	m.program(t, "systemctl", "exit 4")
	if code := m.jump(0); code != 1 || !regexp.MustCompile(`^sdwdate-clock-jump: error: open /run/sdwdate: not a directory; .*systemctl: exit status 4\n$`).Match(m.err.Bytes()) {
		t.Errorf("exit %d: %s", code, &m.err)
	}
	if calls := m.calls(t); len(calls) != 1 {
		t.Errorf("%q", calls)
	}
	m = newSleeper(t)
	m.program(t, "systemctl", "exit 5")
	if code := m.jump(0); code != 1 || !strings.Contains(m.err.String(), "exit status 5") || !m.exists("clock_jump_do_once") {
		t.Errorf("exit %d: %s", code, &m.err)
	}
}

// TestClockJumpLinks: root makes and removes entries of the folder, and nothing
// else.
func TestClockJumpLinks(t *testing.T) {
	m := newSleeper(t)
	m.file(t, "/victim", "text")
	if err := os.MkdirAll(m.root.Path(statusDir), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first_success", "clock_jump_do_once"} {
		if err := os.Symlink(m.root.Path("/victim"), m.root.Path(statusDir+"/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	if code := m.jump(0); code != 0 {
		t.Errorf("exit %d: %s", code, &m.err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(m.root.Path("/victim"), &st); err != nil || st.Uid == 4321 || st.Size != 4 {
		t.Errorf("%v, owner %d, %d bytes", err, st.Uid, st.Size)
	}
	if err := os.Rename(m.root.Path(statusDir), m.root.Path("/elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(m.root.Path("/elsewhere"), m.root.Path(statusDir)); err != nil {
		t.Fatal(err)
	}
	if code := m.jump(0); code != 1 {
		t.Errorf("the folder is a link: exit %d", code)
	}
}
