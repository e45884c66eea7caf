// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// units are those of the programs here.
func units() []string {
	return []string{"hide-hardware-info.service", "panic-on-oops.service", "permission-hardener.service", "proc-hidepid.service", "remount-secure.service", "remove-system-map.service", "sysinit-post.target"}
}

// unitRoot is a directory in which systemd's tools find the units, and what they
// start.
func unitRoot(m *machine) {
	m.Helper()
	const dir = "/usr/lib/systemd/system/"
	for _, u := range units() {
		data, err := os.ReadFile(top + "/systemd/system/" + u)
		m.must(err)
		m.write(dir+u, string(data))
		for line := range strings.Lines(string(data)) {
			if command, ok := strings.CutPrefix(line, "ExecStart="); ok {
				m.file(strings.Fields(command)[0], 0o755)
			}
		}
	}
	for _, target := range []string{"sysinit.target", "basic.target", "local-fs.target", "multi-user.target", "graphical.target", "getty.target", "getty-pre.target", "network-pre.target", "shutdown.target", "sockets.target"} {
		m.write(dir+target, "[Unit]\n")
	}
}

// TestUnits: systemd accepts them all.
func TestUnits(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	unitRoot(m)
	out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--root=" + string(m.root)}, units()...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	for _, u := range units() {
		if !strings.HasSuffix(u, ".service") {
			continue
		}
		// What has to act on the machine's own mounts has no namespace of its own.
		text := m.read("/usr/lib/systemd/system/" + u)
		private := slices.ContainsFunc([]string{"Private", "Protect", "ReadOnly", "ReadWrite", "Inaccessible", "TemporaryFileSystem", "Bind"}, func(s string) bool { return strings.Contains(text, "\n"+s) })
		if private && u != "permission-hardener.service" && u != "panic-on-oops.service" {
			t.Errorf("%s makes a mount namespace", u)
		}
	}
}

// TestPresets: what is on and what is an administrator's choice.
func TestPresets(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	unitRoot(m)
	m.mkdir("/usr/lib/systemd/system-preset")
	data, err := os.ReadFile(top + "/systemd/system-preset/50-security-misc.preset")
	m.must(err)
	m.write("/usr/lib/systemd/system-preset/50-security-misc.preset", string(data))
	for _, u := range units() {
		if out, err := exec.Command("systemctl", "--root="+string(m.root), "preset", u).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", u, err, out)
		}
	}
	links, err := filepath.Glob(m.root.Path("/etc/systemd/system/*/*"))
	m.must(err)
	for i, l := range links {
		links[i] = strings.TrimPrefix(l, m.root.Path("/etc/systemd/system/"))
	}
	want := []string{"basic.target.wants/sysinit-post.target", "multi-user.target.wants/panic-on-oops.service", "sysinit.target.wants/remove-system-map.service"}
	for i := range links {
		links[i] = strings.TrimPrefix(links[i], "/")
	}
	if !slices.Equal(links, want) {
		t.Errorf("enabled: %q, want %q", links, want)
	}
}

// TestGenerator: groups are given only where they exist and are needed (D-29).
func TestGenerator(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	out := t.TempDir()
	generator := func() []string {
		t.Helper()
		m.run(hideHardwareInfo, "/usr/lib/systemd/system-generators/"+generatorName, out, out, out).want(m, 0)
		found, err := filepath.Glob(out + "/*/*")
		m.must(err)
		for i, f := range found {
			found[i] = strings.TrimPrefix(f, out+"/")
		}
		return found
	}
	if found := generator(); len(found) > 0 {
		t.Errorf("nothing is enabled: %q", found)
	}
	m.link("/usr/lib/systemd/system/hide-hardware-info.service", "/etc/systemd/system/sysinit.target.wants/hide-hardware-info.service")
	m.link("/usr/lib/systemd/system/proc-hidepid.service", "/etc/systemd/system/sysinit.target.wants/proc-hidepid.service")
	m.write("/etc/group", "root:x:0:\nsysfs:x:900:\n")
	if found := generator(); !slices.Equal(found, []string{"user@.service.d/" + dropInName}) {
		t.Errorf("without the group proc: %q", found)
	}
	m.write("/etc/group", "proc:x:902:\n")
	m.must(os.RemoveAll(out + "/user@.service.d"))
	if found := generator(); !slices.Equal(found, []string{"polkit.service.d/" + dropInName, "systemd-logind.service.d/" + dropInName}) {
		t.Errorf("with it alone: %q", found)
	}
	text, err := os.ReadFile(out + "/polkit.service.d/" + dropInName)
	if err != nil || !strings.Contains(string(text), "\nSupplementaryGroups=proc\n") {
		t.Errorf("%q, %v", text, err)
	}
	unit, err := os.ReadFile(top + "/systemd/system/proc-hidepid.service")
	m.must(err)
	for _, service := range []string{"polkit", "systemd-logind"} {
		if condition := "\nConditionPathExists=/run/systemd/generator/" + service + ".service.d/" + dropInName + "\n"; !strings.Contains(string(unit), condition) {
			t.Errorf("proc-hidepid.service lacks %q", condition)
		}
	}
}

// TestToggles: a file switches a unit on, and its drop-ins with it.
func TestToggles(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	unitRoot(m)
	out := t.TempDir()
	for _, name := range []string{"hidepid", "noexec", "hardware", "unknown"} {
		m.write(toggleDir+"/"+name, "")
	}
	for range 2 { // again, as at a reload into the same folder
		m.run(hideHardwareInfo, "/usr/lib/systemd/system-generators/"+generatorName, out, out, out).want(m, 0)
	}
	found, err := filepath.Glob(out + "/*/*")
	m.must(err)
	for i, f := range found {
		found[i] = strings.TrimPrefix(f, out+"/")
		if target, err := os.Readlink(f); err == nil && !m.root.IsFile(target) {
			t.Errorf("%s leads to %s", found[i], target)
		}
	}
	want := []string{"polkit.service.d/" + dropInName, "sysinit-post.target.wants/remount-secure.service", "sysinit.target.wants/hide-hardware-info.service", "sysinit.target.wants/proc-hidepid.service", "systemd-logind.service.d/" + dropInName, "user@.service.d/" + dropInName}
	if !slices.Equal(found, want) {
		t.Errorf("%q, want %q", found, want)
	}
	// What a toggle does is what enabling the unit would do.
	for _, toggle := range toggles() {
		data, err := os.ReadFile(top + "/systemd/system/" + toggle.unit)
		m.must(err)
		if !strings.Contains(string(data), "\nWantedBy="+toggle.target+"\n") {
			t.Errorf("%s is not wanted by %s", toggle.unit, toggle.target)
		}
	}
}

// TestGroups: systemd makes them.
func TestGroups(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("/etc/group", "root:x:0:\n")
	data, err := os.ReadFile(top + "/systemd/sysusers.d/security-misc-hardening.conf")
	m.must(err)
	m.write("/usr/lib/sysusers.d/security-misc-hardening.conf", string(data))
	if out, err := exec.Command("systemd-sysusers", "--root="+string(m.root)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, group := range []string{"sysfs", "cpuinfo", "proc"} {
		if !strings.Contains(m.read("/etc/group"), "\n"+group+":") {
			t.Errorf("no group %s", group)
		}
	}
}
