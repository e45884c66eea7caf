// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/whonix"
)

// The tests of this file hold the shipped files against the tools that read
// them.

const top = "../.."

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// shippedValues are the active lines of the contract, section 4.1.
func shippedValues() map[string]string {
	return map[string]string{
		"gateway": `GATEWAY_ALLOW_INCOMING_RELATED_STATE=0 GATEWAY_ALLOW_INCOMING_FLASHPROXY=0 FLASHPROXY_PORT=9000
			WORKSTATION_TRANSPARENT_TCP=1 WORKSTATION_TRANSPARENT_UDP=0 WORKSTATION_TRANSPARENT_DNS=1
			WORKSTATION_ALLOW_SOCKSIFIED=1 CONTROL_PORT_FILTER_PROXY_ENABLE=1 GATEWAY_ALLOW_INCOMING_DIR_PORT=0
			GATEWAY_ALLOW_INCOMING_OR_PORT=0 DIR_PORT=80 OR_PORT=443 GATEWAY_TRANSPARENT_TCP=0 GATEWAY_TRANSPARENT_UDP=0
			GATEWAY_TRANSPARENT_DNS=0 ALLOW_GATEWAY_ROOT_USER=0 ALLOW_GATEWAY_USER_USER=0 GATEWAY_ALLOW_INCOMING_SSH=0
			NO_REJECT_INVALID_OUTGOING_PACKAGES=0 GATEWAY_ALLOW_INCOMING_ICMP=0 GATEWAY_ALLOW_INCOMING_ICMP_FRAG_NEEDED=1
			firewall_mode=full`,
		"workstation": `NO_REJECT_INVALID_OUTGOING_PACKAGES=0 firewall_mode=full`,
		"host": `GATEWAY_ALLOW_INCOMING_SSH=0 NO_REJECT_INVALID_OUTGOING_PACKAGES=0 GATEWAY_ALLOW_INCOMING_ICMP=0
			GATEWAY_ALLOW_INCOMING_ICMP_FRAG_NEEDED=1`,
	}
}

// TestShippedConfiguration: each file sets the known values on its machine and
// none on another, without needing bash, and every example in it is valid.
func TestShippedConfiguration(t *testing.T) {
	markers := map[string]string{"gateway": whonix.GatewayMarker, "workstation": whonix.WorkstationMarker, "host": whonix.HostMarker}
	evaluate := func(g *rig) *confd.Result {
		t.Helper()
		res, err := confd.Evaluate(context.Background(), confd.Options{Root: g.root, Dirs: configDirs(), Shell: confd.Shell{Errexit: true, Nounset: true}})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	for role, marker := range markers {
		text, err := os.ReadFile(top + "/etc/whonix_firewall.d/30_whonix_" + role + "_default.conf")
		if err != nil {
			t.Fatal(err)
		}
		g := newRig(t, marker)
		g.config(t, string(text))
		res := evaluate(g)
		if res.Tier != confd.Native {
			t.Errorf("%s: needs bash: %s", role, res.Reason)
		}
		want := map[string]string{}
		for _, kv := range strings.Fields(shippedValues()[role]) {
			name, value, _ := strings.Cut(kv, "=")
			want[name] = value
		}
		got := map[string]string{}
		for name, v := range res.Vars {
			got[name] = v.Text
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", role, got, want)
		}
		other := newRig(t)
		other.config(t, string(text))
		if res := evaluate(other); len(res.Vars) > 0 {
			t.Errorf("%s: sets %v on another machine", role, res.Vars)
		}
		examples := regexp.MustCompile(`(?m)^#([A-Za-z_0-9]+\+?=)`).ReplaceAllString(string(text), "$1")
		examples = strings.ReplaceAll(examples, "$(id -u someone)", "$(id -u user)")
		g.config(t, examples)
		if o := g.call(nil, "whonix_firewall", "--check-config"); o.code != 0 {
			t.Errorf("%s with every example switched on: %+v", role, o)
		}
	}
}

// TestVariablesAreDocumented: what the shipped files or the code know is in the
// manual.
func TestVariablesAreDocumented(t *testing.T) {
	page, err := os.ReadFile(top + "/man/whonix_firewall.d.5")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, role := range []string{"gateway", "workstation", "host"} {
		text, err := os.ReadFile(top + "/etc/whonix_firewall.d/30_whonix_" + role + "_default.conf")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^#?([A-Za-z_0-9]+)\+?=`).FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
	}
	for _, role := range []whonix.Role{whonix.Gateway, whonix.Workstation, whonix.Host} {
		for _, name := range variablesOf(role) {
			names[name] = true
		}
		for name := range defaults(role, false) {
			names[name] = true
		}
	}
	for name := range names {
		if !regexp.MustCompile(`\b` + name + `\b`).Match(page) {
			t.Errorf("%s is not in whonix_firewall.d(5)", name)
		}
	}
}

// TestUnits: systemd reads the units, with the network services that the
// drop-ins are for.
func TestUnits(t *testing.T) {
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	if err := os.CopyFS(units, os.DirFS(top+"/systemd/system")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"usr/libexec/whonix-firewall/enable-firewall", "usr/libexec/whonix-firewall/firewall-restarter", "bin/true"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, p)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, p), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"basic.target", "sysinit.target", "shutdown.target", "network-pre.target", "local-fs.target", "multi-user.target"} {
		if err := os.WriteFile(filepath.Join(units, name), []byte("[Unit]\nDescription="+name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(units, "networking.service"), []byte("[Service]\nType=oneshot\nExecStart=/bin/true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, unit := range []string{"whonix-firewall.service", "whonix-firewall-early.service", "whonix-firewall-restarter.service", "networking.service"} {
		if out := must(t, "systemd-analyze", "verify", "--man=no", "--root="+root, unit); strings.Contains(out, unit) {
			t.Errorf("%s: %s", unit, out)
		}
	}
	dropIn, err := os.ReadFile(top + "/systemd/system/networking.service.d/30_whonix-gw-firewall-fail-closed.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"After=whonix-firewall.service", "AssertPathExists=!" + failedFile, "AssertPathExists=" + firstRunFile} {
		if !strings.Contains(string(dropIn), "\n"+line+"\n") {
			t.Errorf("the drop-in for network services has no line %s", line)
		}
	}
	service, err := os.ReadFile(top + "/systemd/system/whonix-firewall.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"DefaultDependencies=no", "RemainAfterExit=yes", "WantedBy=sysinit.target", "Alias=qubes-whonix-firewall.service", "ExecReload=/usr/libexec/whonix-firewall/enable-firewall"} {
		if !strings.Contains(string(service), "\n"+line+"\n") {
			t.Errorf("whonix-firewall.service has no line %s", line)
		}
	}
	for _, order := range []string{"nftables.service", "netfilter-persistent.service", "local-fs.target"} {
		if !regexp.MustCompile(`(?m)^After=.*\b` + regexp.QuoteMeta(order) + `\b`).Match(service) {
			t.Errorf("whonix-firewall.service does not come after %s (D6)", order)
		}
	}
}

// TestExposure: the watcher, which runs all the time, gives an attacker little.
func TestExposure(t *testing.T) {
	const most = 2.5
	out := must(t, "systemd-analyze", "security", "--offline=true", top+"/systemd/system/whonix-firewall-restarter.service")
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no figure in %s", out)
	}
	if figure, err := strconv.ParseFloat(m[1], 64); err != nil || figure > most {
		t.Errorf("exposure %s, at most %v", m[1], most)
	}
}

// TestAccountsAndDirectories: systemd creates the accounts and directories.
func TestAccountsAndDirectories(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(top)
	if err != nil {
		t.Fatal(err)
	}
	must(t, "systemd-sysusers", "--root="+root, abs+"/systemd/sysusers.d/whonix-firewall.conf")
	passwd, err := os.ReadFile(root + "/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"clearnet", "tunnel", "notunnel", "systemcheck", "sdwdate", "updatesproxycheck"} {
		if !regexp.MustCompile(`(?m)^` + name + `:.*:/run/` + name + `:/bin/false$`).Match(passwd) {
			t.Errorf("no account %s in\n%s", name, passwd)
		}
	}
	must(t, "systemd-tmpfiles", "--root="+root, "--create", abs+"/systemd/tmpfiles.d/whonix-firewall.conf")
	for _, dir := range []string{"/run/sdwdate", "/run/updatesproxycheck", "/var/lib/whonix-firewall"} {
		if fi, err := os.Stat(root + dir); err != nil || fi.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v %v", dir, fi, err)
		}
	}
}

// TestAppArmor: the profiles are read, and enforce.
func TestAppArmor(t *testing.T) {
	must(t, "apparmor_parser", "-QTK", "-I", top+"/etc/apparmor.d", "-I", "/etc/apparmor.d", top+"/etc/apparmor.d/whonix-firewall")
	text, err := os.ReadFile(top + "/etc/apparmor.d/whonix-firewall")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "complain") || strings.Count(string(text), "\nprofile ") != 3 {
		t.Error("not three enforcing profiles")
	}
}

func TestDesktopEntries(t *testing.T) {
	entries, err := filepath.Glob(top + "/scripts/applications/*.desktop")
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	must(t, "desktop-file-validate", entries...)
}

// TestCompletion: bash offers what the programs understand.
func TestCompletion(t *testing.T) {
	complete := func(words ...string) []string {
		t.Helper()
		script := "source " + top + "/scripts/completions/whonix-firewall; COMP_WORDS=(" + strings.Join(words, " ") + "); COMP_CWORD=" +
			strconv.Itoa(len(words)-1) + "; _whonix_firewall " + words[0] + "; printf '%s\\n' \"${COMPREPLY[@]}\""
		return strings.Fields(must(t, "bash", "-c", script))
	}
	if got := complete("whonix_firewall", "--mode", "t"); !slices.Equal(got, []string{ModeTimesync}) {
		t.Errorf("%v", got)
	}
	if got := complete("enable-firewall", "--e"); !slices.Equal(got, []string{"--early"}) {
		t.Errorf("%v", got)
	}
	offered := complete("whonix-gateway-firewall", "--")
	for _, m := range regexp.MustCompile(`--[a-z-]+`).FindAllString(usage("x"), -1) {
		if !slices.Contains(offered, m) {
			t.Errorf("%s is not offered: %v", m, offered)
		}
	}
}
