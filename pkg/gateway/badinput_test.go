// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"whonix-networking/pkg/whonix"
)

// soundGateway is a machine on which tor-config-sane has nothing to do.
func soundGateway(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t, whonix.GatewayMarker)
	m.write(listenersBase, ListenersBase())
	m.write(waited, "")
	m.installed("tor-config-sane", "tor-config-sane")
	m.installed("repair-torrc", "repair-torrc")
	if out, err := m.chrooted("/run/tor-config-sane").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return m
}

// contents is every file of the machine, with mode, owner and content; of
// directories the time does not count.
func (m *machine) contents() string {
	m.Helper()
	var out strings.Builder
	err := filepath.WalkDir(string(m.root), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&out, "%s %v %d:%d", path, fi.Mode(), st.Uid, st.Gid)
		if fi.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %d %q", fi.ModTime().UnixNano(), data[:min(len(data), 4096)])
		}
		if fi.Mode()&fs.ModeSymlink != 0 {
			to, _ := os.Readlink(path)
			out.WriteString(" " + to)
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		m.Fatal(err)
	}
	return out.String()
}

// instead puts something else in the place of a file.
func (m *machine) instead(path string, put func(host string) error) {
	m.Helper()
	if err := errors.Join(os.RemoveAll(m.root.Path(path)), put(m.root.Path(path))); err != nil {
		m.Fatal(err)
	}
}

func link(to string) func(string) error {
	return func(host string) error { return os.Symlink(to, host) }
}

func folder(host string) error { return os.MkdirAll(host+"/x", 0o755) }

// TestBadInput: the program itself, before whatever can be in the way: it says
// which file, exits 1, which units and dpkg take for a plain failure, and
// leaves everything as it was. FIFOs do not hold it up.
func TestBadInput(t *testing.T) {
	const authDir = "/var/lib/tor/authdir"
	for name, c := range map[string]struct {
		spoil func(m *machine)
		names string // the file in the line on standard error
	}{
		"torrc with NUL":            {func(m *machine) { m.write(torrcPath, "SocksPort 1\x00\n") }, torrcPath + ":1"},
		"torrc with an open quote":  {func(m *machine) { m.write(torrcPath, "# x\nLog \"x\n") }, torrcPath + ":2"},
		"torrc of 5 MiB":            {func(m *machine) { m.write(torrcPath, strings.Repeat("#"+strings.Repeat("x", 1<<20)+"\n", 5)) }, torrcPath},
		"torrc is a FIFO":           {func(m *machine) { m.instead(torrcPath, mkfifo) }, torrcPath},
		"torrc is a directory":      {func(m *machine) { m.instead(torrcPath, folder) }, torrcPath},
		"torrc is a link to itself": {func(m *machine) { m.instead(torrcPath, link("torrc")) }, torrcPath},
		"torrc leads to /dev/null":  {func(m *machine) { m.instead(torrcPath, link("/dev/null")) }, torrcPath},
		"torrc leads to a file of users": {func(m *machine) {
			m.write("/home/user/torrc", "# mine\n")
			m.instead(torrcPath, link("/home/user/torrc"))
			if err := os.Chown(m.root.Path("/home/user"), 1000, 1000); err != nil {
				m.Fatal(err)
			}
		}, "/home/user"},
		"user's torrc leads nowhere in a user's home": {func(m *machine) {
			if err := errors.Join(os.MkdirAll(m.root.Path("/home/user"), 0o755), os.Chown(m.root.Path("/home/user"), 1000, 1000)); err != nil {
				m.Fatal(err)
			}
			m.instead(userTorrcDir+"/50_user.conf", link("/home/user/x"))
		}, "/home/user"},
		"torrc.d is a file": {func(m *machine) {
			m.instead(torrcDir, func(host string) error { return os.WriteFile(host, nil, 0o644) })
		}, torrcDir},
		"list with NUL":              {func(m *machine) { m.write(listenersBase, "SocksPort 1\x00\n") }, listenersBase + ":1"},
		"list is a FIFO":             {func(m *machine) { m.instead(listenersBase, mkfifo) }, listenersBase},
		"list is missing":            {func(m *machine) { m.instead(listenersBase, func(string) error { return nil }) }, listenersBase},
		"generated list is a folder": {func(m *machine) { m.instead(listenersPath, folder) }, listenersPath},
		"generated list is a FIFO":   {func(m *machine) { m.instead(listenersPath, mkfifo) }, listenersPath},
		"keys are a link":            {func(m *machine) { m.write("/victim/x", ""); m.instead(authDir, link("/victim")) }, authDir},
		"keys are a FIFO":            {func(m *machine) { m.instead(authDir, mkfifo) }, authDir},
		"no account for Tor":         {func(m *machine) { m.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\n") }, "/etc/passwd"},
		"account without number":     {func(m *machine) { m.write("/etc/passwd", "debian-tor:x:many:1::/:/bin/sh\n") }, authDir},
		"accounts are a FIFO":        {func(m *machine) { m.instead("/etc/passwd", mkfifo) }, "/etc/passwd"},
		"replace-ips is not there":   {func(m *machine) { m.write(whonix.QubesMarker, "") }, replaceIPs},
		"replace-ips is no program":  {func(m *machine) { m.write(whonix.QubesMarker, ""); m.write(replaceIPs, "") }, replaceIPs},
		"no place for what was done": {func(m *machine) { m.instead(runDir, func(host string) error { return os.WriteFile(host, nil, 0o644) }) }, runDir},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := soundGateway(t)
			c.spoil(m)
			before := m.contents()
			m.fails(m.chrooted("/run/tor-config-sane"), c.names)
			if after := m.contents(); after != before {
				t.Errorf("changed:\n%s", difference(before, after))
			}
		})
	}
}

// fails runs a program, which has to end with exit status 1 and a line on
// standard error that names a file.
func (m *machine) fails(cmd *exec.Cmd, names string) {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		m.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() != 1 {
		m.Errorf("%v: %s", err, stderr.String())
	}
	found := false
	for line := range strings.Lines(stderr.String()) {
		found = found || strings.Contains(line, "ERROR: ") && strings.Contains(line, names) || strings.Contains(line, "error: ") && strings.Contains(line, names)
	}
	if !found {
		m.Errorf("no line names %s:\n%s", names, stderr.String())
	}
}

// difference are the lines that only one of two texts has.
func difference(before, after string) string {
	var out strings.Builder
	for _, side := range [][2]string{{before, after}, {after, before}} {
		for line := range strings.Lines(side[0]) {
			if !strings.Contains(side[1], line) {
				out.WriteString(line)
			}
		}
	}
	return out.String()
}

// TestReadOnly: on a file system that cannot be written to, what is right
// already is no failure, and what is not is one; nothing is half done.
func TestReadOnly(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(m *machine)
		names string
	}{
		"nothing to do": {func(*machine) {}, ""},
		"a new list":    {func(m *machine) { m.write(listenersBase, ListenersBase()+"# changed\n") }, listenersPath},
		"no include":    {func(m *machine) { m.write(torrcPath, "# mine\n") }, torrcPath},
		"no user's":     {func(m *machine) { m.instead(userTorrcDir+"/50_user.conf", func(string) error { return nil }) }, userTorrcDir},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := soundGateway(t)
			c.spoil(m)
			before := m.contents()
			script := `mount --rbind "$0" "$0" && mount -o remount,ro,bind "$0" && exec chroot "$0" /run/tor-config-sane`
			cmd := exec.Command("/bin/sh", "-c", script, string(m.root))
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			if c.names != "" {
				m.fails(cmd, c.names)
			} else if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if after := m.contents(); after != before {
				t.Errorf("changed:\n%s", difference(before, after))
			}
		})
	}
}

// TestEnvironmentOfUnits: what an administrator may say to repair-torrc counts
// for nothing before Tor starts, and never leads through others' directories.
func TestEnvironmentOfUnits(t *testing.T) {
	m := soundGateway(t)
	before := m.contents()
	cmd := m.chrooted("/run/tor-config-sane")
	cmd.Env = []string{"tor_dir=/srv/tor", "tor_user=root", "client_onion_auth_dir=/srv/auth"}
	if out, err := cmd.CombinedOutput(); err != nil || m.contents() != before {
		t.Errorf("%v: %s\n%s", err, out, difference(before, m.contents()))
	}
	m.write("/home/user/x", "")
	if err := os.Chown(m.root.Path("/home/user"), 1000, 1000); err != nil {
		t.Fatal(err)
	}
	before = m.contents()
	cmd = m.chrooted("/run/repair-torrc")
	cmd.Env = []string{"client_onion_auth_dir=/home/user/a/b"}
	m.fails(cmd, "/home/user")
	if after := m.contents(); after != before {
		t.Errorf("changed:\n%s", difference(before, after))
	}
}
