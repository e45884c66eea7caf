// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// onDisk is a machine on a file system that can keep root from writing, which not
// every one for temporary files can.
func onDisk(t *testing.T, marker string) *machine {
	t.Helper()
	for _, dir := range []string{"", "/var/tmp", "."} {
		root, err := os.MkdirTemp(dir, "machine")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(root) })
		if root, err = filepath.Abs(root); err != nil {
			t.Fatal(err)
		}
		if exec.Command("chattr", "+i", root).Run() != nil {
			continue
		}
		if out, err := exec.Command("chattr", "-i", root).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		m := newMachine(t, marker)
		if err := os.CopyFS(root, os.DirFS(string(m.root))); err != nil {
			t.Fatal(err)
		}
		old := string(m.root)
		m.root = fsx.Root(root)
		for _, program := range []string{"/usr/bin/qubesdb-read", "/usr/bin/systemctl"} {
			script := strings.TrimPrefix(m.read(program), "#!/bin/sh\n")
			m.program(program, strings.ReplaceAll(script, old, root))
		}
		return m
	}
	t.Fatal("no directory on a file system with attributes")
	return nil
}

// readOnly lets nobody change a file or directory until the test has ended.
func (m *machine) readOnly(path string) {
	m.t.Helper()
	if out, err := exec.Command("chattr", "+i", m.root.Path(path)).CombinedOutput(); err != nil {
		m.t.Fatalf("%v %s", err, out)
	}
	m.t.Cleanup(func() { _ = exec.Command("chattr", "-i", m.root.Path(path)).Run() }) // it may be gone
}

func (m *machine) writable(path string) {
	m.t.Helper()
	if out, err := exec.Command("chattr", "-i", m.root.Path(path)).CombinedOutput(); err != nil {
		m.t.Errorf("%v %s", err, out)
	}
}

// TestReadOnly: what cannot be written is said and costs nothing else; Tor is
// restarted although the address could not be saved (defect 35); once it can be
// written all is made up for.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ locked, says string }{
		"saved addresses":  {cacheDir, "ERROR: 'IPv4': writing to ip_file failed: '" + cacheDir + "/whonix-ip-gateway'"},
		"the user's torrc": {torrcDir, "ERROR: file existing but not updated: " + userTorrc},
		"a file itself":    {torrc, "ERROR: file existing but not updated: " + torrc},
	} {
		t.Run(name, func(t *testing.T) {
			m := onDisk(t, whonix.GatewayMarker)
			m.write(userTorrc, "SocksPort 10.152.152.10:1\n")
			m.write(torrc, "SocksPort 10.152.152.10:2\n")
			m.write(defaultTor, "SocksPort 10.152.152.10:3\n")
			m.write("/tor-runs", "")
			if err := os.MkdirAll(m.root.Path(cacheDir), 0o755); err != nil {
				t.Fatal(err)
			}
			m.key(keyNetVMGateway, "10.137.0.9\n")
			m.readOnly(c.locked)
			if err := m.replace(); code(err) != -1 || !strings.Contains(m.stdout.String(), c.says) {
				t.Errorf("%v\n%s", err, m.stdout.String())
			}
			if got := m.read(defaultTor); got != "SocksPort 10.137.0.9:3\n" {
				t.Errorf("another file is %q", got)
			}
			if got := m.read("/systemctl.log"); !strings.Contains(got, "restart tor@default") {
				t.Errorf("systemctl was asked: %q", got)
			}
			if leftover, _ := filepath.Glob(m.root.Path(torrcDir) + "/.50*"); len(leftover) > 0 {
				t.Errorf("left behind: %v", leftover)
			}
			m.writable(c.locked)
			m.key(keyNetVMGateway, "10.137.0.23\n") // of the next boot
			if err := m.replace(); err != nil {
				t.Fatal(err, m.stdout.String())
			}
			if got := m.read(userTorrc) + m.read(torrc) + m.read(defaultTor); got != "SocksPort 10.137.0.23:1\nSocksPort 10.137.0.23:2\nSocksPort 10.137.0.23:3\n" {
				t.Errorf("afterwards: %s", got)
			}
			if m.read(cacheDir+"/whonix-ip-gateway") != "10.137.0.23" {
				t.Error("nothing was saved")
			}
		})
	}
}

// TestNoRegularFile: what is no file where one should be is an error, and never
// waited for.
func TestNoRegularFile(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(host string) error{
		"fifo":      func(host string) error { return unix.Mkfifo(host, 0o666) },
		"socket":    func(host string) error { return unix.Mknod(host, unix.S_IFSOCK|0o666, 0) },
		"directory": func(host string) error { return os.Mkdir(host, 0o755) },
		"device":    func(host string) error { return os.Symlink("/dev/null", host) },
		"loop":      func(host string) error { return os.Symlink(filepath.Base(host), host) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, whonix.GatewayMarker)
			m.write(torrc, "SocksPort 10.152.152.10:2\n")
			if err := os.MkdirAll(m.root.Path(torrcDir), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := put(m.root.Path(userTorrc)); err != nil {
				t.Fatal(err)
			}
			m.key(keyNetVMGateway, "10.137.0.9\n")
			if err := m.replace(); code(err) != -1 || !strings.Contains(m.stdout.String(), "ERROR: file existing but not updated: "+userTorrc) {
				t.Errorf("%v\n%s", err, m.stdout.String())
			}
			if m.read(torrc) != "SocksPort 10.137.0.9:2\n" {
				t.Error("another file was not written")
			}
		})
	}
	m := newMachine(t, whonix.GatewayMarker)
	m.write(torrc, "SocksPort 10.152.152.10:2\n")
	m.key(keyNetVMGateway, "10.137.0.9\n")
	if err := os.MkdirAll(m.root.Path(cacheDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(m.root.Path(cacheDir+"/whonix-ip-gateway"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.replace(); err != nil || m.read(cacheDir+"/whonix-ip-gateway") != "10.137.0.9" {
		t.Errorf("a FIFO in the place of what is saved: %v", err)
	}
}

// TestOddSavedFiles: what was saved and is no address counts as nothing saved.
func TestOddSavedFiles(t *testing.T) {
	t.Parallel()
	for _, saved := range []string{"", "\n", "abc", "::1", "10.137.0.7\x00", strings.Repeat("10.137.0.7\n", 10000), "0.0.0.0", "10.137.0.7 10.137.0.8"} {
		m := newMachine(t, whonix.GatewayMarker)
		m.write(cacheDir+"/whonix-ip-gateway", saved)
		m.write(torrc, "SocksPort 10.152.152.10:2\nSocksPort 0.0.0.0:3\n")
		m.key(keyNetVMGateway, "10.137.0.9\n")
		if err := m.replace(); err != nil || m.read(torrc) != "SocksPort 10.137.0.9:2\nSocksPort 0.0.0.0:3\n" || m.read(cacheDir+"/whonix-ip-gateway") != "10.137.0.9" {
			t.Errorf("%.20q: %v, %q, saved %q", saved, err, m.read(torrc), m.read(cacheDir+"/whonix-ip-gateway"))
		}
	}
}

// TestQubesDBIsDown: nothing is known, nothing is changed, and it is no failure:
// dpkg and the units go on.
func TestQubesDBIsDown(t *testing.T) {
	t.Parallel()
	for _, marker := range []string{whonix.GatewayMarker, whonix.WorkstationMarker} {
		for name, script := range map[string]string{"fails": "exit 1", "is killed": "kill -9 $$", "says why": "echo 'Failed to connect' >&2; exit 2"} {
			m := newMachine(t, marker)
			m.program("/usr/bin/qubesdb-read", script)
			m.write("/etc/resolv.conf.whonix", "nameserver 10.152.152.10\n")
			before := m.state()
			if err := m.replace(); err != nil || m.state() != before || !strings.Contains(m.stdout.String(), "WARNING: 'qubesdb-read /qubes-") {
				t.Errorf("%s, %s: %v %s", marker, name, err, m.stdout.String())
			}
		}
	}
	m := newMachine(t, whonix.GatewayMarker)
	if err := m.root.Remove("/usr/bin/qubesdb-read"); err != nil {
		t.Fatal(err)
	}
	if err := m.replace(); err != nil {
		t.Errorf("there is no qubesdb-read: %v", err)
	}
}

// TestFailuresAreSurvived: no unit is kept from starting by one of these that has
// failed, but for what is meant to be: no network without the firewall, and no
// updates proxy without Tor as its upstream.
func TestFailuresAreSurvived(t *testing.T) {
	strong := regexp.MustCompile(`(?m)^(Requires|Requisite|BindsTo|Upholds|OnFailure|FailureAction)=(.*)$`)
	allowed := map[string]string{"qubes-whonix-network.service": "whonix-firewall.service", "qubes-whonix-remote-support.service": "qubes-qrexec-agent.service"}
	files, err := filepath.Glob(top + "/systemd/system/*")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d units, %v", len(files), err)
	}
	dropins, err := filepath.Glob(top + "/systemd/system/*.d/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, dropins...) {
		if fi, err := os.Stat(file); err != nil || fi.IsDir() {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		for _, m := range strong.FindAllStringSubmatch(string(data), -1) {
			ours := strings.HasPrefix(name, "qubes-whonix-")
			if (ours || strings.Contains(m[2], "qubes-whonix-")) && allowed[name] != m[2] {
				t.Errorf("%s: %s", name, m[0])
			}
		}
	}
	// Exit codes: 1 for whatever failed; 2 is for arguments alone.
	m := newMachine(t, whonix.GatewayMarker)
	m.key(keyNetVMGateway, "nonsense")
	ctx := context.Background()
	for name, err := range map[string]error{
		"replace-ips":                  m.replace(),
		"network-proxy-setup":          setUpNetwork(ctx, m.root, m.env(), "no-such-kind"),
		"tinyproxy-config-patch":       patchTinyproxy(m.root),
		"torified-updates-proxy-check": template(t).check(ctx, serve(t, http.StatusOK, "<html>")),
	} {
		if got := cli.Code(err); got != 1 {
			t.Errorf("%s: %d (%v)", name, got, err)
		}
	}
}
