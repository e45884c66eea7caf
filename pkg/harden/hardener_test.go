// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"whonix-networking/pkg/cli"
)

const (
	vendorRules = "/usr/lib/permission-hardener.d/30_default.conf"
	userRules   = "/etc/permission-hardener.d/20_user.conf"
)

func (m *machine) hardener(args ...string) result {
	m.Helper()
	return m.run(permissionHardener, append([]string{"permission-hardener"}, args...)...)
}

func (m *machine) overrides() string {
	m.Helper()
	data, err := m.root.ReadFile(dpkgDatabase+overrideFile, textMax)
	if err != nil && !os.IsNotExist(err) {
		m.Fatal(err)
	}
	return string(data)
}

func TestAcceptance01_StripAndRestore(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(userRules, "/opt/t nosuid\n")
	m.file("/opt/t/prog", 0o4755)
	m.hardener("enable").want(m, 0).says(m, "permission-hardener [NOTICE]: Executing: dpkg-statoverride --add --update root root 744 /opt/t/prog\n")
	m.wantModes(map[string]uint32{"/opt/t/prog": 0o744})
	if got := m.overrides(); got != "root root 744 /opt/t/prog\n" {
		t.Errorf("overrides: %q", got)
	}
	if got := m.read(existingDir + overrideFile); got != "root root 4755 /opt/t/prog\n" {
		t.Errorf("existing_mode: %q", got)
	}
	before := m.snapshot("/var") + m.snapshot("/opt")
	if r := m.hardener("enable").want(m, 0); r.out+r.err != "" {
		t.Errorf("the second run says %s%s", r.out, r.err)
	}
	if after := m.snapshot("/var") + m.snapshot("/opt"); after != before {
		t.Errorf("the second run changed something:\n%s\n%s", before, after)
	}
	m.hardener("disable", "all").want(m, 0)
	m.wantModes(map[string]uint32{"/opt/t/prog": 0o4755})
	if got := m.overrides(); got != "" {
		t.Errorf("overrides left: %q", got)
	}
	if got := m.read(existingDir + overrideFile); got != "root root 4755 /opt/t/prog\n" {
		t.Errorf("existing_mode after disable: %q", got)
	}
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/opt/t/prog": 0o744})
}

func TestAcceptance02_NeverWidened(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(userRules, "/opt/t nosuid\n")
	m.file("/opt/t/prog", 0o4710)
	m.file("/opt/t/quiet", 0o2711)
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/opt/t/prog": 0o700, "/opt/t/quiet": 0o700})
	// What the administrator takes away meanwhile stays away.
	m.chmod("/opt/t/prog", 0o600)
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/opt/t/prog": 0o600})
}

// TestAcceptance03_BitDoesNotComeBack is defect D-2 too.
func TestAcceptance03_BitDoesNotComeBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/usr/bin/f", 0o755)
	m.write(userRules, "/usr/bin nosuid\n/usr/bin/f exactwhitelist\n")
	m.write(existingDir+overrideFile, "root root 4755 /usr/bin/f\n")
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/f": 0o755})

	// We stripped it, then somebody took more, then a whitelist came.
	m.file("/usr/bin/g", 0o4755)
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/g": 0o744})
	m.chmod("/usr/bin/g", 0o700)
	m.write(userRules, "/usr/bin nosuid\n/usr/bin/g exactwhitelist\n")
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/g": 0o700})
	if got := m.overrides(); got != "" {
		t.Errorf("overrides left: %q", got)
	}
}

// TestRuleGone: what only a rule had changed comes back when the rule goes.
func TestRuleGone(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/usr/bin/g", 0o4755)
	m.write(userRules, "/usr/bin nosuid\n")
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/g": 0o744})
	m.write(userRules, "/usr/bin nosuid\n/g matchwhitelist\n")
	m.hardener("enable").want(m, 0).says(m, "Restoring: root root 4755 /usr/bin/g", "dpkg-statoverride --remove /usr/bin/g")
	m.wantModes(map[string]uint32{"/usr/bin/g": 0o4755})
}

func TestAcceptance04_Whitelists(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	shipped(m)
	for _, f := range []string{"/usr/bin/sudo", "/usr/bin/fusermount3", "/usr/bin/newgrp"} {
		m.file(f, 0o4755)
	}
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/sudo": 0o4755, "/usr/bin/fusermount3": 0o4755, "/usr/bin/newgrp": 0o744})
	m.write(userRules, "/fusermount disablewhitelist\n") // D-4
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/sudo": 0o4755, "/usr/bin/fusermount3": 0o744})
	m.write(userRules, "whitelists_disable_all=true\n") // D-3
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/sudo": 0o744, "/usr/bin/fusermount3": 0o744})
}

// shipped installs the policy of the package.
func shipped(m *machine) {
	m.Helper()
	const dir = "/usr/lib/permission-hardener.d"
	m.mkdir(dir)
	m.must(os.CopyFS(m.root.Path(dir), os.DirFS(top+"/scripts/security-misc/permission-hardener.d")))
}

func TestAcceptance05_ErrorsDoNotDisarm(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	shipped(m)
	m.file("/usr/bin/newgrp", 0o4755)
	m.write(userRules, "/usr/bin/foo exactwhitelist\n/usr/bin/x whitelist\n")
	m.hardener("enable").want(m, 200).says(m, `/etc/permission-hardener.d/20_user.conf:2: "whitelist": unknown keyword`, "Exiting with non-zero exit code: '200'")
	m.wantModes(map[string]uint32{"/usr/bin/newgrp": 0o744})

	m.must(os.Remove(m.root.Path(userRules)))
	m.file("/usr/bin/a", 0o4755)
	m.file("/usr/bin/z", 0o4755)
	m.file("/usr/bin/m", 0o4755)
	m.must(os.Link(m.root.Path("/usr/bin/m"), m.root.Path("/usr/bin/n")))
	m.hardener("enable").want(m, 203).says(m, "'/usr/bin/m' has 2 hard links")
	m.wantModes(map[string]uint32{"/usr/bin/a": 0o744, "/usr/bin/z": 0o744, "/usr/bin/m": 0o4755})
}

func TestAcceptance06_BlanksAndPrinting(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(userRules, "/opt nosuid\n")
	const name = "/opt/a program/su it"
	m.file(name, 0o4755)
	before := m.snapshot("/var")
	for _, action := range []string{"print-policy", "print-state", "print-policy-applied-state", "print-diagnostics"} {
		m.hardener(action).want(m, 0)
	}
	m.hardener("explain", name).want(m, 0).says(m, userRules+":1: /opt nosuid", "root root 744")
	m.hardener("enable", "--dry-run").want(m, 0).says(m, "1 files would change")
	if m.snapshot("/var") != before {
		t.Error("printing changed something below /var")
	}
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{name: 0o744})
	m.hardener("disable", "all").want(m, 0)
	m.wantModes(map[string]uint32{name: 0o4755})
}

func TestAcceptance07_Capabilities(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	const name = "/usr/bin/ping"
	m.file(name, 0o755)
	m.write(userRules, name+" 0755 root root none\n")
	raw, err := granted("cap_net_raw")
	m.must(err)
	m.setCaps(name, raw)
	m.hardener("enable").want(m, 0).says(m, "Executing: setcap -r "+name)
	if got := m.caps(name); got != noFileCapability {
		t.Errorf("after enable: %s", got)
	}
	if got := m.read(capsFile); got != name+" cap_net_raw=ep\n" {
		t.Errorf("recorded: %q", got)
	}
	m.hardener("disable", name).want(m, 0)
	if got := m.caps(name); got != "cap_net_raw=ep" {
		t.Errorf("after disable: %s", got)
	}
	// Granting works (D-7), and is taken back.
	m.write(userRules, name+" 0755 root root cap_net_admin\n")
	m.hardener("enable").want(m, 0)
	if got := m.caps(name); got != "cap_net_admin=ep" {
		t.Errorf("granted: %s", got)
	}
	m.write(userRules, "")
	m.hardener("enable").want(m, 0)
	if got := m.caps(name); got != "cap_net_raw=ep" {
		t.Errorf("taken back: %s", got)
	}
}

func (m *machine) setCaps(path string, c fileCaps) {
	m.Helper()
	p, err := m.root.Pin(path)
	m.must(err)
	defer p.Close()
	m.must(p.SetAttribute(capabilityAttribute, c.encode()))
}

func (m *machine) caps(path string) string {
	m.Helper()
	p, err := m.root.Pin(path)
	m.must(err)
	defer p.Close()
	value, err := p.Attribute(capabilityAttribute)
	m.must(err)
	c, err := decodeCaps(value)
	m.must(err)
	return c.String()
}

// TestDefect01: without any whitelist, nothing is whitelisted; a text that
// every path contains is refused.
func TestDefect01(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/opt/x", 0o4755)
	m.write(userRules, "/opt nosuid\n")
	m.write("/etc/permission-hardener.d/21_all.conf", "/ matchwhitelist\n")
	m.hardener("enable").want(m, 200).says(m, "21_all.conf:1:", "must not be empty")
	m.wantModes(map[string]uint32{"/opt/x": 0o744})
}

// TestDefect06: what the original misread or took for something else.
func TestDefect06(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line string
		bad  string // empty: it is good
	}{
		{"/opt\tnosuid", ""}, {" /opt/  nosuid ", ""}, {`/opt/a\040b 0755 root root`, ""}, {"/x 0000 root root none", ""}, {"/x 755 root root cap_net_raw", ""}, {"/ nosuid", ""},
		{"/usr/lib/x86_64-linux-gnu/a+b:c,d@e=f~g%h nosuid", ""},
		{"/x whitelist", "unknown keyword"}, {"opt nosuid", "must begin with a slash"}, {"/opt/../etc 0755 root root", `component ".."`}, {"/opt/./x nosuid", `component "."`},
		{"/x 75 root root", "octal digits"}, {"/x 07555 root root", "octal digits"}, {"/x 788 root root", "octal digits"}, {"/x +755 root root", "octal digits"},
		{"/x 0755 root root cap_all", "no such capability"}, {"/x 0755 root", "3 words"}, {"/x", "1 words"}, {"/x 0755 root root none more", "6 words"},
		{"/ matchwhitelist", "must not be empty"}, {"/x;y nosuid", "not allowed"}, {"/x nosuid # comment", "not allowed"}, {`/x\ nosuid`, "three octal digits"}, {`/x\012y nosuid`, "no character"},
		{`/x\000y nosuid`, "no character"}, {"/\xff nosuid", `write it as \377`}, {"whitelists_disable_all=yes", "1 words"}, {"/x nosuid\r", "not allowed"}, {"\x00 nosuid", "not allowed"},
	} {
		rules, wrong := parseRules("/f", []byte("# c\n\n"+c.line)) // no newline at the end
		switch {
		case c.bad == "" && (len(rules) != 1 || len(wrong) != 0):
			t.Errorf("%q: %v %v", c.line, rules, wrong)
		case c.bad != "" && (len(wrong) != 1 || !strings.Contains(wrong[0].text, c.bad) || wrong[0].at.String() != "/f:3"):
			t.Errorf("%q: %v, want %q", c.line, wrong, c.bad)
		}
	}
}

// TestDefect06MergedUsr: a path through a link is the one that it leads to.
func TestDefect06MergedUsr(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/usr/bin/x", 0o4755)
	m.file("/usr/bin/y", 0o4755)
	m.file("/usr/bin/z", 0o755)
	m.link("usr/bin", "/bin")
	m.write(userRules, "/bin nosuid\n/bin/x exactwhitelist\n/bin/z 0700 root root\n/usr/bin/z 0000 root root\n")
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/x": 0o4755, "/usr/bin/y": 0o744, "/usr/bin/z": 0})
	m.hardener("disable", "/bin/y").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/y": 0o4755})
	m.hardener("disable", "/usr/bin/none").want(m, 0).says(m, "is not hardened")
}

// TestDefect06UnknownOwner: the rest is applied.
func TestDefect06UnknownOwner(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/opt/a", 0o755)
	m.file("/opt/b", 0o755)
	m.file("/opt/c", 0o755)
	m.write(userRules, "/opt/a 0700 nobodyknows root\n/opt/b 0700 root nogroup\n/opt/c 0700 root shadow\n")
	m.hardener("enable").want(m, 203).says(m, userRules+":1: '/opt/a' is skipped: owner does not exist: 'nobodyknows'", ":2: '/opt/b' is skipped: group does not exist: 'nogroup'")
	m.wantModes(map[string]uint32{"/opt/a": 0o755, "/opt/b": 0o755, "/opt/c": 0o700})
}

// TestDefect07: an override of the administrator's comes back; a file that
// conforms gets one too.
func TestDefect07(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/opt/a", 0o4711)
	m.file("/opt/b", 0o700)
	m.write(userRules, "/opt nosuid\n/opt/b 0700 root root\n")
	m.write(dpkgDatabase+overrideFile, "root root 4711 /opt/a\nroot root 600 /other\n")
	m.hardener("enable").want(m, 0)
	for _, line := range []string{"root root 700 /opt/a\n", "root root 700 /opt/b\n", "root root 600 /other\n"} {
		if !strings.Contains(m.overrides(), line) {
			t.Errorf("no %q in %q", line, m.overrides())
		}
	}
	if got := m.read(adminDir + overrideFile); got != "root root 4711 /opt/a\n" {
		t.Errorf("admin_override: %q", got)
	}
	m.hardener("disable", "all").want(m, 0)
	lines := strings.Split(strings.TrimSpace(m.overrides()), "\n")
	slices.Sort(lines)
	if got := strings.Join(lines, "|"); got != "root root 4711 /opt/a|root root 600 /other" {
		t.Errorf("after disable: %q", got)
	}
	m.wantModes(map[string]uint32{"/opt/a": 0o4711})
}

func TestHostileNames(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(userRules, "/opt nosuid\n")
	names := []string{"/opt/-rf", "/opt/tab\there", "/opt/" + strings.Repeat("x", 255), "/opt/\xff\xfe", "/opt/trailing ", "/opt/ü", "/opt/a\\b", "/opt/'quote\"", "/opt/\x1b[31mred"}
	want, restored := map[string]uint32{}, map[string]uint32{}
	for _, n := range names {
		m.file(n, 0o4755)
		want[n], restored[n] = 0o744, 0o4755
	}
	m.hardener("enable").want(m, 0)
	m.wantModes(want)
	if r := m.hardener("print-state").want(m, 0); strings.Contains(r.out, "\x1b") || !strings.Contains(r.out, `/opt/tab\011here`) || strings.Count(r.out, "\n") != len(names)+1 {
		t.Errorf("printed: %q", r.out)
	}
	m.hardener("disable", "all").want(m, 0)
	m.wantModes(restored)

	// A newline cannot be recorded; the bit goes all the same.
	m.file("/opt/new\nline", 0o4755)
	m.hardener("enable").want(m, 203).says(m, `'/opt/new\012line' has a newline in its name: mode 4755 becomes 744`)
	m.wantModes(map[string]uint32{"/opt/new\nline": 0o744})
	if strings.Contains(m.overrides()+m.read(existingDir+overrideFile), "new") {
		t.Error("a name with a newline was recorded")
	}
	m.hardener("enable").want(m, 0)
}

// TestLinksOfOthers: what a user can redirect is not followed.
func TestLinksOfOthers(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/etc/victim", 0o644)
	m.link("/etc/victim", "/home/user/f")
	m.must(os.Chown(m.root.Path("/home/user"), 1000, 1000))
	m.write(userRules, "/home/user/f 0777 root root\n")
	m.hardener("enable").want(m, 200).says(m, userRules+":1:", "/home/user can be changed by the account 1000")
	m.wantModes(map[string]uint32{"/etc/victim": 0o644})
}

// TestNoGiftToOthers: no rights for a file that others can put another one in
// the place of.
func TestNoGiftToOthers(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/opt/his/f", 0o755)
	m.file("/opt/his/g", 0o4755)
	m.must(os.Chown(m.root.Path("/opt/his"), 1000, 1000))
	m.write(userRules, "/opt/his/f 4755 root root\n/opt/his nosuid\n/opt/his/f exactwhitelist\n")
	m.hardener("enable").want(m, 203).says(m, "'/opt/his/f' would get rights where others can put a file")
	m.wantModes(map[string]uint32{"/opt/his/f": 0o755, "/opt/his/g": 0o744})
	m.hardener("disable", "all").want(m, 203).says(m, "'/opt/his/g' is not restored")
	m.wantModes(map[string]uint32{"/opt/his/g": 0o744})
}

func TestImport(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/opt/x", 0o744)
	m.write("/var/lib/permission-hardening/existing_mode/statoverride", "root root 4755 /opt/x\n")
	m.write("/var/lib/permission-hardening/new_mode/statoverride", "root root 744 /opt/x\n")
	m.write(dpkgDatabase+overrideFile, "root root 744 /opt/x\n")
	m.write(userRules, "/opt nosuid\n")
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/opt/x": 0o744})
	m.run(permissionHardener, "/usr/lib/security-misc/permission-hardening-undo").want(m, 0)
	m.wantModes(map[string]uint32{"/opt/x": 0o4755})
	if m.overrides() != "" {
		t.Errorf("left: %q", m.overrides())
	}
	m.run(permissionHardener, "/usr/lib/security-misc/permission-hardening").want(m, 0)
	m.wantModes(map[string]uint32{"/opt/x": 0o744})
}

// TestDamagedMemory: nothing is done, nothing is lost.
func TestDamagedMemory(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/opt/x", 0o4755)
	m.write(userRules, "/opt nosuid\n")
	m.write(existingDir+overrideFile, "root root 4755 /opt/y\nnonsense\n")
	before := m.snapshot("/")
	m.hardener("enable").want(m, 203).says(m, existingDir+overrideFile+":2:")
	_ = os.Remove(m.root.Path(hardenerLock))
	if after := m.snapshot("/opt") + m.snapshot("/var"); !strings.Contains(before, m.snapshot("/opt")) || strings.Count(after, "4755") == 0 {
		t.Error("something was changed")
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, args := range [][]string{nil, {"bogus"}, {"disable"}, {"disable", ""}, {"enable", "x"}, {"enable", "--json"}, {"--dry-run", "print-state"}, {"--nonsense"}, {"explain"}} {
		r := m.hardener(args...).want(m, 1)
		if !strings.Contains(r.err, "usage: permission-hardener enable") || r.out != "" {
			t.Errorf("%q: %q %q", args, r.out, r.err)
		}
	}
	if r := m.hardener("--help").want(m, 0); !strings.HasPrefix(r.err, "usage: permission-hardener enable") {
		t.Errorf("%q", r.err)
	}
	m.privileged = false
	m.hardener("enable").want(m, 1).says(m, "permission-hardener [ERROR]: Not running as root, aborting.")
}

func TestJSON(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.file("/opt/x", 0o4755)
	m.write(userRules, "/opt nosuid\n/opt 0750 root user\n")
	var rows []row
	m.must(json.Unmarshal([]byte(m.hardener("print-policy", "--json").want(m, 0).out), &rows))
	want := []row{{"/opt", "root", "user", "0750", "", userRules + ":2"}, {"/opt/x", "root", "root", "744", "", userRules + ":1"}}
	if fmt.Sprint(rows) != fmt.Sprint(want) {
		t.Errorf("%v", rows)
	}
	var steps []planned
	m.must(json.Unmarshal([]byte(m.hardener("enable", "--dry-run", "--json").want(m, 0).out), &steps))
	if len(steps) != 2 || steps[1].From != "root root 4755" || steps[1].To != "root root 744" {
		t.Errorf("%v", steps)
	}
	m.wantModes(map[string]uint32{"/opt/x": 0o4755})
}

// TestInterrupted: a run that ends half way has lost nothing, and the next one
// does the rest.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(userRules, "/opt nosuid\n")
	m.file("/opt/x", 0o4755)
	cancelled := func(ctx context.Context, env cli.Env, on system) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return permissionHardener(ctx, env, on)
	}
	m.must(os.WriteFile(m.root.Path(hardenerLock), nil, 0o600))
	m.run(cancelled, "permission-hardener", "enable").want(m, 203).says(m, "interrupted before '/opt/x'")
	m.wantModes(map[string]uint32{"/opt/x": 0o4755})

	// Killed after it was remembered, before the file was touched.
	m.write(existingDir+overrideFile, "root root 4755 /opt/x\n")
	m.write(appliedDir+overrideFile, "root root 744 /opt/x\n")
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/opt/x": 0o744})
	if got := m.overrides(); got != "root root 744 /opt/x\n" {
		t.Errorf("overrides: %q", got)
	}

	// Nor does an interrupted disable forget what is still to be restored.
	m.run(cancelled, "permission-hardener", "disable", "all").want(m, 203)
	m.hardener("disable", "all").want(m, 0)
	m.wantModes(map[string]uint32{"/opt/x": 0o4755})
	if got := m.overrides(); got != "" {
		t.Errorf("overrides left: %q", got)
	}
}

// TestLaterBit: a bit that a package sets after us is what disable restores.
func TestLaterBit(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(userRules, "/usr/bin/x 0755 root root\n")
	m.file("/usr/bin/x", 0o755)
	m.hardener("enable").want(m, 0)
	m.chmod("/usr/bin/x", 0o4755) // its postinst
	m.hardener("enable").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/x": 0o755})
	m.hardener("disable", "/usr/bin/x").want(m, 0)
	m.wantModes(map[string]uint32{"/usr/bin/x": 0o4755})
}
