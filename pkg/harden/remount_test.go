// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mounted gives a test a thread with mounts of its own. The thread ends with
// the test, and the mounts with it; nothing that the test does may start
// another thread's work.
func mounted(t *testing.T, test func(m *machine)) {
	t.Helper()
	m := newMachine(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is thrown away
		m.must2(unix.Unshare(unix.CLONE_NEWNS))
		m.must2(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		root := m.root.Path("/")
		m.must2(unix.Mount(root, root, "", unix.MS_BIND, ""))
		m.must2(unix.Mount("", root, "", unix.MS_SHARED, "")) // as systemd makes it
		test(m)
	}()
	<-done
}

// must2 is must outside of the test's goroutine.
func (m *machine) must2(err error) {
	m.Helper()
	if err != nil {
		m.Error(err)
		runtime.Goexit()
	}
}

// options are those in force at a path, by statfs(2).
func (m *machine) options(path string) string {
	m.Helper()
	var st unix.Statfs_t
	m.must2(unix.Statfs(m.root.Path(path), &st))
	var f mountFlags
	for _, n := range flagNames() {
		if int64(st.Flags)&n.visible != 0 {
			f |= n.flag
		}
	}
	return f.String()
}

func (m *machine) wantOptions(want map[string]string) {
	m.Helper()
	for path, options := range want {
		if got := m.options(path); got != options {
			m.Errorf("%s has %q, want %q", path, got, options)
		}
	}
}

func (m *machine) tmpfs(path string) {
	m.Helper()
	m.mkdir(path)
	m.must2(unix.Mount("tmpfs", m.root.Path(path), "tmpfs", 0, "mode=0755"))
}

func (m *machine) remount(args ...string) result {
	m.Helper()
	return m.run(remountSecure, append([]string{"remount-secure"}, args...)...)
}

func TestAcceptance13_Level2(t *testing.T) {
	t.Parallel()
	mounted(t, func(m *machine) {
		for _, dir := range []string{"/boot", "/var/tmp", "/var/log", "/home", "/tmp", "/usr", "/opt", "/etc", "/root", "/dev/shm"} {
			m.mkdir(dir)
		}
		m.tmpfs("/boot/efi")
		m.write("/boot/efi/content", "x")
		m.file("/var/tmp/program", 0o755)
		m.tmpfs("/srv")
		m.must2(unix.Mount("", m.root.Path("/srv"), "", unix.MS_SHARED, ""))
		m.remount("2").want(m, 0).says(m, "INFO: level 2/3 (medium)", "INFO: exit_code: 0")
		if m.read("/boot/efi/content") != "x" {
			t.Error("what was in /boot/efi is covered")
		}
		m.wantOptions(map[string]string{
			"/var/tmp": "nosuid,nodev,noexec", "/var/log": "nosuid,nodev,noexec", "/var": "nosuid,nodev", "/home": "nosuid,nodev", "/root": "nosuid,nodev",
			"/boot": "nosuid,nodev,noexec", "/boot/efi": "nosuid,nodev,noexec", "/usr": "nodev", "/opt": "nosuid,nodev", "/etc": "nosuid,nodev",
			"/tmp": "nosuid,nodev,noexec", "/srv": "nosuid,nodev,noexec", "/dev": "nosuid,noexec", "/dev/shm": "nosuid,nodev,noexec",
		})
		fd, err := unix.Open(m.root.Path("/var/tmp/program"), unix.O_PATH, 0)
		m.must2(err)
		defer unix.Close(fd)
		if err := unix.Faccessat2(fd, "", unix.X_OK, unix.AT_EMPTY_PATH); err != unix.EACCES {
			t.Errorf("a program in /var/tmp may be run: %v", err)
		}
		table, err := os.ReadFile(mountTable)
		m.must2(err)
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); f[4] == m.root.Path("/srv") && !strings.Contains(line, " shared:") {
				t.Errorf("not shared any more: %s", line)
			}
		}
		before, err := os.ReadFile(mountTable)
		m.must2(err)
		m.remount("2").want(m, 0).says(m, "'/var' has already intended mount options")
		after, err := os.ReadFile(mountTable)
		m.must2(err)
		if string(before) != string(after) {
			t.Error("the second run changed mounts")
		}
	})
}

func TestAcceptance14_FailedBindAndArguments(t *testing.T) {
	t.Parallel()
	mounted(t, func(m *machine) {
		m.mkdir("/usr")
		m.mkdir("/opt")
		root := m.root.Path("/")
		m.must2(unix.Mount("", root, "", unix.MS_PRIVATE, ""))
		m.must2(unix.Mount("", root, "", unix.MS_UNBINDABLE, ""))
		m.remount("1").want(m, codeBind).says(m, "ERROR: '/usr'", "INFO: exit_code: 101")
		if m.root.Exists(statusName("/usr")) || m.root.Exists(statusName("/opt")) {
			t.Error("what failed counts as done")
		}
		m.must2(unix.Mount("", root, "", unix.MS_PRIVATE, ""))
		m.remount("1").want(m, 0)
		m.wantOptions(map[string]string{"/usr": "nodev", "/opt": "nosuid,nodev"})
		if !m.root.Exists(statusName("/usr")) {
			t.Error("no status file")
		}
	})
	mounted(t, func(m *machine) {
		for _, dir := range []string{"/home", "/dev/shm", "/tmp", "/var"} {
			m.mkdir(dir)
		}
		for _, args := range [][]string{{"4"}, {"3", "1"}, {""}, {"-1"}, {"--bogus"}} {
			m.remount(args...).want(m, 1)
		}
		m.write("/proc/cmdline", "quiet remountsecure=1 remountsecure=x\n")
		m.remount().want(m, 1).says(m, `kernel parameter remountsecure: "x" is no level`)
		if m.root.Exists(remountStatus) {
			t.Error("something was done")
		}
		m.write("/proc/cmdline", "quiet\n")
		m.remount().want(m, 0)
		m.wantOptions(map[string]string{"/home": "nosuid,nodev", "/run": "nosuid,nodev", "/dev/shm": "nosuid,nodev", "/tmp": "nosuid,nodev", "/var": ""})
	})
}

func TestAcceptance15_Disabled(t *testing.T) {
	t.Parallel()
	mounted(t, func(m *machine) {
		m.mkdir("/home")
		m.write("/etc/remount-disable", "")
		before, err := os.ReadFile(mountTable)
		m.must2(err)
		m.remount("3").want(m, 0).says(m, "INFO: file /etc/remount-disable exists. Doing nothing.")
		after, err := os.ReadFile(mountTable)
		m.must2(err)
		if string(before) != string(after) {
			t.Error("mounts have changed")
		}
	})
}

// TestRemountLevels: where the level comes from, and the files of 2020.
func TestRemountLevels(t *testing.T) {
	t.Parallel()
	mounted(t, func(m *machine) {
		m.mkdir("/home")
		m.mkdir("/var")
		m.write("/proc/cmdline", "remountsecure=2 remountsecure=1\n")
		m.runEnv(remountSecure, []string{"REMOUNT_SECURE_DEFAULT=3", "NEWROOT=/sysroot"}, "remount-secure").want(m, 0).says(m, "level 1/3")
		m.wantOptions(map[string]string{"/home": "nosuid,nodev"}) // NEWROOT counts in an initial RAM disk alone
		m.write("/proc/cmdline", "\n")
		m.runEnv(remountSecure, []string{"REMOUNT_SECURE_DEFAULT=3"}, "remount-secure", "--force").want(m, 0).says(m, "level 3/3")
		m.wantOptions(map[string]string{"/home": "nosuid,nodev,noexec"})
		m.remount("0").want(m, 0).says(m, "WARNING: Not using remount-secure.")
		m.write(initrdRelease, "")
		m.mkdir("/sysroot/home")
		m.runEnv(remountSecure, []string{"NEWROOT=/sysroot"}, "remount-secure", "3").want(m, 0)
		m.wantOptions(map[string]string{"/sysroot/home": "nosuid,nodev,noexec"})
		m.runEnv(remountSecure, []string{"NEWROOT=sysroot/.."}, "remount-secure", "3").want(m, 1)
	})
	mounted(t, func(m *machine) {
		m.mkdir("/home")
		m.mkdir("/tmp")
		m.write("/etc/noexec", "")
		m.remount().want(m, 0)
		m.wantOptions(map[string]string{"/home": "nosuid,nodev,noexec", "/tmp": "nosuid,nodev,noexec"})
	})
	mounted(t, func(m *machine) {
		m.mkdir("/home")
		m.write("/etc/noexec", "")
		m.write("/usr/local/etc/exec", "")
		m.remount().want(m, 0)
		m.wantOptions(map[string]string{"/home": "nosuid,nodev"})
		m.privileged = false
		m.remount("3").want(m, 1).says(m, "ERROR: must be run as root! sudo remount-secure")
	})
}

func TestRemountUndoAndPlan(t *testing.T) {
	t.Parallel()
	for _, old := range []bool{false, true} {
		mounted(t, func(m *machine) {
			for _, dir := range []string{"/home", "/var/log", "/var/tmp"} {
				m.mkdir(dir)
			}
			m.tmpfs("/srv")
			m.must2(unix.Mount("", m.root.Path("/srv"), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOATIME|unix.MS_NODEV, ""))
			m.write(mountTable, "26 1 0:22 / /srv rw,nodev,noatime shared:3 - tmpfs tmpfs rw\n")
			r := m.remount("--plan", "2").want(m, 0)
			for _, line := range []string{"/home /home none bind,nosuid,nodev 0 0\n", "tmpfs /srv tmpfs rw,nodev,noatime,nosuid,noexec 0 0\n"} {
				if !strings.Contains(r.out, line) {
					t.Errorf("no %q in\n%s", line, r.out)
				}
			}
			if m.root.Exists(remountStatus) {
				t.Error("--plan did something")
			}
			var out strings.Builder
			rem := &remounter{on: m.system, old: old, say: func(string, ...any) { out.WriteByte('.') }}
			if code := rem.apply(pointsOf(levelMedium, ""), false); code != 0 {
				t.Fatalf("code %d", code)
			}
			m.wantOptions(map[string]string{"/home": "nosuid,nodev", "/srv": "nosuid,nodev,noexec", "/var/tmp": "nosuid,nodev,noexec"})
			m.remount("--plan", "2").want(m, 0).says(m, "# /srv has nosuid,nodev,noexec")
			m.must2(rem.undo())
			m.wantOptions(map[string]string{"/home": "", "/srv": "nodev", "/var/tmp": "", "/var": ""})
			var st unix.Statfs_t
			m.must2(unix.Statfs(m.root.Path("/srv"), &st))
			if st.Flags&unix.ST_NOATIME == 0 {
				t.Error("noatime was lost")
			}
			m.remount("2").want(m, 0).says(m, "'/home' already remounted earlier")
			m.wantOptions(map[string]string{"/home": ""})
			m.remount("2", "--force").want(m, 0)
			m.wantOptions(map[string]string{"/home": "nosuid,nodev"})
		})
	}
}
