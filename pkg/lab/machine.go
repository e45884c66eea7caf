// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/netlab"
)

// Accounts of the lab's machines.
const (
	uidRoot        = 0
	uidClearnet    = 901
	uidTunnel      = 902
	uidNoTunnel    = 903
	uidSystemcheck = 904
	uidSdwdate     = 905
	uidProxyCheck  = 906
	uidTor         = 102
	uidUser        = 1000
	uidNobody      = 65534
)

// account names one of them.
type account struct {
	name string
	uid  int
}

func accounts() []account {
	return []account{
		{"root", uidRoot}, {"clearnet", uidClearnet}, {"tunnel", uidTunnel}, {"notunnel", uidNoTunnel},
		{"systemcheck", uidSystemcheck}, {"sdwdate", uidSdwdate}, {"updatesproxycheck", uidProxyCheck},
		{"debian-tor", uidTor}, {"user", uidUser}, {"nobody", uidNobody},
	}
}

// Directories of a machine's file system that programs run by it see in place
// of this machine's.
const configDir = "/etc/whonix_firewall.d"

// machine is a computer of the lab: a network namespace, and a file system in
// which the installed programs find their markers, accounts and configuration
// where they always are.
type machine struct {
	namespace *netlab.Namespace
	root      string // directory that becomes / for its programs
}

// hostDirs are directories of this machine that are mounted into every root;
// the programs in /usr/bin and /usr/sbin are linked to, one by one, so that
// others can stand beside them or be taken away.
func hostDirs() map[string]string {
	return map[string]string{
		"/usr/bin": "/usr/hostbin", "/usr/sbin": "/usr/hostsbin", "/usr/lib": "/usr/lib", "/usr/lib64": "/usr/lib64",
		"/usr/libexec/coreutils": "/usr/libexec/coreutils", "/proc": "/proc", "/dev": "/dev",
	}
}

// newMachine lays out a file system below dir. programs are files to install,
// by their path in it; marker is the role's marker file.
func newMachine(n *netlab.Namespace, dir, marker string, programs map[string]string) (*machine, error) {
	m := &machine{namespace: n, root: dir}
	var failed error
	for from, to := range hostDirs() {
		if _, err := os.Stat(from); err == nil {
			failed = errors.Join(failed, os.MkdirAll(m.path(to), 0o755))
		}
	}
	for _, d := range []string{"/usr/bin", "/usr/sbin", "/run", "/var/lib", "/tmp", configDir, filepath.Dir(marker)} {
		failed = errors.Join(failed, os.MkdirAll(m.path(d), 0o755))
	}
	for link, to := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"} {
		failed = errors.Join(failed, os.Symlink(to, m.path(link)))
	}
	failed = errors.Join(failed,
		m.linkPrograms("/usr/bin", "hostbin"), m.linkPrograms("/usr/sbin", "hostsbin"),
		m.write(marker, ""), m.writeAccounts(),
	)
	for to, from := range programs {
		failed = errors.Join(failed, m.install(from, to))
	}
	if failed != nil {
		return nil, fmt.Errorf("lay out the %s's file system: %w", n.Name, failed)
	}
	return m, nil
}

func (m *machine) path(p string) string { return filepath.Join(m.root, p) }

func (m *machine) write(p, text string) error {
	if err := os.MkdirAll(filepath.Dir(m.path(p)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(m.path(p), []byte(text), 0o644)
}

func (m *machine) remove(p string) error { return os.RemoveAll(m.path(p)) }

func (m *machine) exists(p string) bool {
	_, err := os.Lstat(m.path(p))
	return err == nil
}

func (m *machine) linkPrograms(dir, mounted string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Symlink("../"+mounted+"/"+e.Name(), m.path(dir+"/"+e.Name())); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func (m *machine) writeAccounts() error {
	var passwd, group strings.Builder
	for _, a := range accounts() {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::/nonexistent:/bin/false\n", a.name, a.uid, a.uid)
		fmt.Fprintf(&group, "%s:x:%d:\n", a.name, a.uid)
	}
	failed := errors.Join(m.write("/etc/passwd", passwd.String()), m.write("/etc/group", group.String()),
		m.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nservices: files\nprotocols: files\n"))
	for _, names := range []string{"/etc/services", "/etc/protocols"} { // nft(8) looks names up there
		text, err := os.ReadFile(names)
		failed = errors.Join(failed, err, m.write(names, string(text)))
	}
	return failed
}

// install copies a program, in place of whatever is there.
func (m *machine) install(from, to string) error {
	if strings.HasPrefix(from, "->") {
		_ = os.Remove(m.path(to))
		return os.Symlink(from[2:], m.path(to))
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(m.path(to)), 0o755); err != nil {
		return err
	}
	_ = os.Remove(m.path(to))
	out, err := os.OpenFile(m.path(to), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// run runs a program of the machine, by its path there, and returns what it
// printed and its exit status.
func (m *machine) run(ctx context.Context, stdin io.Reader, argv ...string) (string, int, error) {
	var out bytes.Buffer
	status := 0
	err := m.namespace.Do(func() error {
		if err := m.mount(); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Path = argv[0] // in the new root
		cmd.Err = nil
		cmd.Dir = "/"
		cmd.Env = execx.CleanEnv(nil)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &out
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			status, err = exit.ExitCode(), nil
		}
		return err
	})
	if err != nil {
		return out.String(), status, fmt.Errorf("run %s on the %s: %w", argv[0], m.namespace.Name, err)
	}
	return out.String(), status, nil
}

// mount makes the machine's file system complete, for the calling thread and
// its children only.
func (m *machine) mount() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	for from, to := range hostDirs() {
		if !m.exists(to) {
			continue
		}
		if err := unix.Mount(from, m.path(to), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", from, err)
		}
	}
	return nil
}

// configure puts fragments into the machine's configuration directory: the
// shipped ones, and those of the administrator on top.
func (m *machine) configure(dirs ...string) error {
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.conf"))
		if err != nil {
			return err
		}
		slices.Sort(files)
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err == nil {
				err = m.write(filepath.Join(configDir, filepath.Base(f)), string(text))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
