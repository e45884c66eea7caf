// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"whonix-networking/pkg/whonix"
)

// ownership is mode, user and group of a file, not of what a link leads to.
func ownership(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no stat")
	}
	return fmt.Sprintf("%v %d %d", fi.Mode(), st.Uid, st.Gid)
}

func (m *machine) owners(want map[string]string) {
	m.Helper()
	for path, o := range want {
		if got := ownership(m.T, m.root.Path(path)); got != o {
			m.Errorf("%s: %s, want %s", path, got, o)
		}
	}
}

// TestAcceptance08_EmptyRoot: everything is there after the first run, and the
// second changes nothing.
func TestAcceptance08_EmptyRoot(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	if failed := m.repair(); failed != nil {
		t.Fatal(failed)
	}
	m.owners(map[string]string{
		"/etc/tor": "drwxr-xr-x 0 0", torrcDir: "drwxr-xr-x 0 0", userTorrcDir: "drwxr-xr-x 0 0",
		torrcPath: "-rw-r--r-- 0 0", torrcDir + "/95_whonix.conf": "-rw-r--r-- 0 0",
		userTorrcDir + "/40_tor_control_panel.conf": "-rw-r--r-- 0 0", userTorrcDir + "/50_user.conf": "-rw-r--r-- 0 0",
		"/var/lib/tor/authdir": "drwx------ 102 105", "/var/lib/tor": "drwx------ 102 105", "/var/lib": "drwxr-xr-x 0 0",
	})
	before := m.state()
	if failed := m.repair(); failed != nil || m.state() != before {
		t.Errorf("the second run: %v\n%s\n%s", failed, before, m.state())
	}
}

// TestAcceptance09_Include: what counts as an include, and what does not
// (defects 11 and 12).
func TestAcceptance09_Include(t *testing.T) {
	const added = "\n# Added by repair-torrc.\n%include /etc/torrc.d/*.conf\n"
	for _, c := range []struct{ name, before, after string }{
		{"comment", "#%include /etc/torrc.d/*.conf\n", "#%include /etc/torrc.d/*.conf\n" + added},
		{"directory", "%include /etc/torrc.d/\n", "%include /etc/torrc.d/\n"},
		{"directory, bare", "%include /etc/torrc.d\n", "%include /etc/torrc.d\n"},
		{"pattern", "  %include /etc/torrc.d/*.conf # x\n", "  %include /etc/torrc.d/*.conf # x\n"},
		{"quotes", "%include \"/etc/torrc.d/*\"", "%include \"/etc/torrc.d/*\""},
		{"one file", "%include /etc/torrc.d/60_network.conf\n", "%include /etc/torrc.d/60_network.conf\n" + added},
		{"no newline", "SocksPort 1", "SocksPort 1\n" + added},
		{"empty", "", added},
		{"the last line goes on", "SocksPort 1\\", "SocksPort 1\\\n" + added},
		{"twice, as in 2020", "x 1\n%include /etc/torrc.d/\n%include /etc/torrc.d/95_whonix.conf\ny 1\n", "x 1\n%include /etc/torrc.d/\ny 1\n"},
		{"not together", "%include /etc/torrc.d/\nx 1\n%include /etc/torrc.d/95_whonix.conf\n", "%include /etc/torrc.d/\nx 1\n%include /etc/torrc.d/95_whonix.conf\n"},
	} {
		m := newMachine(t, whonix.GatewayMarker)
		m.write(torrcPath, c.before)
		if err := os.Chmod(m.root.Path(torrcPath), 0o640); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if failed := m.repair(); failed != nil || m.read(torrcPath) != c.after {
				t.Errorf("%s: %v\n%q\nwant\n%q", c.name, failed, m.read(torrcPath), c.after)
			}
		}
		m.owners(map[string]string{torrcPath: "-rw-r----- 0 0"})
	}
}

// TestDisplaced: a link that leads nowhere stays one (defect 13).
func TestDisplaced(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.write("/etc/tor/x", "")
	if err := os.Symlink("torrc.anondist", m.root.Path(torrcPath)); err != nil {
		t.Fatal(err)
	}
	m.write(templateDir+"/etc_tor_torrc_template.conf", "# shipped\n%include /etc/torrc.d/\n")
	if failed := m.repair(); failed != nil {
		t.Fatal(failed)
	}
	if text, err := os.Readlink(m.root.Path(torrcPath)); err != nil || text != "torrc.anondist" || m.read("/etc/tor/torrc.anondist") != "# shipped\n%include /etc/torrc.d/\n" {
		t.Errorf("%s %v %q", text, err, m.read(torrcPath))
	}
	m.write("/etc/tor/torrc.anondist", "#\n")
	if failed := m.repair(); failed != nil || !strings.Contains(m.read("/etc/tor/torrc.anondist"), mainInclude) || !strings.HasPrefix(ownership(t, m.root.Path(torrcPath)), "L") {
		t.Errorf("%v", failed)
	}
}

// TestRepairRefuses: nothing is changed that cannot be understood, and no link
// of Tor's account is followed.
func TestRepairRefuses(t *testing.T) {
	for name, text := range map[string]string{"NUL": "SocksPort 1\x00\n", "quotes": "Log \"x\n"} {
		m := newMachine(t, whonix.GatewayMarker)
		m.write(torrcPath, text)
		if failed := m.repair(); len(failed) != 1 || m.read(torrcPath) != text || !strings.Contains(failed[0].Error(), torrcPath) {
			t.Errorf("%s: %v %q", name, failed, m.read(torrcPath))
		}
	}
	m := newMachine(t, whonix.GatewayMarker)
	m.write("/victim/file", "")
	m.write("/var/lib/tor/x", "")
	if err := os.Symlink("/victim", m.root.Path("/var/lib/tor/authdir")); err != nil {
		t.Fatal(err)
	}
	if failed := m.repair(); len(failed) != 1 || !strings.Contains(failed[0].Error(), "refused") {
		t.Errorf("a link: %v", failed)
	}
	m.owners(map[string]string{"/victim": "drwxr-xr-x 0 0"})
	for _, environ := range []string{"tor_user=nobody-here", "tor_group=nobody-here", "client_onion_auth_dir=relative", "client_onion_auth_dir=/a/../b"} {
		m := newMachine(t)
		if failed := m.repair(environ); len(failed) != 1 {
			t.Errorf("%s: %v", environ, failed)
		}
	}
}

// TestRepairElsewhere: any machine gets the directories, a Gateway alone files.
func TestRepairElsewhere(t *testing.T) {
	m := newMachine(t, whonix.WorkstationMarker)
	if failed := m.repair("tor_dir=/srv/tor", "tor_user=root", "tor_group=root", "client_onion_auth_dir="); failed != nil {
		t.Fatal(failed)
	}
	m.owners(map[string]string{"/srv/tor/authdir": "drwx------ 0 0", torrcDir: "drwxr-xr-x 0 0"})
	if m.root.Exists(torrcPath) || !strings.Contains(m.stderr.String(), "not implemented outside") {
		t.Errorf("%s", m.stderr.String())
	}
}

// TestClean: what does not end in .conf goes to backup, and nothing is lost.
func TestClean(t *testing.T) {
	m := newMachine(t)
	for _, dir := range []string{torrcDir, userTorrcDir} {
		for name, text := range map[string]string{"a.conf": "a", "b.conf~": "b", ".hidden": "h", "c": "c", "d.conf.dpkg-old": "d", "sub/x": "x", "backup/c": "old c", "backup/c.~1~": "older c"} {
			m.write(dir+"/"+name, text)
		}
		if err := os.Symlink("/nowhere", m.root.Path(dir+"/dangling")); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		m.stdout.Reset()
		if err := clean(m.root, m.env("torrc-d-cleaner")); err != nil || m.stdout.String() != "/usr/libexec/torrc-d-cleaner INFO: success.\n" {
			t.Fatalf("%v %s", err, m.stdout.String())
		}
	}
	for path, want := range map[string]string{"a.conf": "a", "backup/b.conf~": "b", "backup/.hidden": "h", "backup/c": "c", "backup/c.~2~": "old c", "backup/c.~1~": "older c", "backup/d.conf.dpkg-old": "d", "sub/x": "x"} {
		if got := m.read(torrcDir + "/" + path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	if text, _ := os.Readlink(m.root.Path(userTorrcDir + "/backup/dangling")); text != "/nowhere" {
		t.Errorf("a link: %q", text)
	}
	m = newMachine(t)
	m.write(torrcDir+"/x", "x")
	m.write(torrcDir+"/backup", "in the way")
	if err := clean(m.root, m.env("torrc-d-cleaner")); err == nil || !strings.Contains(m.stdout.String(), "torrc-d-cleaner ERROR: exit_code: 1 | ") {
		t.Errorf("%v %s", err, m.stdout.String())
	}
}
