// SPDX-License-Identifier: GPL-3.0-or-later

//go:build vmtest

package harden

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// The machine of scripts/vmtest is thrown away: here the programs act on the
// root itself.

const (
	nobody    = 65534
	sysfsGID  = 900
	cpuGID    = 901
	procGID   = 902
	busybox   = "/bin/busybox"
	testSuite = "/bin/harden.test"
)

func realMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t, system{root: fsx.Host, privileged: true}}
	m.write("/etc/group", fmt.Sprintf("root:x:0:\nnogroup:x:%d:\nshadow:x:42:\nsysfs:x:%d:\ncpuinfo:x:%d:\nproc:x:%d:\n", nobody, sysfsGID, cpuGID, procGID))
	return m
}

// as runs a program as nobody, with further groups.
func as(groups []uint32, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: groups}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// allowed checks what nobody can do.
func (m *machine) allowed(want bool, groups []uint32, args ...string) {
	m.Helper()
	if out, err := as(groups, args...); (err == nil) != want {
		m.Errorf("%q with groups %v: %v, want success %v: %s", args, groups, err, want, out)
	}
}

// TestKernelHidepid runs the command of the unit.
func TestKernelHidepid(t *testing.T) {
	m := realMachine(t)
	m.allowed(true, nil, busybox, "stat", "/proc/1")
	m.allowed(true, nil, busybox, "cat", "/proc/1/cmdline")
	var command []string
	for line := range strings.Lines(m.read("/systemd/system/proc-hidepid.service")) {
		if rest, ok := strings.CutPrefix(line, "ExecStart="); ok {
			command = strings.Fields(rest)
		}
	}
	if len(command) == 0 || command[0] != "/bin/mount" {
		t.Fatalf("the unit's command: %q", command)
	}
	command[0] = "/usr/bin/mount" // on a merged /usr the same; here /bin has busybox's
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.allowed(false, nil, busybox, "stat", "/proc/1")
	m.allowed(true, nil, busybox, "stat", "/proc/self")
	m.allowed(true, []uint32{procGID}, busybox, "stat", "/proc/1")
	if out, err := as(nil, busybox, "ls", "/proc"); err != nil || strings.Contains("\n"+out, "\n1\n") {
		t.Errorf("others are listed: %v\n%s", err, out)
	}
	var st unix.Statfs_t
	m.must(unix.Statfs("/proc", &st))
	if want := int64(unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC); int64(st.Flags)&want != want {
		t.Errorf("/proc has flags %x", st.Flags)
	}
}

func TestKernelHardware(t *testing.T) {
	m := realMachine(t)
	m.allowed(true, nil, busybox, "ls", "/sys/bus/pci/devices/")
	removes, err := filepath.Glob("/sys/devices/pci*/*/remove")
	if err != nil || len(removes) == 0 {
		t.Fatalf("no PCI devices: %v", err)
	}
	before := map[string]uint32{}
	for _, r := range removes {
		before[r] = m.mode(r)
	}
	m.hardware().want(m, 0)
	for _, path := range []string{"/sys/bus/pci/devices/", "/sys/class/", "/sys/devices/", "/proc/bus/"} {
		m.allowed(false, nil, busybox, "ls", path)
	}
	m.allowed(false, nil, busybox, "cat", "/proc/cpuinfo")
	m.allowed(true, []uint32{cpuGID}, busybox, "cat", "/proc/cpuinfo")
	m.allowed(true, []uint32{sysfsGID}, busybox, "ls", "/sys/bus/pci/devices/")
	m.allowed(true, nil, busybox, "ls", "/sys/fs/")
	m.allowed(true, nil, busybox, "stat", "/sys/fs/cgroup")
	for r, mode := range before { // defect D-8
		if m.group(r) != 0 || m.mode(r) != mode {
			t.Errorf("%s has mode %o and group %d", r, m.mode(r), m.group(r))
		}
	}
}

func TestKernelOops(t *testing.T) {
	m := realMachine(t)
	const limit = "/proc/sys/kernel/oops_limit"
	usual := m.read(limit)
	oops := func(action string) { m.run(panicOnOops, "panic-on-oops", action).want(m, 0) }
	oops("enable")
	if m.read(limit) != "1\n" || m.read("/proc/sys/kernel/warn_limit") != "1\n" {
		t.Errorf("enabled: %q", m.read(limit))
	}
	oops("disable")
	if m.read(limit) != usual {
		t.Errorf("disabled: %q, was %q", m.read(limit), usual)
	}
}

// TestKernelEuid is the program that others run setuid.
func TestKernelEuid(t *testing.T) {
	t.Logf("euid %d", os.Geteuid())
}

func (m *machine) suid(path string) {
	m.Helper()
	data, err := os.ReadFile(testSuite)
	m.must(err)
	m.mkdir(filepath.Dir(path))
	m.must(os.WriteFile(path, data, 0o600))
	m.chmod(path, 0o4755)
}

// euid is what a program becomes when nobody runs it.
func (m *machine) euid(path string) string {
	m.Helper()
	out, err := as(nil, path, "-test.v", "-test.run", "^TestKernelEuid$")
	if err != nil {
		return err.Error()
	}
	_, rest, _ := strings.Cut(out, "euid ")
	id, _, _ := strings.Cut(rest, "\n")
	return id
}

func TestKernelPermissionHardener(t *testing.T) {
	m := realMachine(t)
	m.mkdir(dpkgDatabase)
	m.mkdir("/usr/lib/permission-hardener.d")
	m.must(os.CopyFS("/usr/lib/permission-hardener.d", os.DirFS("/scripts/security-misc/permission-hardener.d")))
	for _, p := range []string{"/usr/bin/sudo", "/usr/bin/newgrp"} {
		m.suid(p)
		if got := m.euid(p); got != "0" {
			t.Fatalf("%s: euid %s before", p, got)
		}
	}
	m.hardener("enable").want(m, 0)
	if got := m.euid("/usr/bin/sudo"); got != "0" {
		t.Errorf("sudo: euid %s", got)
	}
	if _, err := as(nil, "/usr/bin/newgrp"); !errors.Is(err, unix.EACCES) {
		t.Errorf("newgrp is run: %v", err)
	}
	m.allowed(false, nil, busybox, "ls", "/usr/src/")
	m.hardener("disable", disableAll).want(m, 0)
	if got := m.euid("/usr/bin/newgrp"); got != "0" {
		t.Errorf("newgrp after disable: euid %s", got)
	}
}

// TestKernelRemountSecure changes the mounts for what comes after it: it is the
// last.
func TestKernelRemountSecure(t *testing.T) {
	m := realMachine(t)
	for _, dir := range []string{"/home/u", "/var/tmp", "/var/log", "/boot/efi", "/media"} {
		m.mkdir(dir)
	}
	m.must(unix.Mount("tmpfs", "/boot/efi", "tmpfs", 0, ""))
	m.write("/boot/efi/content", "x")
	for _, p := range []string{"/opt/suid", "/home/u/suid", "/var/tmp/suid"} {
		m.suid(p)
		if got := m.euid(p); got != "0" {
			t.Fatalf("%s: euid %s before", p, got)
		}
	}
	m.must(unix.Mknod("/media/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	m.must(os.WriteFile("/media/null", nil, 0))
	m.remount("3").want(m, 0)
	for p, want := range map[string]string{"/opt/suid": fmt.Sprint(nobody), "/home/u/suid": "permission denied", "/var/tmp/suid": "permission denied"} {
		if got := m.euid(p); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
	if err := os.WriteFile("/media/null", nil, 0); !errors.Is(err, unix.EACCES) {
		t.Errorf("a device can be opened: %v", err)
	}
	if m.read("/boot/efi/content") != "x" {
		t.Error("/boot/efi is covered")
	}
	m.remount("undo").want(m, 0)
	if got := m.euid("/opt/suid"); got != "0" {
		t.Errorf("after undo: euid %s", got)
	}
}
