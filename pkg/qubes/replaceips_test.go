// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/whonix"
)

func (m *machine) replace() error {
	m.t.Helper()
	m.stdout.Reset()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return replaceIPs(ctx, m.root, m.env())
}

const torrcBefore = `# SocksPort 10.152.152.10:1
  # 10.152.152.10
SocksPort 10.152.152.10:9050
SocksPolicy accept 10.152.152.0/18
SocksPort 110.152.152.10:9051
SocksPort 10.152.152.100:9052
HiddenServicePort 80 10.152.152.11:80
X 210.152.152.0 10.152.152.10.5 5.10.152.152.10 10.152.152.0.1
X 10.152.152.10, 10.152.152.10. (10.152.152.10) a:10.152.152.10`

const torrcAfter = `# SocksPort 10.152.152.10:1
  # 10.152.152.10
SocksPort 10.137.0.9:9050
SocksPolicy accept 10.137.0.0/18
SocksPort 110.152.152.10:9051
SocksPort 10.152.152.100:9052
HiddenServicePort 80 10.152.152.11:80
X 210.152.152.0 10.152.152.10.5 5.10.152.152.10 10.152.152.0.1
X 10.137.0.9, 10.137.0.9. (10.137.0.9) a:10.137.0.9`

// TestAcceptance18_Tokens: exactly the addresses, on lines that are no
// comments; one restart of a Tor that runs.
func TestAcceptance18_Tokens(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.write(userTorrc, torrcBefore)
	m.write(torrc, torrcBefore+"\n")
	m.write(defaultTor+".base", torrcBefore)
	m.write("/tor-runs", "")
	m.key(keyNetVMGateway, "10.137.0.9\n")
	if err := m.replace(); err != nil {
		t.Fatal(err, m.stdout.String())
	}
	if got := m.read(userTorrc); got != torrcAfter {
		t.Errorf("the user's torrc is now\n%s", got)
	}
	if got := m.read(torrc); got != torrcAfter+"\n" {
		t.Errorf("torrc is now\n%s", got)
	}
	if m.read(defaultTor+".base") != torrcBefore {
		t.Error("the pristine list was changed")
	}
	if got := m.read(cacheDir + "/whonix-ip-gateway"); got != "10.137.0.9" {
		t.Errorf("saved: %q", got)
	}
	if got := m.read("/systemctl.log"); got != "--quiet is-active tor@default\n--no-block restart tor@default\n" {
		t.Errorf("systemctl was asked: %s", got)
	}
	for _, line := range []string{"/usr/lib/qubes-whonix/replace-ips INFO: START\n", "/usr/lib/qubes-whonix/replace-ips INFO: END\n",
		"INFO: 'IPv4': filename from filelist updated  : '/etc/tor/torrc'", "INFO: 'IPv4': ip_file updated: ",
		"WARNING: 'qubesdb-read /qubes-netvm-gateway6' failed!\n", "INFO: executing: systemctl restart tor@default\n"} {
		if !strings.Contains(m.stdout.String(), line) {
			t.Errorf("not said: %q in\n%s", line, m.stdout.String())
		}
	}
	before := m.state()
	if err := m.replace(); err != nil || m.state() != before {
		t.Errorf("again: %v, something was written", err)
	}
}

// TestAcceptance19_NextBoot: the address of the last boot is found also when
// what remembers it was lost (defect 35).
func TestAcceptance19_NextBoot(t *testing.T) {
	for _, lost := range []bool{false, true} {
		m := newMachine(t, whonix.GatewayMarker)
		m.write(userTorrc, torrcBefore)
		m.key(keyNetVMGateway, "10.137.0.9\n")
		if err := m.replace(); err != nil {
			t.Fatal(err)
		}
		if lost {
			if err := os.RemoveAll(m.root.Path(cacheDir)); err != nil {
				t.Fatal(err)
			}
		}
		m.key(keyNetVMGateway, "10.137.0.23\n")
		if err := m.replace(); err != nil {
			t.Fatal(err)
		}
		if got := m.read(userTorrc); got != strings.ReplaceAll(torrcAfter, "10.137.0.9", "10.137.0.23") {
			t.Errorf("lost=%v: %s", lost, got)
		}
		if got := m.read("/systemctl.log"); strings.Contains(got, "restart") {
			t.Errorf("a Tor that does not run was restarted: %s", got)
		}
		if !strings.Contains(m.stdout.String(), "INFO: Systemd unit tor@default is not running, therefore not restarting.\n") {
			t.Error(m.stdout.String())
		}
	}
}

// TestFailedFileIsTriedAgain: an address that could not be replaced is not
// forgotten, whatever the next ones are.
func TestFailedFileIsTriedAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t, whonix.WorkstationMarker)
	const file = "/usr/share/anon-apps-config/kioslaverc"
	m.write(file, "server=10.152.152.10\n")
	boot := func(n int) error {
		m.key(keyIP, fmt.Sprintf("10.137.1.%d", n))
		m.key(keyGateway, fmt.Sprintf("10.137.2.%d", n))
		return m.replace()
	}
	if err := boot(1); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(m.root.Path(file), m.root.Path(file+".kept")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.root.Path(file), 0o755); err != nil {
		t.Fatal(err)
	}
	for n := 2; n < 5; n++ {
		if err := boot(n); err == nil || !strings.Contains(m.stdout.String(), "ERROR: file existing but not updated: "+file) {
			t.Fatalf("a directory in the place of a file: %v %s", err, m.stdout.String())
		}
	}
	if err := os.Remove(m.root.Path(file)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(m.root.Path(file+".kept"), m.root.Path(file)); err != nil {
		t.Fatal(err)
	}
	if err := boot(5); err != nil {
		t.Fatal(err)
	}
	if got := m.read(file); got != "server=10.137.2.5\n" {
		t.Errorf("it says %q", got)
	}
	if m.root.Exists(cacheDir + "/whonix-ip-gateway.pending") {
		t.Error("old addresses are looked for for ever")
	}
}

// TestAcceptance20_Bytes: one byte that is no UTF-8 does not cost the file
// (defect 31).
func TestAcceptance20_Bytes(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.write(userTorrc, "Nickname caf\xe9 10.152.152.10\r\n\x00\xff\n")
	if err := os.Chmod(m.root.Path(userTorrc), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(m.root.Path(userTorrc), 1234, 4321); err != nil {
		t.Fatal(err)
	}
	m.key(keyNetVMGateway, "10.137.0.9\n")
	if err := m.replace(); err != nil {
		t.Fatal(err)
	}
	if got := m.read(userTorrc); got != "Nickname caf\xe9 10.137.0.9\r\n\x00\xff\n" {
		t.Errorf("%q", got)
	}
	var st unix.Stat_t
	if err := unix.Stat(m.root.Path(userTorrc), &st); err != nil || st.Uid != 1234 || st.Gid != 4321 || st.Mode&0o7777 != 0o640 {
		t.Errorf("owner %d:%d, mode %o, %v", st.Uid, st.Gid, st.Mode, err)
	}
}

// TestAcceptance21_Home: in a user's home no link is followed, no FIFO waited
// for, and nothing done that its owner could not do (defect 33).
func TestAcceptance21_Home(t *testing.T) {
	t.Parallel()
	const uid, dir, file = 23456, "/home/user/.config/hexchat", "/home/user/.config/hexchat/hexchat.conf"
	const secret = "10.152.152.10\n"
	link := func(m *machine, to, at string) error { return os.Symlink(m.root.Path(to), m.root.Path(at)) }
	for name, c := range map[string]struct {
		put  func(m *machine) error
		want string // of the file
		said bool
	}{
		"file":        {func(m *machine) error { m.write(file, secret); return os.Chown(m.root.Path(file), uid, uid) }, "10.137.2.1\n", false},
		"link":        {func(m *machine) error { return link(m, "/root-only", file) }, secret, true},
		"linked home": {func(m *machine) error { m.write(file, secret); return relink(m, "/home/user") }, secret, true},
		"linked dir":  {func(m *machine) error { m.write(file, secret); return relink(m, "/home/user/.config") }, secret, true},
		"fifo":        {func(m *machine) error { return unix.Mkfifo(m.root.Path(file), 0o666) }, "", true},
		"root's":      {func(m *machine) error { m.write(file, secret); return nil }, secret, true},
		"large": {func(m *machine) error {
			m.write(file, secret+strings.Repeat("x", sizeMax))
			return os.Chown(m.root.Path(file), uid, uid)
		}, secret + strings.Repeat("x", sizeMax), true},
		"missing": {func(*machine) error { return nil }, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, whonix.WorkstationMarker)
			if err := os.Chmod(string(m.root), 0o755); err != nil {
				t.Fatal(err)
			}
			m.write("/root-only", secret)
			if err := os.Chmod(m.root.Path("/root-only"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, d := range []string{"/home/user", "/home/user/.config", dir} {
				if err := os.MkdirAll(m.root.Path(d), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(m.root.Path(d), uid, uid); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.put(m); err != nil {
				t.Fatal(err)
			}
			m.key(keyIP, "10.137.1.1")
			m.key(keyGateway, "10.137.2.1")
			if err := m.replace(); err != nil {
				t.Errorf("%v: %s", err, m.stdout.String())
			}
			if m.read("/root-only") != secret {
				t.Error("a file of root's was changed through the home")
			}
			if name != "fifo" && m.read(file) != c.want {
				t.Errorf("the file is %.40q", m.read(file))
			}
			if said := strings.Contains(m.stdout.String(), "WARNING: file existing but not updated: "+file); said != c.said {
				t.Errorf("said %v: %s", said, m.stdout.String())
			}
			if name == "file" {
				var st unix.Stat_t
				if err := unix.Stat(m.root.Path(file), &st); err != nil || st.Uid != uid {
					t.Errorf("owner %d, %v", st.Uid, err)
				}
			}
		})
	}
}

// relink moves a directory away and puts a link to it in its place.
func relink(m *machine, dir string) error {
	if err := os.Rename(m.root.Path(dir), m.root.Path("/moved")); err != nil {
		return err
	}
	return os.Symlink(m.root.Path("/moved"), m.root.Path(dir))
}

// TestAcceptance22_BadValues: a value that is not exactly one address of the
// right family changes nothing (defect 34).
func TestAcceptance22_BadValues(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "\n", "abc", "10.0.0.1/32", "10.0.0.1\n10.0.0.2\n", "fd00::1", "10.0.0.1 ", "010.0.0.1", "0.0.0.0", "127.0.0.1",
		"224.0.0.1", "::ffff:10.0.0.1", "10.0.0.1\x00", "\x1b[2J", strings.Repeat("1", 1<<20)} {
		m := newMachine(t, whonix.GatewayMarker)
		m.write(userTorrc, torrcBefore)
		m.key(keyNetVMGateway, bad)
		before := m.state()
		if err := m.replace(); err == nil || m.state() != before {
			t.Errorf("%.40q: %v, or something was written", bad, err)
		}
		if out := m.stdout.String(); !strings.Contains(out, "ERROR: current_ip variable invalid: '/qubes-netvm-gateway' '") || strings.ContainsAny(out, "\x1b\x00") || len(out) > 1000 {
			t.Errorf("%.40q: said %.1000q", bad, out)
		}
	}
	for _, bad := range []string{"10.0.0.1", "::", "::1", "fe80::1%eth0", "[fd00::1]", "fd00::1/128", "ff02::1"} {
		m := newMachine(t, whonix.WorkstationMarker)
		m.write("/etc/resolv.conf.whonix", "nameserver fd19:c33d:88bc::10\n")
		m.key(keyIP6, "fd00::5")
		m.key(keyGateway6, bad)
		before := m.state()
		if err := m.replace(); err == nil || m.state() != before || !strings.Contains(m.stdout.String(), "ERROR: current_ip variable invalid: '/qubes-gateway6' '") {
			t.Errorf("%q: %v %s", bad, err, m.stdout.String())
		}
	}
}

// TestAcceptance23_Template: nothing is changed in a template; a machine without
// a role is an error there too.
func TestAcceptance23_Template(t *testing.T) {
	for _, marker := range []string{whonix.GatewayMarker, whonix.WorkstationMarker, "/nothing"} {
		m := newMachine(t, marker)
		m.write(whonix.TemplateMarker, "")
		m.write("/etc/resolv.conf.whonix", "nameserver 10.152.152.10\n")
		m.key(keyNetVMGateway, "10.137.0.9")
		before := m.state()
		err := m.replace()
		if (err == nil) != (marker != "/nothing") || m.state() != before {
			t.Errorf("%s: %v, or something was written", marker, err)
		}
		if marker != "/nothing" && !strings.Contains(m.stdout.String(), "INFO: Not needed inside Template, skipping, ok.\n") {
			t.Error(m.stdout.String())
		}
	}
}

// TestWorkstation: own address and the Gateway's, of both families; a family
// with one key only is left alone; the displaced resolv.conf stays a link.
func TestWorkstation(t *testing.T) {
	m := newMachine(t, whonix.WorkstationMarker)
	const before = "nameserver 10.152.152.10\nown 10.152.152.11\nnet 10.152.152.0\nnameserver FD19:C33D:88BC:0::10\nown [fd19:c33d:88bc::11]:80\nno fd19:c33d:88bc::10ab x:fd19:c33d:88bc::10:\n"
	m.write("/etc/resolv.conf.whonix", before)
	if err := os.Symlink("resolv.conf.whonix", m.root.Path("/etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	m.key(keyIP, "10.137.1.5")
	if err := m.replace(); err != nil || m.read("/etc/resolv.conf") != before {
		t.Fatalf("one key of two: %v %s", err, m.read("/etc/resolv.conf"))
	}
	m.key(keyGateway, "10.138.2.9")
	m.key(keyIP6, "fd09:24ef:4179::a89:5")
	m.key(keyGateway6, "fd09:24ef:4179::a89:9")
	if err := m.replace(); err != nil {
		t.Fatal(err, m.stdout.String())
	}
	const want = "nameserver 10.138.2.9\nown 10.137.1.5\nnet 10.137.1.0\nnameserver fd09:24ef:4179::a89:9\nown [fd09:24ef:4179::a89:5]:80\nno fd19:c33d:88bc::10ab x:fd09:24ef:4179::a89:9:\n"
	if got := m.read("/etc/resolv.conf.whonix"); got != want {
		t.Errorf("%s", got)
	}
	if to, _ := os.Readlink(m.root.Path("/etc/resolv.conf")); to != "resolv.conf.whonix" {
		t.Error("the link was replaced by a file")
	}
	if out := m.stdout.String(); strings.Count(out, "filename from filelist updated") != 4 || strings.Contains(out, "'/etc/resolv.conf.whonix'") {
		t.Errorf("one file by two names is told of once, and not edited by two at once: %s", out)
	}
	if got := m.read(cacheDir+"/whonix-ip-local") + " " + m.read(cacheDir+"/whonix-ip-gateway") + " " + m.read(cacheDir+"/whonix-ip6-local") + " " + m.read(cacheDir+"/whonix-ip6-gateway"); got != "10.137.1.5 10.138.2.9 fd09:24ef:4179::a89:5 fd09:24ef:4179::a89:9" {
		t.Errorf("saved: %s", got)
	}
}

// TestUnsafeLink: where others can write, a link is not followed by root.
func TestUnsafeLink(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.write("/secret", "10.152.152.10\n")
	if err := os.MkdirAll(m.root.Path(torrcDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(m.root.Path(torrcDir), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../secret", m.root.Path(userTorrc)); err != nil {
		t.Fatal(err)
	}
	m.key(keyNetVMGateway, "10.137.0.9")
	if err := m.replace(); err == nil || m.read("/secret") != "10.152.152.10\n" || !strings.Contains(m.stdout.String(), "ERROR: file existing but not updated: "+userTorrc) {
		t.Errorf("%v, %q, %s", err, m.read("/secret"), m.stdout.String())
	}
}
