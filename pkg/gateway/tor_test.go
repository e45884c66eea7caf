// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// patience is how long anything may take on a machine with much to do.
const patience = 2 * time.Minute

// torMachine is a Gateway in a network namespace, with Tor's configuration as
// it is installed.
type torMachine struct {
	*machine
	ns *netlab.Namespace
}

// ip runs ip(8) in the namespace.
func (m *torMachine) ip(args ...string) {
	m.Helper()
	err := m.ns.Do(func() error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	})
	if err != nil {
		m.Fatal(err)
	}
}

// newTorMachine also lets the test run beside others: each has namespaces of its
// own.
func newTorMachine(t *testing.T, name string) *torMachine {
	t.Helper()
	t.Parallel()
	ns, err := netlab.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	m := &torMachine{newMachine(t, whonix.GatewayMarker), ns}
	m.ip("link", "set", "lo", "up")
	for _, device := range []string{"eth0", "eth1"} {
		m.ip("link", "add", device, "type", "veth", "peer", "name", device+"peer")
		m.ip("link", "set", device, "up")
		m.ip("link", "set", device+"peer", "up")
	}
	m.ip("addr", "add", "10.0.2.15/24", "dev", "eth0")
	m.ip("addr", "add", whonix.GatewayIP+"/18", "dev", "eth1")
	m.copyTree("../../etc/torrc.d", torrcDir)
	m.write("/etc/tor/torrc.anondist", shippedText(t, "../../etc/tor/torrc.anondist"))
	if err := os.Symlink("torrc.anondist", m.root.Path(torrcPath)); err != nil {
		t.Fatal(err)
	}
	m.write(listenersBase, shippedText(t, shippedShare+filepath.Base(listenersBase)))
	m.copyTree("/usr/share/tor", "/usr/share/tor")
	for _, f := range []string{"/etc/passwd", "/etc/group"} {
		m.write(f, shippedText(t, f))
	}
	if failed := m.repair(); failed != nil {
		t.Fatal(failed)
	}
	ownAs(t, m.root.Path("/var/lib/tor/authdir"), m.root.Path("/run/tor"), 0o2755)
	return m
}

// ownAs makes a directory with the owner of another.
func ownAs(t *testing.T, like, dir string, mode os.FileMode) {
	t.Helper()
	fi, err := os.Stat(like)
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(st.Uid), int(st.Gid)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Chmod(dir, uint32(mode)); err != nil {
		t.Fatal(err)
	}
}

func shippedText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (m *torMachine) copyTree(from, to string) {
	m.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		m.Fatal(err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			m.write(to+"/"+e.Name(), shippedText(m.T, from+"/"+e.Name()))
		}
	}
}

// generate makes the list of listeners, in the namespace.
func (m *torMachine) generate() {
	m.Helper()
	if err := m.ns.Do(m.list(bindable).run); err != nil {
		m.Fatal(err)
	}
}

// tor is the command that Debian's unit runs.
func (m *torMachine) tor(ctx context.Context, args string, environ ...string) *exec.Cmd {
	return m.inside(ctx, "/usr/bin/tor --defaults-torrc /usr/share/tor/tor-service-defaults-torrc -f /etc/tor/torrc --RunAsDaemon 0 "+args, environ...)
}

// inside is a command with this machine's directories over those of the host,
// in a mount namespace of its own.
func (m *torMachine) inside(ctx context.Context, command string, environ ...string) *exec.Cmd {
	script := "set -e\n"
	for _, dir := range []string{"/etc", "/usr/local", "/usr/share/tor", "/var/lib/tor", "/run"} {
		script += fmt.Sprintf("mount --bind '%s' %s\n", m.root.Path(dir), dir)
	}
	script += "exec " + command
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), environ...)
	return cmd
}

// verify has Tor check its configuration.
func (m *torMachine) verify() {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := m.ns.Do(func() error {
		out, err := m.tor(ctx, "--verify-config").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		m.Error(err)
	}
}

// listening starts Tor, waits until it says that it is ready, and reads what it
// listens at from the kernel, by kind and address.
func (m *torMachine) listening() map[string]int {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.root.Path("/run/notify"), Net: "unixgram"})
	if err != nil {
		m.Fatal(err)
	}
	defer notify.Close()
	if err := os.Chmod(m.root.Path("/run/notify"), 0o777); err != nil {
		m.Fatal(err)
	}
	var out bytes.Buffer
	cmd := m.tor(ctx, "", "NOTIFY_SOCKET=/run/notify")
	cmd.Stdout, cmd.Stderr = &out, &out
	started := make(chan error, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- m.ns.Do(func() error { // the thread lives as long as its child, see Pdeathsig
			err := cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return cmd.Wait()
		})
	}()
	if err := <-started; err != nil {
		m.Fatal(err)
	}
	ready := make(chan error, 1)
	go func() {
		for {
			buf := make([]byte, 4096)
			n, err := notify.Read(buf)
			if err != nil || strings.Contains(string(buf[:n]), "READY=1") {
				ready <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		m.Fatalf("Tor ended: %v\n%s", err, out.String())
	case err := <-ready:
		if err != nil {
			m.Fatal(err)
		}
	}
	m.reload(ctx, cmd.Process)
	found, err := sockets(cmd.Process.Pid)
	if err != nil {
		m.Error(err)
	}
	for path, mode := range map[string]string{"/run/tor/socks": "Srw-rw-rw-", "/run/tor/control": "Srw-rw----"} {
		if got := ownership(m.T, m.root.Path(path)); !strings.HasPrefix(got, mode+" ") {
			m.Errorf("%s: %s", path, got)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		m.Error(err)
	}
	<-ended
	return found
}

// reload does what a drop-in of the unit does: Tor, which starts as root and
// goes on as debian-tor, opens unix sockets after a SIGHUP only.
func (m *torMachine) reload(ctx context.Context, tor *os.Process) {
	m.Helper()
	if err := tor.Signal(syscall.SIGHUP); err != nil {
		m.Fatal(err)
	}
	const interval = 20 * time.Millisecond
	for !m.root.Exists("/run/tor/socks") || !m.root.Exists("/run/tor/control") || !strings.Contains(m.read("/run/tor/log"), "Opened Control listener connection (ready) on /run/tor/control") {
		select {
		case <-ctx.Done():
			m.Fatalf("no unix sockets\n%s", m.read("/run/tor/log"))
		case <-time.After(interval):
		}
	}
}

// sockets are the listeners in a process's network namespace, see proc(5).
func sockets(pid int) (map[string]int, error) {
	const listening, unconnected = "0A", "07"
	found := map[string]int{}
	for table, state := range map[string]string{"tcp": listening, "tcp6": listening, "udp": unconnected, "udp6": unconnected} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(string(data), "\n")[1:] {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != state {
				continue
			}
			address, _, _ := strings.Cut(f[1], ":")
			found[table[:3]+" "+address]++
		}
	}
	return found, nil
}

// Addresses as in /proc/net.
const (
	hexLoopback  = "0100007F"
	hexLoopback6 = "00000000000000000000000001000000"
	hexInternal  = "0A98980A"
	hexInternal6 = "3DC319FD0000BC880000000010000000"
)

func (m *torMachine) expect(want map[string]int) {
	m.Helper()
	m.verify()
	got := m.listening()
	for where, n := range want {
		if got[where] != n {
			m.Errorf("%s: %d listeners, want %d", where, got[where], n)
		}
	}
	for where, n := range got {
		if _, ok := want[where]; !ok {
			m.Errorf("%s: %d listeners, where none should be", where, n)
		}
	}
}

// TestAcceptance01_Table: Tor takes the shipped list, with Debian's defaults.
// The counts are in pkg/whonix.
func TestAcceptance01_Table(t *testing.T) {
	m := newTorMachine(t, "gw-table")
	m.write(listenersPath, ListenersBase())
	if n := len(active(ListenersBase())); n != 333 {
		t.Errorf("%d lines", n)
	}
	m.verify()
}

// TestAcceptance02_Listeners: everything up.
func TestAcceptance02_Listeners(t *testing.T) {
	m := newTorMachine(t, "gw-all")
	m.ip("addr", "add", whonix.GatewayIP6+"/96", "dev", "eth1", "nodad")
	m.generate()
	m.expect(map[string]int{
		"tcp " + hexLoopback: 64, "tcp " + hexLoopback6: 63, "tcp " + hexInternal: 101, "tcp " + hexInternal6: 101,
		"udp " + hexLoopback: 1, "udp " + hexLoopback6: 1, "udp " + hexInternal: 1, "udp " + hexInternal6: 1,
	})
}

// TestAcceptance03_NoIPv6: without IPv6 Tor starts with the rest.
func TestAcceptance03_NoIPv6(t *testing.T) {
	m := newTorMachine(t, "gw-no6")
	if err := m.ns.Sysctl("ipv6/conf/all/disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	m.generate()
	if lines := active(m.read(listenersPath)); len(lines) != 167 || strings.Contains(strings.Join(lines, "\n"), "[") {
		t.Errorf("%d lines", len(lines))
	}
	m.expect(map[string]int{"tcp " + hexLoopback: 64, "tcp " + hexInternal: 101, "udp " + hexLoopback: 1, "udp " + hexInternal: 1})
}

// TestAcceptance04_OtherIPv6: IPv6 to the Internet does not mean IPv6 to the
// Workstation (defect 3).
func TestAcceptance04_OtherIPv6(t *testing.T) {
	m := newTorMachine(t, "gw-other6")
	m.ip("addr", "add", "2001:db8::15/64", "dev", "eth0", "nodad")
	m.generate()
	lines := strings.Join(active(m.read(listenersPath)), "\n")
	if strings.Contains(lines, whonix.GatewayIP6) || !strings.Contains(lines, "[::1]:9050") {
		t.Errorf("%s", lines)
	}
	m.expect(map[string]int{
		"tcp " + hexLoopback: 64, "tcp " + hexLoopback6: 63, "tcp " + hexInternal: 101,
		"udp " + hexLoopback: 1, "udp " + hexLoopback6: 1, "udp " + hexInternal: 1,
	})
}

// TestMissingIPv4: without the internal address Tor does not start silently
// without what Workstations need.
func TestMissingIPv4(t *testing.T) {
	m := newTorMachine(t, "gw-no4")
	m.ip("addr", "del", whonix.GatewayIP+"/18", "dev", "eth1")
	m.generate()
	if !strings.Contains(m.read(listenersPath), "\nTransPort "+whonix.GatewayIP) {
		t.Error("IPv4 was commented out")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := m.ns.Do(func() error { return m.tor(ctx, "").Run() })
	if err == nil || ctx.Err() != nil {
		t.Errorf("Tor: %v", err)
	}
}
