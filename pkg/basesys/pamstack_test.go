// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"whonix-networking/pkg/fsx"
)

// pamTree is a tree whose files take the place of the machine's while a client of
// the real libpam logs in.
type pamTree struct {
	dir     string
	helpers string // in the place of /usr/libexec
}

const (
	goodPassword = "right one"
	services     = "login sshd su su-l"
)

// pamBase is a tree that is made once, and copied for each test.
var pamBase struct {
	sync.Mutex
	dir string
}

func newPAM(t *testing.T) *pamTree {
	t.Helper()
	pamBase.Lock()
	defer pamBase.Unlock()
	if pamBase.dir == "" {
		p := makePAM(t)
		dir, err := os.MkdirTemp("", "basesys-pam-")
		if err != nil {
			t.Fatal(err)
		}
		must(t, "cp", "-a", p.dir+"/.", dir)
		pamBase.dir = dir
	}
	dir := t.TempDir()
	must(t, "cp", "-a", pamBase.dir+"/.", dir)
	return &pamTree{dir: dir, helpers: dir + "/usr/libexec"}
}

// makePAM makes accounts, and has pam-auth-update(8) make the stacks.
func makePAM(t *testing.T) *pamTree {
	t.Helper()
	p := &pamTree{dir: shipped(t, "security-misc")}
	p.helpers = p.dir + "/usr/libexec"
	hash := strings.TrimSpace(must(t, "perl", "-e", `print crypt($ARGV[0], '$6$abcdefgh$')`, goodPassword))
	put(t, p.dir+"/etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:4001:4001::/home/alice:/bin/sh\nbob:x:4002:4002::/home/bob:/bin/sh\n", 0o644)
	put(t, p.dir+"/etc/shadow", fmt.Sprintf("root:%[1]s:19000:0:99999:7:::\nalice:%[1]s:19000:0:99999:7:::\nbob:%[1]s:19000:0:99999:7:::\n", hash), 0o600)
	put(t, p.dir+"/etc/group", "root:x:0:\nsudo:x:27:alice\nconsole:x:990:alice\nconsole-unrestricted:x:991:\nalice:x:4001:\nbob:x:4002:\n", 0o644)
	put(t, p.dir+"/etc/nsswitch.conf", "passwd: files\nshadow: files\ngroup: files\n", 0o644)
	put(t, p.dir+"/etc/security/faillock.conf", get(t, p.dir+"/etc/security/faillock.conf.security-misc")+"nodelay\n", 0o644)
	put(t, p.dir+"/etc/security/pam_env.conf", "", 0o644)
	for _, dir := range []string{"/var/lib/security-misc/faillock", "/var/lib/pam", "/usr/share/pam", "/etc/pam.d", "/var/cache"} {
		if err := os.MkdirAll(p.dir+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "cp", "-r", "/usr/share/pam/.", p.dir+"/usr/share/pam/")
	must(t, "cp", "-r", "/var/cache/debconf", p.dir+"/var/cache/debconf")
	put(t, p.dir+"/usr/share/pam-configs/unix", get(t, "/usr/share/pam-configs/unix"), 0o644)
	for _, stack := range []string{"auth", "account", "session", "session-noninteractive", "password"} {
		put(t, p.dir+"/etc/pam.d/common-"+stack, get(t, "/usr/share/pam/common-"+stack), 0o644)
	}
	p.authUpdate(t, "--package", "--force")
	// No pauses after failures.
	auth := get(t, p.dir+"/etc/pam.d/common-auth")
	put(t, p.dir+"/etc/pam.d/common-auth", strings.ReplaceAll(auth, "pam_unix.so nullok", "pam_unix.so nullok nodelay"), 0o644)
	for _, s := range strings.Fields(services) {
		put(t, p.dir+"/etc/pam.d/"+s, "@include common-auth\n@include common-account\n@include common-session\n", 0o644)
	}
	for _, name := range []string{"pam-info", "pam-abort-on-locked-password", "block-unsafe-logins"} {
		must(t, "install", "-D", "-m", "0755", built(t, name), p.helpers+"/security-misc/"+name)
	}
	for _, name := range []string{"pam_faillock_not_if_x", "pam_only_if_login", "pam_only_if_su"} {
		_ = os.Remove(p.helpers + "/security-misc/" + name)
		must(t, "install", "-D", "-m", "0755", built(t, "pam-only-if"), p.helpers+"/security-misc/"+name)
	}
	return p
}

func (p *pamTree) authUpdate(t *testing.T, args ...string) {
	t.Helper()
	out, err := space(t, false, [][2]string{{p.dir + "/var/cache/debconf", "/var/cache/debconf"}}, `pam-auth-update --root "$@"`, append([]string{p.dir}, args...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func (p *pamTree) bound() [][2]string {
	b := [][2]string{}
	for _, name := range []string{"/etc/passwd", "/etc/shadow", "/etc/group", "/etc/nsswitch.conf", "/etc/pam.d", "/etc/security", "/var/lib"} {
		b = append(b, [2]string{p.dir + name, name})
	}
	return append(b, [2]string{p.helpers, "/usr/libexec"})
}

// login tries several passwords, one after the other; it returns what was printed
// and, as the last line, how often it was let in.
func (p *pamTree) login(t *testing.T, service, user string, passwords ...string) (text string, in int) {
	t.Helper()
	script := `service=$1 user=$2 n=0; shift 2
for password; do
	if printf '%s\n' "$password" | pamtester "$service" "$user" authenticate acct_mgmt open_session; then n=$((n+1)); fi
done 2>&1
echo "in: $n"`
	out, err := space(t, false, p.bound(), script, append([]string{service, user}, passwords...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, count, ok := strings.Cut(out, "in: ")
	if _, err := fmt.Sscan(count, &in); !ok || err != nil {
		t.Fatalf("%s", out)
	}
	return text, in
}

// failures is what faillock(8) counts.
func (p *pamTree) failures(t *testing.T, user string) int {
	t.Helper()
	out, err := space(t, false, p.bound(), `faillock --dir /var/lib/security-misc/faillock --user "$1" 2>/dev/null`, user)
	if err != nil {
		return 0
	}
	return strings.Count(out, " V\n")
}

// TestAcceptance20_PAM: the stacks that pam-auth-update makes of our profiles, with
// the real libpam.
func TestAcceptance20_PAM(t *testing.T) {
	t.Parallel()
	p := newPAM(t)
	for _, service := range []string{"login", "sshd"} {
		if text, in := p.login(t, service, "bob", goodPassword); in != 1 {
			t.Fatalf("%s: not let in\n%s\n%s", service, text, get(t, p.dir+"/etc/pam.d/common-auth"))
		}
		if text, in := p.login(t, service, "bob", "wrong"); in != 0 || !strings.Contains(text, "Authentication failure") {
			t.Errorf("%s: %d times let in with a wrong password\n%s", service, in, text)
		}
	}
	// Of the two failures the one of sshd does not count, and a success clears.
	if n := p.failures(t, "bob"); n != 1 {
		t.Errorf("%d failures, want 1", n)
	}
	text, in := p.login(t, "login", "bob", "wrong", goodPassword, "wrong")
	if in != 1 || p.failures(t, "bob") != 1 {
		t.Errorf("%d times let in, %d failures after a success and a failure\n%s", in, p.failures(t, "bob"), text)
	}
	if !strings.Contains(text, "WARNING: 2 failed login attempts for account 'bob'.") || !strings.Contains(text, "You have 48 more attempts") {
		t.Errorf("pam-info said nothing:\n%s", text)
	}
	if text, _ := p.login(t, "login", "nosuch", "wrong"); strings.Contains(text, "nosuch'") {
		t.Errorf("an unknown account is spoken of:\n%s", text)
	}
}

// TestAcceptance20_Lock: an account is locked at the limit, and sshd does not
// count.
func TestAcceptance20_Lock(t *testing.T) {
	t.Parallel()
	p := newPAM(t)
	// pam_faillock(8) writes the records; 49 of them at once here.
	_, _ = p.login(t, "login", "bob", "wrong")
	tally := p.dir + "/var/lib/security-misc/faillock/bob"
	record := get(t, tally)
	put(t, tally, strings.Repeat(record, 49), 0o600)
	if n, err := mustFaillock(t, p.dir).failures(fsx.Root(p.dir), "bob", now()); n != 49 || err != nil {
		t.Errorf("%d failures: %v", n, err)
	}
	text, in := p.login(t, "login", "bob", "wrong", goodPassword)
	if in != 0 || !strings.Contains(text, "ERROR: Login blocked after 50 attempts.") || !strings.Contains(text, "sudo faillock --dir /var/lib/security-misc/faillock --reset --user bob") {
		t.Errorf("let in at the limit\n%s", text)
	}
	// Root is not locked, unless an administrator wants it (defect D-19).
	put(t, p.dir+"/var/lib/security-misc/faillock/root", strings.Repeat(record, 60), 0o600)
	if text, in := p.login(t, "login", "root", goodPassword); in != 1 {
		t.Errorf("root is locked\n%s", text)
	}
	must(t, "rm", tally)
	wrong := make([]string, 3)
	for i := range wrong {
		wrong[i] = "wrong"
	}
	if _, in := p.login(t, "sshd", "bob", wrong...); in != 0 || p.failures(t, "bob") != 0 {
		t.Errorf("sshd counts: %d", p.failures(t, "bob"))
	}
}

// TestAcceptance20_Removal: without its helpers, or with ones that fail, a login
// works; and after the removal of the profiles by name nothing of them is left
// (defect D-17).
func TestAcceptance20_Removal(t *testing.T) {
	t.Parallel()
	p := newPAM(t)
	for name, program := range map[string]string{"missing": "", "failing": "#!/bin/sh\nexit 7\n", "killed": "#!/bin/sh\nkill -9 $$\n", "no program": "nonsense"} {
		for _, entry := range []string{"pam-info", "pam-abort-on-locked-password", "block-unsafe-logins", "pam_faillock_not_if_x", "pam_only_if_login", "pam_only_if_su"} {
			path := p.helpers + "/security-misc/" + entry
			_ = os.Remove(path)
			if program != "" {
				put(t, path, program, 0o755)
			}
		}
		for _, user := range []string{"bob", "root"} {
			if text, in := p.login(t, "login", user, goodPassword, "wrong"); in != 1 {
				t.Errorf("%s: %s: %d times let in, want 1\n%s", name, user, in, text)
			}
		}
	}
	var names []string
	profiles, err := filepath.Glob(p.dir + "/usr/share/pam-configs/*-security-misc")
	if err != nil || len(profiles) != 8 {
		t.Fatalf("%d profiles: %v", len(profiles), err)
	}
	for _, f := range profiles {
		names = append(names, filepath.Base(f))
	}
	p.authUpdate(t, append([]string{"--package", "--remove"}, names...)...)
	for _, stack := range []string{"auth", "account", "session"} {
		if text := get(t, p.dir+"/etc/pam.d/common-"+stack); strings.Contains(text, "security-misc") || strings.Contains(text, "faillock") {
			t.Errorf("common-%s:\n%s", stack, text)
		}
	}
	if text, in := p.login(t, "login", "bob", goodPassword); in != 1 {
		t.Errorf("not let in after the removal\n%s", text)
	}
}

// TestPAMWheel: su, with and without -, is for the group sudo only, and other
// services are for all (su - is the service su-l, which the
// original forgot).
func TestPAMWheel(t *testing.T) {
	t.Parallel()
	p := newPAM(t)
	try := func(uid string, arguments ...string) bool {
		t.Helper()
		script := `uid=$1 password=$2; shift 2; printf '%s\n' "$password" | setpriv --reuid="$uid" --regid="$uid" --clear-groups su "$@" root -c true`
		out, err := space(t, false, p.bound(), script, append([]string{uid, goodPassword}, arguments...)...)
		if err != nil && !strings.Contains(out, "su: ") {
			t.Fatalf("%v\n%s", err, out)
		}
		return err == nil
	}
	for _, c := range []struct {
		uid  string // alice is in sudo, bob is not
		want bool
	}{{"4001", true}, {"4002", false}} {
		if try(c.uid) != c.want || try(c.uid, "-") != c.want {
			t.Errorf("%s: su is not %v", c.uid, c.want)
		}
	}
	if text, in := p.login(t, "sshd", "bob", goodPassword); in != 1 {
		t.Errorf("sshd keeps bob out\n%s", text)
	}
}

// TestPAMConsole: with console-lockdown on, login is for the groups, and for no
// account of a group's name (defect D-29); sshd is for all.
func TestPAMConsole(t *testing.T) {
	t.Parallel()
	p := newPAM(t)
	p.authUpdate(t, "--enable", "console-lockdown-security-misc")
	if !strings.Contains(get(t, p.dir+"/etc/pam.d/common-account"), accessFile) {
		t.Fatal("console-lockdown is not on")
	}
	put(t, p.dir+"/etc/passwd", get(t, p.dir+"/etc/passwd")+"console:x:4003:4003::/:/bin/sh\n", 0o644)
	put(t, p.dir+"/etc/shadow", get(t, p.dir+"/etc/shadow")+strings.Replace(strings.Split(get(t, p.dir+"/etc/shadow"), "\n")[1], "alice", "console", 1)+"\n", 0o600)
	try := func(service, user string) (string, bool) {
		t.Helper()
		out, err := space(t, false, p.bound(), `printf '%s\n' "$3" | pamtester -I tty=tty1 "$1" "$2" authenticate acct_mgmt`, service, user, goodPassword)
		return out, err == nil
	}
	for _, c := range []struct {
		service, user string
		want          bool
	}{{"login", "alice", true}, {"login", "bob", false}, {"login", "console", false}, {"sshd", "bob", true}} {
		if out, got := try(c.service, c.user); got != c.want {
			t.Errorf("%s by %s: %v, want %v\n%s", c.user, c.service, got, c.want, out)
		}
	}
	if out, _ := try("login", "bob"); !strings.Contains(out, "ERROR: PAM_USER: 'bob' is not a member of group 'console'") || !strings.Contains(out, "adduser bob console") {
		t.Errorf("pam-info said nothing:\n%s", out)
	}
}

func mustFaillock(t *testing.T, root string) faillock {
	t.Helper()
	f, err := readFaillock(fsx.Root(root))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// BenchmarkPAMHelpers gives each helper as a ratio to a minimal Go program, of the
// same run.
func BenchmarkPAMHelpers(b *testing.B) {
	dir := b.TempDir()
	minimal := dir + "/minimal"
	source := dir + "/main.go"
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", minimal, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	link := func(name string) string {
		path := dir + "/" + name
		if err := os.Symlink(built(b, "pam-only-if"), path); err != nil {
			b.Fatal(err)
		}
		return path
	}
	programs := map[string]string{
		"minimal": minimal, "pam-info": built(b, "pam-info"), "pam-abort-on-locked-password": built(b, "pam-abort-on-locked-password"),
		"block-unsafe-logins": built(b, "block-unsafe-logins"), "pam_only_if_login": link("pam_only_if_login"), "pam_faillock_not_if_x": link("pam_faillock_not_if_x"),
	}
	took := map[string]float64{}
	for i := 0; b.Loop(); i++ {
		for name, path := range programs {
			begin := now()
			cmd := exec.Command(path)
			cmd.Env = []string{"PAM_SERVICE=login", "PAM_USER=root", "PAM_TYPE=auth"}
			_ = cmd.Run()
			took[name] += float64(now().Sub(begin).Nanoseconds())
		}
	}
	for name := range programs {
		if name != "minimal" {
			b.ReportMetric(took[name]/took["minimal"], name+"/minimal")
		}
	}
}

// BenchmarkCheck is the whole table, as the program prints it, and its ratio to a
// minimal start of the same program.
func BenchmarkCheck(b *testing.B) {
	program := built(b, "security-misc-check")
	var whole, start float64
	for b.Loop() {
		begin := now()
		_ = exec.Command(program).Run()
		whole += float64(now().Sub(begin).Nanoseconds())
		begin = now()
		_ = exec.Command(program, "--version").Run()
		start += float64(now().Sub(begin).Nanoseconds())
	}
	b.ReportMetric(whole/1e6/float64(b.N), "ms/check")
	b.ReportMetric(whole/start, "check/start")
}
