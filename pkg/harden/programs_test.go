// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
)

func (m *machine) systemMap(environ ...string) result {
	m.Helper()
	return m.runEnv(removeSystemMap, environ, "remove-system.map")
}

// TestAcceptance08_LinkedMaps is defect D-11.
func TestAcceptance08_LinkedMaps(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("/etc/victim", "precious")
	m.link("/etc/victim", "/usr/src/e/System.map")
	m.link(m.root.Path("/etc/victim"), "/usr/src/e/System.map-real")
	m.write("/usr/src/g/System.map", "linked")
	m.must(os.Link(m.root.Path("/usr/src/g/System.map"), m.root.Path("/etc/hard")))
	m.write("/boot/System.map-6.1", "symbols")
	m.write("/usr/lib/modules/6.1/build/System.map", "symbols")
	m.link("usr/lib", "/lib")
	m.mkdir("/boot/System.map.d")
	r := m.systemMap().want(m, 1)
	for _, text := range []string{"INFO: Deleting system.map files...\n", "ERROR: not a plain file, skipped '/usr/src/e/System.map'\n", "ERROR: not a plain file, skipped '/usr/src/g/System.map'\n", "INFO: removed '/boot/System.map-6.1'\n", "INFO: removed '/lib/modules/6.1/build/System.map'\n"} {
		if strings.Count(r.out, text) != 1 {
			t.Errorf("%q: %d times in\n%s", text, strings.Count(r.out, text), r.out)
		}
	}
	if m.read("/etc/victim") != "precious" || m.read("/etc/hard") != "linked" {
		t.Error("another file was changed")
	}
	if m.root.Exists("/boot/System.map-6.1") || m.root.Exists("/usr/lib/modules/6.1/build/System.map") || !m.root.IsFile("/usr/src/g/System.map") {
		t.Error("the wrong maps are there")
	}
}

func TestAcceptance08_ReadOnlyBoot(t *testing.T) {
	t.Parallel()
	mounted(t, func(m *machine) {
		m.tmpfs("/boot")
		m.write("/boot/System.map-6.1", "x")
		m.must2(unix.Mount("", m.root.Path("/boot"), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		m.write("/usr/src/linux/System.map", "x")
		m.systemMap().want(m, 0).says(m, "NOTE: Cannot delete '/boot/System.map-6.1' - read-only.", "INFO: removed '/usr/src/linux/System.map'\n", "INFO: Done. Success.\n")
	})
}

func TestAcceptance09_NothingToDo(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if r := m.systemMap().want(m, 0); r.out+r.err != "" {
		t.Errorf("%q %q", r.out, r.err)
	}
	// The hook of kernels' packages never fails (D-12).
	data, err := os.ReadFile(top + "/etc/kernel/postinst.d/30_remove-system-map")
	m.must(err)
	const tool = "/usr/libexec/security-misc/remove-system.map"
	if !strings.Contains(string(data), tool) {
		t.Fatalf("the hook does not run %s", tool)
	}
	for _, body := range []string{"#!/bin/sh\necho called \"$#\"\nexit 1\n", ""} {
		stand := m.root.Path("/stand-in")
		_ = os.Remove(stand)
		if body != "" {
			m.file("/stand-in", 0o755)
			m.must(os.WriteFile(stand, []byte(body), 0o755))
		}
		m.write("/hook", strings.ReplaceAll(string(data), tool, stand))
		out, err := exec.Command("/bin/sh", "-e", m.root.Path("/hook"), "6.1", "/boot/vmlinuz-6.1").CombinedOutput()
		if want := "called 0\n"; err != nil || body != "" && string(out) != want || body == "" && len(out) > 0 {
			t.Errorf("%q, %v", out, err)
		}
	}
}

// TestDefect12Hooks: fragments of the administrator's run in their own folder
// and order, and what they exit with counts.
func TestDefect12Hooks(t *testing.T) {
	t.Parallel()
	const dir = "/etc/remove-system.map_pre.d/"
	const own = "/usr/local/etc/remove-system.map_pre.d/"
	for _, c := range []struct {
		name, first, second string
		code                int
		deleted             bool
		says                string
	}{
		{"run", "echo first", "echo second", 0, true, "first\nsecond\nINFO: Deleting"},
		{"exit 0", "exit 0", "echo second", 0, false, ""},
		{"exit 7", "exit 7", "echo second", 7, false, "30.conf: exit status 7"},
		{"failing command", "false", "echo second", 1, false, "exit status 1"},
		{"syntax", "echo ok", "if then", 1, false, "Invalid config file: '"},
	} {
		m := newMachine(t)
		m.write("/boot/System.map", "x")
		m.write(dir+"30.conf", c.first+"\n")
		m.write(own+"40.conf", c.second+"\n")
		m.systemMap("DPKG_MAINTSCRIPT_PACKAGE=linux-image").want(m, c.code).says(m, c.says)
		if m.root.Exists("/boot/System.map") == c.deleted {
			t.Errorf("%s: deleted %v", c.name, !c.deleted)
		}
	}
	m := newMachine(t)
	m.write("/boot/System.map", "x")
	m.write(dir+"30.conf", "exit 0\n")
	m.chmod(dir+"30.conf", 0o666)
	m.systemMap().want(m, 1).says(m, dir+"30.conf can be changed by everybody")
	m.systemMap("SKIP_SCRIPTS=a remove-system.map b").want(m, 0).says(m, "INFO: Skipping remove-system.map, because SKIP_SCRIPTS includes it.\n")
	if !m.root.Exists("/boot/System.map") {
		t.Error("deleted")
	}
}

func fakeHardware(m *machine) {
	m.Helper()
	for _, dir := range []string{"/sys/bus/pci", "/sys/block", "/sys/fs/cgroup/user", "/sys/kernel", "/proc/bus/pci"} {
		m.mkdir(dir)
	}
	for _, dir := range []string{"/sys", "/sys/bus", "/sys/block", "/sys/fs", "/sys/fs/cgroup", "/sys/kernel", "/proc/bus"} {
		m.chmod(dir, 0o555)
	}
	m.file("/sys/bus/pci/remove", 0o220)
	m.file("/sys/bus/pci/vendor", 0o444)
	m.file("/proc/cpuinfo", 0o444)
}

func (m *machine) hardware() result {
	m.Helper()
	return m.run(hideHardwareInfo, "hide-hardware-info")
}

func (m *machine) group(path string) uint32 {
	m.Helper()
	var st unix.Stat_t
	m.must(unix.Lstat(m.root.Path(path), &st))
	return st.Gid
}

// TestAcceptance10_Hardware is defect D-8 too.
func TestAcceptance10_Hardware(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	fakeHardware(m)
	m.hardware().want(m, 0).says(m, "hide-hardware-info: INFO: START\n", "INFO: whitelist executing: chmod o-rwx /proc/cpuinfo\n", "INFO: normal executing   : chmod og-rwx /proc/bus\n", "hide-hardware-info: INFO: END\n")
	m.wantModes(map[string]uint32{
		"/sys": 0o555, "/sys/bus": 0o550, "/sys/block": 0o550, "/sys/kernel": 0o550, "/sys/fs": 0o555, "/sys/fs/cgroup": 0o550, "/sys/fs/cgroup/user": 0o755,
		"/proc/cpuinfo": 0o440, "/proc/bus": 0o500, "/sys/bus/pci/remove": 0o220, "/sys/bus/pci/vendor": 0o444, "/sys/bus/pci": 0o755,
	})
	for path, gid := range map[string]uint32{"/sys": 900, "/sys/bus": 900, "/sys/fs/cgroup": 900, "/proc/cpuinfo": 901, "/sys/bus/pci/remove": 0, "/sys/bus/pci": 0, "/sys/fs/cgroup/user": 0, "/proc/bus": 0} {
		if got := m.group(path); got != gid {
			t.Errorf("%s has group %d, want %d", path, got, gid)
		}
	}
	for _, text := range []string{"x=(", "sysfs=no", "sysfs=1; rm -rf /", "sysfs", "SYSFS=1", "sysfs=\"1'"} {
		m := newMachine(t)
		fakeHardware(m)
		m.write("/etc/hide-hardware-info.d/50.conf", "# ok\nsysfs = '1' # fine\n"+text+"\n")
		before := m.snapshot("/sys") + m.snapshot("/proc")
		m.hardware().want(m, 1).says(m, "ERROR: /etc/hide-hardware-info.d/50.conf:3: ")
		if m.snapshot("/sys")+m.snapshot("/proc") != before {
			t.Errorf("%q: something was changed", text)
		}
	}
}

func TestAcceptance11_EtcWins(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	fakeHardware(m)
	m.write("/usr/local/etc/hide-hardware-info.d/90.conf", "sysfs=0\n")
	m.hardware().want(m, 0)
	m.wantModes(map[string]uint32{"/sys/bus": 0o555})
	m.write("/etc/hide-hardware-info.d/30.conf", "sysfs=1\n")
	m.hardware().want(m, 0)
	m.wantModes(map[string]uint32{"/sys/bus": 0o550})
}

// TestHardwareSettings: no whitelist, no group, SELinux.
func TestHardwareSettings(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	fakeHardware(m)
	m.mkdir("/sys/fs/selinux")
	m.mkdir("/proc/scsi")
	m.write("/etc/hide-hardware-info.d/50.conf", "sysfs_whitelist=0\ncpuinfo_whitelist=\"0\"\nselinux=1\n")
	m.hardware().want(m, 0).says(m, "INFO: The sysfs whitelist is not enabled.", "INFO: SELinux detected")
	m.wantModes(map[string]uint32{"/sys": 0o505, "/sys/bus": 0o500, "/sys/fs/selinux": 0o705, "/proc/cpuinfo": 0o400, "/proc/scsi": 0o700})

	m = newMachine(t)
	fakeHardware(m)
	m.write("/etc/group", "root:x:0:\nmycpuinfo:x:5:\nsysfsother:x:6:\n") // no group of the exact name
	m.hardware().want(m, 0).says(m, "ERROR: The cpuinfo group does not exist, the cpuinfo whitelist was not created.", "ERROR: The sysfs group does not exist")
	m.wantModes(map[string]uint32{"/proc/cpuinfo": 0o444, "/sys/bus": 0o550})
}

// TestAcceptance12_Homes is defect D-22 too.
func TestAcceptance12_Homes(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, dir := range []string{"/home/al ice", "/home/placeholder", "/home/old", "/home/.hidden", "/home/new\nline"} {
		m.mkdir(dir)
	}
	m.mkdir("/etc")
	m.link("/etc", "/home/link")
	m.link(m.root.Path("/etc"), "/home/link2")
	m.write("/home/file", "x")
	m.write(lockdownOld+"/placeholder", "")
	m.write(lockdownOld+"/old", "")
	lockdown := func() result { return m.run(permissionLockdown, "permission-lockdown") }
	lockdown().want(m, 0).says(m, "permission-lockdown: chmod o-rwx \"/home/al ice\"\n", `"/home/new\012line"`)
	want := map[string]uint32{"/home/al ice": 0o750, "/home/placeholder": 0o750, "/home/old": 0o755, "/home/.hidden": 0o755, "/etc": 0o755, "/home/file": 0o644, "/home/new\nline": 0o750}
	m.wantModes(want)
	m.chmod("/home/al ice", 0o755)
	if r := lockdown().want(m, 0); r.out != "" {
		t.Errorf("again: %q", r.out)
	}
	want["/home/al ice"] = 0o755
	m.wantModes(want)
}

// TestLockdownFailure: what failed is not taken for done, and the others are.
func TestLockdownFailure(t *testing.T) {
	t.Parallel()
	mounted(t, func(m *machine) {
		m.tmpfs("/home/a")
		m.mkdir("/home/b")
		m.must2(unix.Mount("", m.root.Path("/home/a"), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		m.run(permissionLockdown, "permission-lockdown").want(m, 1).says(m, "ERROR: '/home/a'")
		m.wantModes(map[string]uint32{"/home/b": 0o750})
		m.must2(unix.Mount("", m.root.Path("/home/a"), "", unix.MS_REMOUNT, ""))
		m.run(permissionLockdown, "permission-lockdown").want(m, 0)
		m.wantModes(map[string]uint32{"/home/a": 0o750})
	})
}

// TestAcceptance16_Oops is defect D-23 too.
func TestAcceptance16_Oops(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	oops := func(args ...string) result {
		return m.run(panicOnOops, append([]string{"panic-on-oops"}, args...)...)
	}
	const limit, warn = "/proc/sys/kernel/oops_limit", "/proc/sys/kernel/warn_limit"
	m.write(limit, "12345\n")
	m.write(warn, "7\n")
	if r := oops("enable").want(m, 0); r.out != "kernel.oops_limit = 1\nkernel.warn_limit = 1\n" {
		t.Errorf("%q", r.out)
	}
	oops().want(m, 0) // as in 2020; what was before is not forgotten
	oops("disable").want(m, 0)
	if m.read(limit) != "12345\n" || m.read(warn) != "7\n" {
		t.Errorf("%q %q", m.read(limit), m.read(warn))
	}
	m.write(limit, "1\n")
	oops("disable").want(m, 0) // never 0, which means no limit
	if m.read(limit) != "10000\n" || m.read(warn) != "0\n" {
		t.Errorf("%q %q", m.read(limit), m.read(warn))
	}
	if r := oops("bogus").want(m, cli.CodeFailed); r.out != "ERROR: Unrecognized action 'bogus'!\n" {
		t.Errorf("%q", r.out)
	}
	m.must(os.Remove(m.root.Path(limit)))
	m.must(os.Remove(m.root.Path(warn)))
	oops("enable").want(m, 1)
	m.write("/proc/sys/kernel/panic_on_oops", "0\n")
	oops("enable").want(m, 0)
	if m.read("/proc/sys/kernel/panic_on_oops") != "1\n" {
		t.Error("not set")
	}
}

func TestMmapRndBits(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	run := func(arch string) (string, result) {
		r := m.run(func(_ context.Context, env cli.Env, on system) error { return mmapRndBits(env, on, arch) }, "mmap-rnd-bits")
		if r.code != 0 {
			return "", r
		}
		var values []string
		for line := range strings.Lines(m.read(mmapFile)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				values = append(values, line)
			}
		}
		return strings.Join(values, " "), r
	}
	if _, r := run("amd64"); r.code != 1 || !strings.Contains(r.err, "/etc/sysctl.d does not exist") {
		t.Errorf("%v", r)
	}
	m.mkdir(mmapDir)
	for arch, want := range map[string]string{
		"amd64": "vm.mmap_rnd_bits=32 vm.mmap_rnd_compat_bits=16", "arm64": "vm.mmap_rnd_bits=33 vm.mmap_rnd_compat_bits=16", "arm": "vm.mmap_rnd_bits=16", "386": "vm.mmap_rnd_bits=16", "riscv64": "",
	} {
		if got, _ := run(arch); got != want {
			t.Errorf("%s: %q, want %q", arch, got, want)
		}
	}
	m.write("/boot/config-6.1.0-10-amd64", "CONFIG_ARCH_MMAP_RND_BITS_MAX=30\nCONFIG_ARCH_MMAP_RND_COMPAT_BITS_MAX=15\n")
	m.write("/boot/config-6.1.0-9-amd64", "CONFIG_ARCH_MMAP_RND_BITS_MAX=20\nCONFIG_ARCH_MMAP_RND_COMPAT_BITS_MAX=11\n") // newer file, older kernel
	if got, _ := run("amd64"); got != "vm.mmap_rnd_bits=30 vm.mmap_rnd_compat_bits=15" {
		t.Errorf("%q", got)
	}
	m.write("/proc/sys/vm/mmap_rnd_bits", "28\n") // a kernel without 32-bit programs
	if got, _ := run("amd64"); got != "vm.mmap_rnd_bits=30" {
		t.Errorf("%q", got)
	}
	m.write("/boot/config-6.1.0-10-amd64", "CONFIG_ARCH_MMAP_RND_BITS_MAX=many\n")
	if got, r := run("amd64"); got != "vm.mmap_rnd_bits=32" || !strings.Contains(r.err, "using the built-in default 32") {
		t.Errorf("%q %q", got, r.err)
	}
}
