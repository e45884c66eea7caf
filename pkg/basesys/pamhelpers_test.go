// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// TestAcceptance17_Services.
func TestAcceptance17_Services(t *testing.T) {
	t.Parallel()
	root := fsx.Root(t.TempDir())
	put(t, root.Path(excludeDir+"/30_own.conf"), "# ours\nimapd # with a comment\n", 0o644)
	put(t, root.Path(excludeDir+"/40_anybodys.conf"), "login\n", 0o666)
	for name, want := range map[string]map[string]int{
		"pam_only_if_login":     {"login": 1, "su": 0, "sshd": 0, "": 0, "unset": 0},
		"pam_only_if_su":        {"login": 0, "su": 1, "sshd": 0, "": 0, "unset": 0},
		"pam_faillock_not_if_x": {"login": 1, "su": 1, "sshd": 0, "": 1, "unset": 1, "dovecot": 0, "imapd": 0},
	} {
		for service, code := range want {
			environ := []string{"PAM_SERVICE=" + service}
			if service == "unset" {
				environ = nil
			}
			got, stdout, stderr := call(t, environ, []string{"/usr/libexec/security-misc/" + name}, func(e cli.Env) error { return onlyIf(root, e) })
			if got != code || stdout != "" || stderr != "" {
				t.Errorf("%s, service %q: %d %q %q, want %d and silence", name, service, got, stdout, stderr, code)
			}
		}
	}
}

// record is one of the tally.
func record(status uint16, age time.Duration) string {
	b := make([]byte, tallyRecord)
	copy(b, "tty1")
	binary.NativeEndian.PutUint16(b[54:], status)
	binary.NativeEndian.PutUint64(b[56:], uint64(now().Add(-age).Unix()))
	return string(b)
}

// TestAcceptance18_Info (defect D-18).
func TestAcceptance18_Info(t *testing.T) {
	t.Parallel()
	root := fsx.Root(t.TempDir())
	put(t, root.Path("/etc/passwd"), "root:x:0:0::/root:/bin/sh\nbob:x:4002:4002::/home/bob:/bin/sh\n", 0o644)
	put(t, root.Path(faillockConf), "deny = 9\ndir=/var/lib/security-misc/faillock # there\ndeny=50 # fifty\nfail_interval = 604800\n", 0o644)
	tally := record(tallyValid, time.Hour) + record(tallyValid|4, 48*time.Hour) + record(4, time.Hour) + record(tallyValid, 8*24*time.Hour)
	put(t, root.Path("/var/lib/security-misc/faillock/bob"), tally, 0o600)
	put(t, root.Path("/var/lib/security-misc/faillock/root"), strings.Repeat(record(tallyValid, time.Hour), 60), 0o600)
	run := func(environ ...string) string {
		t.Helper()
		code, stdout, stderr := call(t, environ, []string{"/x/pam-info"}, func(e cli.Env) error { return (&login{root: root, euid: 0, env: e}).info(context.Background()) })
		if code != 0 || stdout != "" {
			t.Errorf("%q: %d %q", environ, code, stdout)
		}
		return stderr
	}
	want := "/x/pam-info: WARNING: 2 failed login attempts for account 'bob'.\n/x/pam-info: WARNING: Login will be blocked after 50 attempts.\n" +
		"/x/pam-info: WARNING: You have 48 more attempts before unlock procedure is required.\n"
	if got := run("PAM_USER=bob", "PAM_SERVICE=login"); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := run("PAM_USER=bob"); got != want {
		t.Errorf("without a service: %s", got)
	}
	if got := run("PAM_USER=bob", "PAM_SERVICE=su"); got != want+"/x/pam-info: NOTE: No asterisks are shown while a password is typed.\n" {
		t.Errorf("su: %s", got)
	}
	for _, silent := range [][]string{
		{"PAM_USER=bob", "PAM_SERVICE=login", "PAM_RHOST=192.0.2.1"}, {"PAM_USER=bob", "PAM_SERVICE=sshd"},
		{"PAM_USER="}, {}, {"PAM_USER=-x"}, {"PAM_USER=b\tob"}, {"PAM_USER=nosuch"}, {"PAM_USER=../bob"},
	} {
		if got := run(silent...); got != "" {
			t.Errorf("%q: %q", silent, got)
		}
	}
	if got := run("PAM_USER=root", "PAM_SERVICE=login"); got != "/x/pam-info: WARNING: 60 failed login attempts for account 'root'.\n" {
		t.Errorf("root: %s", got)
	}
	put(t, root.Path(faillockConf), "deny = 2\ndir=/var/lib/security-misc/faillock\nfail_interval = 604800\neven_deny_root\n", 0o644)
	if got := run("PAM_USER=bob", "PAM_SERVICE=login"); !strings.HasPrefix(got, "/x/pam-info: ERROR: Login blocked after 2 attempts.\n") || !strings.HasSuffix(got, "https://www.kicksecure.com/wiki/root#unlock\n") {
		t.Errorf("%s", got)
	}
	if got := run("PAM_USER=root", "PAM_SERVICE=login"); !strings.Contains(got, "blocked after 60") {
		t.Errorf("root with even_deny_root: %s", got)
	}
	put(t, root.Path(faillockConf), "deny = many\n", 0o644)
	if got := run("PAM_USER=bob", "PAM_SERVICE=login"); got != "/x/pam-info: ERROR: /etc/security/faillock.conf:1: deny: no number: \"many\"\n" {
		t.Errorf("%s", got)
	}
}

// TestAcceptance19_Locked (defect D-16).
func TestAcceptance19_Locked(t *testing.T) {
	t.Parallel()
	root := fsx.Root(t.TempDir())
	put(t, root.Path("/etc/shadow"), "root:!:1::::::\nlocked:!$6$x:1::::::\nstar:*:1::::::\npassword:$y$x:1::::::\nnone::1::::::\n", 0o600)
	run := func(euid int, option string, environ ...string) (int, string, string) {
		t.Helper()
		args := []string{"/x/pam-abort"}
		if option != "" {
			args = append(args, option)
		}
		return call(t, environ, args, func(e cli.Env) error { return abort(context.Background(), root, euid, e) })
	}
	for _, user := range []string{"locked", "star", "password", "none", "unknown", "root", "-x", ""} {
		code, stdout, stderr := run(0, "", "PAM_USER="+user)
		said := user == "locked" || user == "star" || user == "root"
		if code != 0 || stderr != "" || (stdout != "") != said {
			t.Errorf("%s: %d %q %q", user, code, stdout, stderr)
		}
		if code, _, _ := run(0, "--deny-if", "PAM_USER="+user); code != 1 {
			t.Errorf("%s: --deny-if: %d", user, code)
		}
	}
	put(t, root.Path("/usr/share/whonix/marker"), "", 0o644)
	code, _, stderr := run(0, "", "PAM_USER=root")
	if code != 4 || !strings.Contains(stderr, "ERROR: root account is locked by default. See:\nhttps://www.kicksecure.com/wiki/root\n") {
		t.Errorf("root: %d %q", code, stderr)
	}
	if code, _, _ := run(0, "--deny-if", "PAM_USER=root"); code != 0 {
		t.Errorf("root: --deny-if: %d", code)
	}
	if code, stdout, stderr := run(0, "", "PAM_USER=root", "PAM_RHOST=192.0.2.1"); code != 4 || stdout+stderr != "" {
		t.Errorf("root, from afar: %d %q %q", code, stdout, stderr)
	}
	if code, stdout, stderr := run(1000, "", "PAM_USER=root"); code != 0 || stdout+stderr != "" {
		t.Errorf("unprivileged: %d %q %q", code, stdout, stderr)
	}
	if code, _, _ := run(1000, "--deny-if", "PAM_USER=root"); code != 1 {
		t.Errorf("unprivileged, --deny-if: %d", code)
	}
}

// TestBlockUnsafeLogins: who is refused, where the system is split.
func TestBlockUnsafeLogins(t *testing.T) {
	t.Parallel()
	root := fsx.Root(t.TempDir())
	put(t, root.Path("/etc/passwd"), "root:x:0:0::/:/bin/sh\nalice:x:1:1::/:/bin/sh\nbob:x:2:2::/:/bin/sh\nsysmaint:x:3:3::/:/bin/sh\n", 0o644)
	put(t, root.Path("/etc/shadow"), "root:!:1::::::\nalice::1::::::\nbob::1::::::\nsysmaint::1::::::\n", 0o600)
	put(t, root.Path("/etc/group"), "sudo:x:27:alice\n", 0o644)
	put(t, root.Path(cmdlinePath), "quiet\n", 0o644)
	refused := func(user, service string) bool {
		t.Helper()
		environ := []string{"PAM_USER=" + user, "PAM_SERVICE=" + service}
		run := func(e cli.Env) error { return blockLogins(context.Background(), root, e) }
		code, out, _ := call(t, environ, []string{"b"}, run)
		inverse, _, _ := call(t, environ, []string{"b", "--deny-if"}, run)
		if code == inverse || (code == 1) != strings.HasPrefix(out, "ERROR: Rejecting ") {
			t.Errorf("%s %s: %d, with --deny-if %d, %q", user, service, code, inverse, out)
		}
		return code == 1
	}
	if refused("alice", "su") {
		t.Error("refused without the package")
	}
	put(t, root.Path(splitPackage), "", 0o644)
	for _, c := range []struct {
		user, service string
		want          bool
	}{{"alice", "su", true}, {"alice", "login", false}, {"bob", "su", false}, {"root", "su", false}, {"sysmaint", "login", true}, {"nosuch", "su", false}, {"", "su", false}} {
		if got := refused(c.user, c.service); got != c.want {
			t.Errorf("%s by %s: refused %v", c.user, c.service, got)
		}
	}
	put(t, root.Path(cmdlinePath), "quiet boot-role=sysmaint\n", 0o644)
	if !refused("alice", "login") || refused("sysmaint", "login") {
		t.Error("a session for maintenance admits others than sysmaint")
	}
}
