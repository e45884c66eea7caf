// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"whonix-networking/pkg/netlab"
)

// within bounds whatever a machine is waited for, on a busy host.
const within = 3 * time.Minute

// machine is a Debian system, on top of one that scripts/e2e has prepared and
// that stays as it is.
type machine struct {
	t     *testing.T
	name  string
	root  string
	ns    *netlab.Namespace // its network; nil until it is to boot
	run   *exec.Cmd         // systemd-nspawn
	first int               // process 1, as the host counts
}

// newMachine makes one, switched off and with nothing of ours.
func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	base := os.Getenv("E2E_BASE")
	if base == "" {
		t.Fatal("E2E_BASE is unset: run scripts/e2e")
	}
	dir := t.TempDir()
	m := &machine{t: t, name: name, root: filepath.Join(dir, "root")}
	layers := filepath.Join(dir, "layers")
	for _, d := range []string{layers, m.root} {
		must(t, os.Mkdir(d, 0o755))
	}
	must(t, syscall.Mount("tmpfs", layers, "tmpfs", 0, "size=1g,mode=0755"))
	t.Cleanup(func() { must(t, syscall.Unmount(layers, syscall.MNT_DETACH)) })
	upper, work := filepath.Join(layers, "upper"), filepath.Join(layers, "work")
	for _, d := range []string{upper, work} {
		must(t, os.Mkdir(d, 0o755))
	}
	must(t, syscall.Mount("overlay", m.root, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", base, upper, work)))
	t.Cleanup(func() { must(t, syscall.Unmount(m.root, syscall.MNT_DETACH)) })
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write puts a file into the machine that is switched off.
func (m *machine) write(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	must(m.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(m.t, os.WriteFile(path, []byte(text), 0o644))
}

// offline runs a command in the machine while it is switched off, where
// services are not started.
func (m *machine) offline(args ...string) string {
	m.t.Helper()
	policy := filepath.Join(m.root, "usr/sbin/policy-rc.d")
	must(m.t, os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755))
	defer os.Remove(policy)
	c := exec.Command("chroot", append([]string{m.root}, args...)...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	out, err := c.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %s: %v\n%s", m.name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// install installs packages of ours, all at once as apt would.
func (m *machine) install(packages ...string) {
	m.t.Helper()
	m.offline(append([]string{"dpkg", "--install", "--force-confold"}, m.bring(packages...)...)...)
}

// bring copies packages of ours into the machine.
func (m *machine) bring(packages ...string) (paths []string) {
	m.t.Helper()
	for _, p := range packages {
		found, err := filepath.Glob("../../build/debs/" + p + "_*.deb")
		if err != nil || len(found) != 1 {
			m.t.Fatalf("package %s: %q, %v: run make debs", p, found, err)
		}
		data, err := os.ReadFile(found[0])
		must(m.t, err)
		m.write("/var/tmp/"+filepath.Base(found[0]), string(data))
		paths = append(paths, "/var/tmp/"+filepath.Base(found[0]))
	}
	return paths
}

// boot switches the machine on and waits until systemd has started everything.
// It returns systemd's word for the state.
func (m *machine) boot() string {
	m.t.Helper()
	console, err := os.Create(m.root + ".console")
	must(m.t, err)
	defer console.Close()
	m.run = exec.Command("systemd-nspawn", "--quiet", "--directory="+m.root, "--register=no", "--keep-unit", "--boot",
		"--resolv-conf=off", "--timezone=off", "--capability=CAP_NET_ADMIN,CAP_NET_RAW", "--hostname="+m.name, "--console=pipe")
	m.run.Env = append(os.Environ(), "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network")
	m.run.Stdout, m.run.Stderr = console, console
	must(m.t, m.ns.Do(m.run.Start))
	m.t.Cleanup(m.off)
	m.until("systemd runs", func() error {
		if m.first = child(m.run.Process.Pid); m.first == 0 {
			return errors.New("systemd-nspawn has no child yet")
		}
		if state, err := m.try("systemctl", "is-system-running"); state == "" || state == "offline\n" {
			return err
		}
		return nil
	})
	out, _ := m.try("systemctl", "is-system-running", "--wait")
	return strings.TrimSpace(out)
}

// child is a process's first one, or 0.
func child(pid int) int {
	list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	first, _, _ := strings.Cut(string(list), " ")
	n, _ := strconv.Atoi(first)
	return n
}

// off switches it off without warning.
func (m *machine) off() {
	if m.run == nil {
		return
	}
	_ = m.run.Process.Kill()
	_ = m.run.Wait()
	m.run = nil
}

// reboot lets it end its services and boots it again.
func (m *machine) reboot() string {
	m.t.Helper()
	_, _ = m.try("systemctl", "poweroff", "--no-block")
	ended := make(chan error, 1)
	go func() { ended <- m.run.Wait() }()
	select {
	case <-ended:
	case <-time.After(within):
		m.t.Fatalf("%s does not power off\n%s", m.name, m.console())
	}
	m.run = nil
	return m.boot()
}

// console is the end of what the machine printed.
func (m *machine) console() string {
	text, _ := os.ReadFile(m.root + ".console")
	return string(text[max(0, len(text)-4000):])
}

// command is one to be run in the running machine.
func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(m.first), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"}, args...)...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "DEBIAN_FRONTEND=noninteractive"}
	return c
}

// try runs a command as root and returns its output; an error has what it
// printed on standard error.
func (m *machine) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	c := m.command(ctx, args...)
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %s: %w: %s", m.name, strings.Join(args, " "), err, errOut.String())
	}
	return out.String(), nil
}

// does runs a command that has to succeed.
func (m *machine) does(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// fails runs one that must not, and returns all that it printed.
func (m *machine) fails(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err == nil {
		m.t.Errorf("%s: %s: succeeded, and should not\n%s", m.name, strings.Join(args, " "), out)
		return out
	}
	return out + err.Error()
}

// feeds runs a command with a text as its input.
func (m *machine) feeds(input string, args ...string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	c := m.command(ctx, args...)
	c.Stdin = io.NopCloser(strings.NewReader(input))
	out, err := c.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %s: %v\n%s", m.name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// until waits for something of which nothing tells.
func (m *machine) until(what string, f func() error) {
	m.t.Helper()
	end := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			m.t.Fatalf("%s: %s: %v\n%s", m.name, what, err, m.console())
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// failed are the units that have.
func (m *machine) failed() string {
	m.t.Helper()
	return strings.TrimSpace(m.does("systemctl", "--failed", "--no-legend", "--plain"))
}

// property is one of a unit.
func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.does("systemctl", "show", "--property="+name, "--value", unit))
}
