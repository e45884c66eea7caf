// SPDX-License-Identifier: GPL-3.0-or-later

package onionauth

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
)

// secret fails for every file below a directory that others could read.
func (r *rig) secret(dir string) {
	r.Helper()
	a := r.account()
	files := 0
	err := filepath.WalkDir(r.root.Path(dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		if st := fi.Sys().(*syscall.Stat_t); fi.Mode().Perm()&0o077 != 0 || int(st.Uid) != a.uid || int(st.Gid) != a.gid {
			r.Errorf("%s: %v, of %d:%d", path, fi.Mode(), st.Uid, st.Gid)
		}
		files++
		return nil
	})
	if err != nil || files < 2 {
		r.Errorf("%s: %d files, %v", dir, files, err)
	}
}

// TestAcceptance14_Autogen: bad names change nothing; good ones make a service
// of which the keys are nobody else's business, and a real client accepts the
// line that is made for it.
func TestAcceptance14_Autogen(t *testing.T) {
	r := newRig(t)
	r.startTor()
	before := r.snapshot("/usr/local/etc", "/var/lib/tor_autogen")
	for _, bad := range []string{
		"hsname=a\nControlPort 0.0.0.0:9051", "hsname=../x", "hsname=a/b", "hsname=a b", "hsname=.", "client=../1", "client=1\n", "virtport=80 0.0.0.0:1",
		"virtport=0", "virtport=65536", "hsport=+80", "ip=10.152.152.11\nControlPort 9", "ip=example.com", "ip=0.0.0.0", "ip=fe80::1%eth0", "hsversion=2",
		"hsdir=/var/lib/tor/../../etc", "hsdir=relative", "hsdir=/var/lib/tor/a b", "torconffile=/etc/cron.d/x.conf", "torconffile=/usr/local/etc/torrc.d/x",
		"private_key_file=/root/.ssh/id", "client_authorization_file_name=../x.auth", "sleep_seconds_after_reload=-1", "tor_user=no such",
	} {
		if err := r.autogen(bad); cli.Code(err) != 1 || !strings.HasPrefix(r.stdout.String(), "ERROR: ") {
			t.Errorf("%q: %v: %s", bad, err, r.stdout.String())
		}
		if after := r.snapshot("/usr/local/etc", "/var/lib/tor_autogen"); after != before {
			t.Fatalf("%q changed\n%s", bad, after)
		}
	}
	if r.reloads != 0 {
		t.Errorf("Tor was reloaded %d times", r.reloads)
	}

	if err := r.autogen("hsname=blog", "client=alice", "ip=10.152.152.12", "hsport=8080"); err != nil {
		t.Fatalf("%v\n%s\n%s", err, r.stdout.String(), r.read("/var/lib/tor/log"))
	}
	for _, want := range []string{
		"INFO: Created torconffile '/usr/local/etc/torrc.d/43_blog_hs_autogen.conf'.\nINFO: Reloading Tor.\n",
		"'/var/lib/tor_autogen/blog/alice.auth' to '/var/lib/tor/blog/authorized_clients/alice.auth'", // not one path twice (defect 29)
		"INFO: You need to provide client 'alice' with \".auth_private\" file (private key) '/var/lib/tor_autogen/blog/alice.auth_private'.\n",
		"INFO: Visitors that use Whonix could store '/var/lib/tor_autogen/blog/alice.auth_private' in '/home/user/alice.auth_private' and then run 'sudo sourcefile=/home/user/alice.auth_private anon-server-to-client-install'.\n",
	} {
		if !strings.Contains(r.stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, r.stdout.String())
		}
	}
	if conf := r.read("/usr/local/etc/torrc.d/43_blog_hs_autogen.conf"); !strings.Contains(conf, "\nHiddenServiceDir /var/lib/tor/blog\nHiddenServicePort 80 10.152.152.12:8080\nHiddenServiceVersion 3\n") {
		t.Error(conf)
	}
	r.secret("/var/lib/tor_autogen")
	r.secret("/var/lib/tor/blog/authorized_clients")
	if s := r.read("/var/lib/tor/blog/authorized_clients/alice.auth"); s != r.read("/var/lib/tor_autogen/blog/alice.auth") || !strings.HasPrefix(s, "descriptor:x25519:") {
		t.Error(s)
	}
	if r.root.Exists("/run/anon-auth-autogen") || len(r.files("/run", "*.torrc")) > 0 {
		t.Error("what was checked is left behind")
	}

	// The client: its own program, and its Tor.
	r.write("/home/user/alice.auth_private", r.read("/var/lib/tor_autogen/blog/alice.auth_private"))
	if err := r.install("client=alice", "SUDO_USER=user"); err != nil {
		t.Fatalf("%v\n%s%s", err, r.stdout.String(), r.stderr.String())
	}
	r.acceptsKey(strings.TrimSuffix(strings.TrimSpace(r.read("/var/lib/tor/blog/hostname")), ".onion"), r.read("/var/lib/tor_autogen/blog/alice_private_key.base32"))
	if log := r.read("/var/lib/tor/log"); strings.Contains(log, "ClientOnionAuthDir' used more than once") || strings.Contains(log, "[err]") {
		t.Error(log)
	}
}

func (r *rig) files(dir, pattern string) []string {
	found, err := filepath.Glob(r.root.Path(dir + "/" + pattern))
	if err != nil {
		r.Fatal(err)
	}
	return found
}

// acceptsKey waits until Tor, as a client, has the key of a service.
func (r *rig) acceptsKey(onion, private32 string) {
	r.Helper()
	c := r.control()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		m, err := c.Ask(context.Background(), "ONION_CLIENT_AUTH_VIEW")
		if err != nil {
			r.Fatal(err)
		}
		for l := range m.Lines() {
			if strings.HasPrefix(string(l.Text), "CLIENT "+onion+" x25519:") {
				return // Tor shows it in base64; that it is this one is its file's affair
			}
		}
		if time.Now().After(end) {
			r.Fatalf("Tor does not know the key %s", private32)
		}
	}
}

// TestDefect28_RollBack: whatever fails, nothing of it stays.
func TestDefect28_RollBack(t *testing.T) {
	r := newRig(t)
	r.startTor()
	before := r.snapshot("/usr/local/etc", "/var/lib/tor_autogen")
	for _, n := range []int{1, 2} { // the reload for the service, that for the client
		r.reloads, r.refuse = 0, n
		if err := r.autogen("hsname=blog"); cli.Code(err) != 1 || !strings.Contains(r.stdout.String(), "ERROR: reload Tor: systemctl reload tor@default: ") {
			t.Errorf("reload %d: %v: %s", n, err, r.stdout.String())
		}
		if after := r.snapshot("/usr/local/etc"); !strings.HasPrefix(before, after) {
			t.Errorf("reload %d left\n%s", n, after)
		}
		if keys := r.files("/var/lib/tor_autogen/blog", "*"); len(keys) > 0 {
			t.Errorf("reload %d left %v", n, keys)
		}
	}
	// A service that Tor itself refuses never gets to its place.
	r.refuse = 0
	r.write("/usr/local/etc/torrc.d/50_user.conf", "HiddenServiceDir /var/lib/tor/blog\nHiddenServicePort 80\n")
	before = r.snapshot("/usr/local/etc")
	if err := r.autogen("hsname=blog"); cli.Code(err) != 1 || !strings.Contains(r.stdout.String(), "ERROR: tor --verify-config: ") {
		t.Errorf("%v: %s", err, r.stdout.String())
	}
	if after := r.snapshot("/usr/local/etc"); after != before {
		t.Errorf("left\n%s", after)
	}
}

// TestDefect29_NoKeyIsReplaced: a second run keeps a client's key, unless it is
// told otherwise; another client of the same service gets one of its own.
func TestDefect29_NoKeyIsReplaced(t *testing.T) {
	r := newRig(t)
	r.startTor()
	if err := r.autogen("hsname=blog"); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout.String())
	}
	const line = "/var/lib/tor_autogen/blog/1.auth_private"
	first := r.read(line)
	for _, settings := range [][]string{{"hsname=blog"}, {"hsname=blog", "client=2", "virtport=81"}} {
		if err := r.autogen(settings...); cli.Code(err) != 1 || !strings.Contains(r.stdout.String(), "force=1") || r.read(line) != first {
			t.Errorf("%q: %v: %s", settings, err, r.stdout.String())
		}
	}
	if err := r.autogen("hsname=blog", "client=2"); err != nil || r.read(line) != first {
		t.Errorf("another client: %v: %s", err, r.stdout.String())
	}
	if err := r.autogen("hsname=blog", "force=1", "virtport=81"); err != nil || r.read(line) == first {
		t.Errorf("by force: %v: %s", err, r.stdout.String())
	}
	r.secret("/var/lib/tor_autogen")
}

// TestDefect29_Qubes: the address in QubesDB is this machine's own.
func TestDefect29_Qubes(t *testing.T) {
	r := newRig(t)
	r.startTor()
	r.write("/usr/share/qubes/marker-vm", "")
	if err := r.autogen(); cli.Code(err) != 1 || !strings.Contains(r.stdout.String(), "ERROR: ip: \"\" must be said in Qubes") {
		t.Errorf("%v: %s", err, r.stdout.String())
	}
	if err := r.autogen("ip=127.0.0.1"); err != nil {
		t.Errorf("%v: %s", err, r.stdout.String())
	}
}

// TestPreconditions: without root or Tor nothing is done.
func TestPreconditions(t *testing.T) {
	r := newRig(t)
	for name, call := range map[string]func(...string) error{"autogen": r.autogen, "install": r.install} {
		if err := call("sourcefile=/home/user/x.auth_private"); cli.Code(err) != 1 || r.stdout.String() != "ERROR: Tor is not running. Start Tor first.\n" {
			t.Errorf("%s: %v: %q", name, err, r.stdout.String())
		}
	}
	env := cli.Env{Args: []string{"anon-auth-autogen"}, Stdout: &r.stdout, Stderr: &r.stderr}
	r.stdout.Reset()
	if err := (&system{root: r.root, env: env, euid: 1000}).autogen(context.Background()); cli.Code(err) != 1 || !strings.HasPrefix(r.stdout.String(), "ERROR: This must be run as root (sudo)!\n") {
		t.Errorf("%v: %s", err, r.stdout.String())
	}
	env.Args = append(env.Args, "extra")
	if err := (&system{root: r.root, env: env}).autogen(context.Background()); cli.Code(err) != 2 {
		t.Errorf("an argument: %v", err)
	}
}

// TestLinksOfTors: where Tor's account may change things, no link is followed.
func TestLinksOfTors(t *testing.T) {
	r := newRig(t)
	r.startTor()
	r.write("/root/secret", "untouched\n")
	if err := os.MkdirAll(r.root.Path("/var/lib/tor_autogen"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]string{"blog": "/var/lib/tor_autogen/blog", "shop": "/var/lib/tor/shop"} {
		if err := os.Symlink(r.root.Path("/root"), r.root.Path(link)); err != nil {
			t.Fatal(err)
		}
		before := r.snapshot("/root")
		if err := r.autogen("hsname=" + name); cli.Code(err) != 1 || r.snapshot("/root") != before {
			t.Errorf("%s: %v: %s", link, err, r.stdout.String())
		}
		if err := os.Remove(r.root.Path(link)); err != nil {
			t.Fatal(err)
		}
	}
}

// validLine is one of rend-spec's form, for an address whose checksum is right.
const validLine = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyp3kead:descriptor:x25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"

// TestDefect30_Install: only what is a key is installed, for Tor alone, and Tor
// is told of the directory once.
func TestDefect30_Install(t *testing.T) {
	r := newRig(t)
	r.startTor()
	const source, target = "/home/user/1.auth_private", "/var/lib/tor/authdir/1.auth_private"
	for name, text := range map[string]string{
		"nothing": "", "a path": "/etc/shadow\n", "two lines": validLine + validLine, "lower case": strings.ToLower(validLine),
		"a checksum": strings.Replace(validLine, "aaa", "aac", 1), "short": validLine[1:], "NUL": validLine + "\x00", "large": strings.Repeat(validLine, 1000),
	} {
		r.write(source, text)
		if err := r.install("SUDO_USER=user"); cli.Code(err) != 1 || r.root.Exists(target) || text != "" && strings.Contains(r.stdout.String(), strings.TrimSpace(text)) {
			t.Errorf("%s: %v: %s", name, err, r.stdout.String())
		}
	}
	r.write(source, validLine)
	if err := r.install("SUDO_USER=user"); err != nil {
		t.Fatalf("%v: %s", err, r.stdout.String())
	}
	want := "INFO: Installed \".auth_private\" file (private key) '" + source + "' to '" + target + "'.\nINFO: Reloading Tor to activate \".auth_private\" file (private key).\nINFO: Success.\n"
	if r.stdout.String() != want || r.read(target) != validLine || r.root.Exists("/usr/local/etc/torrc.d/43_clientonionauthdir.conf") {
		t.Errorf("%s", r.stdout.String())
	}
	r.secret("/var/lib/tor/authdir")

	// Another key of that name is replaced by force only.
	other := strings.Replace(validLine, "AAAAA\n", "AAAAB\n", 1)
	r.write(source, other)
	if err := r.install("SUDO_USER=user"); cli.Code(err) != 1 || !strings.Contains(r.stdout.String(), "force=1") || r.read(target) != validLine {
		t.Errorf("%v: %s", err, r.stdout.String())
	}
	r.reloads, r.refuse = 0, 1
	if err := r.install("SUDO_USER=user", "force=1"); cli.Code(err) != 1 || r.read(target) != validLine {
		t.Errorf("a reload that fails: %v: %s", err, r.stdout.String())
	}
	r.refuse = 0
	if err := r.install("SUDO_USER=user", "force=1"); err != nil || r.read(target) != other {
		t.Errorf("%v: %s", err, r.stdout.String())
	}

	// Where nothing names the directory, that is done.
	if err := r.root.Remove("/etc/torrc.d/65_gateway.conf"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.install("SUDO_USER=user"); err != nil || !strings.Contains(r.read("/usr/local/etc/torrc.d/43_clientonionauthdir.conf"), "\nClientOnionAuthDir /var/lib/tor/authdir\n") {
			t.Errorf("%v: %s", err, r.stdout.String())
		}
	}
}

// TestSourcesOfUsers: what a user may have put where the key should be.
func TestSourcesOfUsers(t *testing.T) {
	r := newRig(t)
	r.startTor()
	const source = "/home/user/1.auth_private"
	path := r.root.Path(source)
	r.write("/root/key.auth_private", validLine)
	for want, put := range map[string]func() error{
		"is a link":          func() error { return os.Symlink(r.root.Path("/root/key.auth_private"), path) },
		"is no regular file": func() error { return syscall.Mkfifo(path, 0o666) },
		"sourcefile '":       func() error { return os.Mkdir(path, 0o755) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := r.install("user_name=user"); cli.Code(err) != 1 || !strings.Contains(r.stdout.String(), want) || time.Since(begin) > patience/2 {
			t.Errorf("%s: %v: %s", want, err, r.stdout.String())
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.install("user_name=user"); cli.Code(err) != 1 || r.stderr.String() != "ERROR: sourcefile '"+source+"' does not exist!\n" {
		t.Errorf("%v: %q %q", err, r.stdout.String(), r.stderr.String())
	}
}

// TestExecute: commands are found in trusted places, run with a clean
// environment, and never by a shell.
func TestExecute(t *testing.T) {
	t.Setenv("SECRET", "x")
	out, err := execute(context.Background(), []string{"env"})
	if err != nil || strings.Contains(out, "SECRET") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = execute(context.Background(), []string{"echo", "$(id)", ";", "id"})
	if err != nil || out != "$(id) ; id" {
		t.Errorf("%v: %s", err, out)
	}
	dir := t.TempDir()
	evil := dir + "/evil"
	if err := os.WriteFile(evil, []byte("#!/bin/sh\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(evil, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := execute(context.Background(), []string{evil}); err == nil {
		t.Error("a program that others can change was run")
	}
	var status *execx.StatusError
	if _, err := execute(context.Background(), []string{"false"}); !errors.As(err, &status) {
		t.Errorf("%v", err)
	}
	if _, err := execute(context.Background(), nil); err == nil {
		t.Error("nothing was run")
	}
}
