// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"whonix-networking/pkg/fsx"
)

func table(t testing.TB) []setting {
	t.Helper()
	all, err := settings()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestTable: a row for every active line of what is shipped for the kernel, and a
// shipped line for every row.
func TestTable(t *testing.T) {
	t.Parallel()
	root := fsx.Root(shipped(t, "security-misc"))
	want := map[string]string{} // kind and name: value
	for _, s := range table(t) {
		key := s.kind + " " + s.name
		if s.kind == kindModule && s.wanted == "blacklisted" {
			key = "blacklist " + s.name
		}
		if _, twice := want[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		want[key] = s.wanted
		if s.pkg == "security-misc" && (s.kind == kindSysctl || s.kind == kindCmdline || s.kind == kindModule || s.kind == kindLimit || s.kind == kindSystemd || s.kind == kindPAM || s.kind == kindApt) &&
			!strings.Contains(s.file, "aslr-mmap") && !strings.Contains(s.file, "panic-on-oops") {
			file := s.file
			if s.kind == kindPAM {
				file = "/usr/share/pam-configs/" + s.name + "-security-misc"
			}
			if file != s.file || !root.IsFile(file) {
				t.Errorf("%s: %s is not shipped", key, s.file)
			}
		}
	}
	for _, a := range readSysctlFiles(root) {
		key := "sysctl " + strings.Join(a.key, ".")
		if want[key] != a.value {
			t.Errorf("%s: %s = %q, in the table %q", a.source, key, a.value, want[key])
		}
	}
	c := readModuleConfig(root)
	n := 0
	for _, s := range table(t) {
		switch {
		case s.kind == kindModule && s.wanted == "blocked":
			n++
			if v := c.install[module(s.name)]; disabledClass(v.text) != s.purpose || !strings.HasPrefix(v.source, s.file+":") {
				t.Errorf("%s: %q of %s", s.name, v.text, v.source)
			}
		case s.kind == kindModule:
			if v := c.blacklist[module(s.name)]; !strings.HasPrefix(v.source, s.file+":") {
				t.Errorf("%s: not in %s", s.name, s.file)
			}
		}
	}
	if len(c.install) != n || len(c.blacklist) != 11 {
		t.Errorf("%d and %d modules in files, %d and 11 wanted", len(c.install), len(c.blacklist), n)
	}
}

// sysctlBounds are what puts our files, and the distribution's, in the place of
// the machine's.
func sysctlBounds(t *testing.T, root string) [][2]string {
	t.Helper()
	put(t, root+"/usr/lib/sysctl.d/99-protect-links.conf", "fs.protected_fifos = 1\nfs.protected_hardlinks = 1\nfs.protected_regular = 2\nfs.protected_symlinks = 1\n", 0o644)
	if err := os.MkdirAll(root+"/etc/sysctl.d", 0o755); err != nil {
		t.Fatal(err)
	}
	return [][2]string{{root + "/usr/lib/sysctl.d", "/usr/lib/sysctl.d"}, {root + "/etc/sysctl.d", "/etc/sysctl.d"}}
}

// lastValues reads KEY = VALUE lines, of which the last counts.
func lastValues(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "*") {
			continue
		}
		if key, value, ok := strings.Cut(strings.TrimPrefix(line, "-"), "="); ok {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return values
}

// TestAcceptance23_Sysctl: both programs that apply sysctl.d(5) end with our
// values, and with the administrator's where there are such (defect D-13).
func TestAcceptance23_Sysctl(t *testing.T) {
	t.Parallel()
	root := shipped(t, "security-misc")
	bound := sysctlBounds(t, root)
	check := func(admin string) {
		t.Helper()
		// Keys that this kernel lacks are complaints on standard error.
		procps, _ := space(t, true, bound, "sysctl --dry-run --system 2>/dev/null")
		systemd, err := space(t, true, bound, "/lib/systemd/systemd-sysctl --cat-config")
		if err != nil {
			t.Fatalf("%v\n%s", err, systemd)
		}
		for name, values := range map[string]map[string]string{"procps": lastValues(procps), "systemd": lastValues(systemd)} {
			for _, s := range table(t) {
				if s.kind != kindSysctl || strings.Contains(s.file, "aslr-mmap") || strings.Contains(s.file, "panic-on-oops") {
					continue
				}
				want := s.wanted
				if s.name == "kernel.kptr_restrict" && admin != "" {
					want = admin
				}
				key := s.name
				if name == "procps" { // which expands globs and knows what this kernel has
					matches, _ := filepath.Glob("/proc/sys/" + strings.ReplaceAll(strings.ReplaceAll(key, ".", "/"), "conf/*", "conf/lo"))
					if len(matches) == 0 || key == "net.core.bpf_jit_harden" { // which only the first network namespace has
						continue
					}
					key = strings.ReplaceAll(key, "conf.*", "conf.lo")
				}
				if values[key] != want {
					t.Errorf("%s: %s is %q, want %q", name, key, values[key], want)
				}
			}
		}
	}
	check("")
	put(t, root+"/etc/sysctl.d/99-admin.conf", "kernel.kptr_restrict=0\n", 0o644)
	check("0")
}

// TestSysctlInForce: in a network namespace all keys of the network are set, and
// the check says by which line.
func TestSysctlInForce(t *testing.T) {
	t.Parallel()
	bound := sysctlBounds(t, shipped(t, "security-misc"))
	out, _ := space(t, true, bound, `/lib/systemd/systemd-sysctl --prefix=/net/ipv4 --prefix=/net/ipv6 >&2 && "$1" --kind sysctl --json 2>/dev/null`, built(t, "security-misc-check"))
	var rows []struct{ Name, State, Source, Actual string }
	begin := strings.Index(out, "[")
	if begin < 0 {
		t.Fatalf("%s", out)
	}
	if err := json.Unmarshal([]byte(out[begin:]), &rows); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n := 0
	for _, r := range rows {
		if !strings.HasPrefix(r.Name, "net.ipv") {
			continue
		}
		n++
		if r.State != "ok" || !strings.HasPrefix(r.Source, "/usr/lib/sysctl.d/98-security-misc.conf:") {
			t.Errorf("%+v", r)
		}
	}
	if n < 20 {
		t.Errorf("%d keys of the network", n)
	}
}

// TestModprobe: modprobe(8) itself reads every line, and what it would run in the
// place of a module fails, and says why.
func TestModprobe(t *testing.T) {
	t.Parallel()
	root := shipped(t, "security-misc")
	out := must(t, "modprobe", "-C", root+"/etc/modprobe.d", "--showconfig")
	lines := strings.Split(out, "\n")
	for _, s := range table(t) {
		line := ""
		switch {
		case s.kind == kindModule && s.wanted == "blocked":
			line = "install " + module(s.name) + " /usr/bin/disabled-" + s.purpose + "-by-security-misc"
		case s.kind == kindModule:
			line = "blacklist " + module(s.name)
		case s.kind == kindOption:
			line = "options " + s.name + " " + s.wanted
		default:
			continue
		}
		if !slices.Contains(lines, line) {
			t.Errorf("modprobe does not know %q", line)
		}
	}
	link := filepath.Join(t.TempDir(), "disabled-cdrom-by-security-misc")
	if err := os.Symlink(built(t, "disabled-by-security-misc"), link); err != nil {
		t.Fatal(err)
	}
	msg, err := exec.Command(link, "a\x1b[2Jb").CombinedOutput()
	if err == nil || !strings.Contains(string(msg), "ALERT: This CD-ROM/DVD kernel module is disabled by package security-misc-shared by default.") ||
		!strings.HasSuffix(string(msg), "| args: a?[2Jb\n") {
		t.Errorf("%v %q", err, msg)
	}
}

// TestClassesAllInstalled: each class in the configuration has its program.
func TestClassesAllInstalled(t *testing.T) {
	t.Parallel()
	list := get(t, top+"/scripts/packages/security-misc/files")
	for class := range disabledClasses() {
		if !strings.Contains(list, " /usr/bin/disabled-"+class+"-by-security-misc\n") {
			t.Errorf("there is no program for %s", class)
		}
	}
}

// grub sources all fragments, in order, as grub-mkconfig does, by a shell without
// any other program.
func grub(t *testing.T, root, before string) (linux, linuxDefault []string) {
	t.Helper()
	script := before + `
for f in "$1"/*.cfg; do . "$f"; done
echo "$GRUB_CMDLINE_LINUX"
echo "$GRUB_CMDLINE_LINUX_DEFAULT"
echo "$GRUB_DISABLE_RECOVERY"`
	cmd := exec.Command("/bin/dash", "-e", "-c", script, "dash", root+"/etc/default/grub.d")
	cmd.Env = []string{"PATH="}
	out, err := cmd.CombinedOutput()
	lines := strings.Split(string(out), "\n")
	if err != nil || len(lines) != 4 || lines[2] != "true" {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Fields(lines[0]), strings.Fields(lines[1])
}

// TestAcceptance24_Grub (defect D-14).
func TestAcceptance24_Grub(t *testing.T) {
	t.Parallel()
	root := shipped(t, "security-misc")
	var want, wantDefault []string
	for _, s := range table(t) {
		if s.kind != kindCmdline {
			continue
		}
		word := s.name
		if s.wanted != "present" {
			word += "=" + s.wanted
		}
		if strings.Contains(s.file, "/41_") {
			wantDefault = append(wantDefault, word)
		} else {
			want = append(want, word)
		}
	}
	linux, linuxDefault := grub(t, root, `GRUB_CMDLINE_LINUX=""; GRUB_CMDLINE_LINUX_DEFAULT="quiet plymouth.quietmode=1"`)
	if !slices.Equal(linux, want) || linux[0] != "mitigations=auto,nosmt" {
		t.Errorf("%q\nwant %q", linux, want)
	}
	if want := append([]string{"plymouth.quietmode=1"}, wantDefault...); !slices.Equal(linuxDefault, want) {
		t.Errorf("%q, want %q", linuxDefault, want)
	}
	// What was there stays, a pattern is none, and twice is once.
	linux, linuxDefault = grub(t, root, `GRUB_CMDLINE_LINUX="net.ifnames=0"; GRUB_CMDLINE_LINUX_DEFAULT="quiet a=/* quiet=no loglevel=7"; . "$1/41_quiet_boot.cfg"`)
	if linux[0] != "net.ifnames=0" || !slices.Equal(linuxDefault, append([]string{"a=/*", "quiet=no"}, wantDefault...)) {
		t.Errorf("%q %q", linux[0], linuxDefault)
	}
}
