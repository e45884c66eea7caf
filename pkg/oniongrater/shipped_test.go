// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// must runs a tool that reads shipped files.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestUnit: systemd reads the unit with its drop-ins.
func TestUnit(t *testing.T) {
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	if err := os.CopyFS(units, os.DirFS("../../systemd/system")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"usr/lib/onion-grater", "usr/lib/onion-grater-merger", "bin/kill"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, p)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, p), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"basic", "sysinit", "shutdown", "network", "multi-user"} {
		if err := os.WriteFile(filepath.Join(units, name+".target"), []byte("[Unit]\nDescription="+name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out := must(t, "systemd-analyze", "verify", "--man=no", "--root="+root, "onion-grater.service"); strings.Contains(out, "onion-grater") {
		t.Error(out)
	}
	dropIn, err := os.ReadFile("../../systemd/system/onion-grater.service.d/30_cpfpy.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"ExecStartPre=+/usr/lib/onion-grater-merger", "ExecStart=", "ExecStart=/usr/lib/onion-grater --listen-interface eth1 --listen-port 9051"} {
		if !strings.Contains(string(dropIn), "\n"+line+"\n") {
			t.Errorf("the drop-in has no line %s", line)
		}
	}
}

// TestExposure: the proxy, which an attacker talks to, gives little away.
func TestExposure(t *testing.T) {
	const most = 1.5
	out := must(t, "systemd-analyze", "security", "--offline=true", "../../systemd/system/onion-grater.service")
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no figure in %s", out)
	}
	if figure, err := strconv.ParseFloat(m[1], 64); err != nil || figure > most {
		t.Errorf("exposure %s, at most %v\n%s", m[1], most, out)
	}
}

// TestAccount: systemd makes the account, and it may read Tor's cookie.
func TestAccount(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs("../../systemd/sysusers.d/onion-grater.conf")
	if err != nil {
		t.Fatal(err)
	}
	must(t, "systemd-sysusers", "--root="+root, config)
	for file, want := range map[string]string{"passwd": `(?m)^onion-grater:.*:/run/onion-grater:`, "group": `(?m)^debian-tor:.*:onion-grater$`} {
		data, err := os.ReadFile(root + "/etc/" + file)
		if err != nil || !regexp.MustCompile(want).Match(data) {
			t.Errorf("%s: %v\n%s", file, err, data)
		}
	}
}

// TestAppArmor: the parser takes the profile, whose name is the program's path.
func TestAppArmor(t *testing.T) {
	const profile = "../../etc/apparmor.d/usr.lib.onion-grater"
	must(t, "apparmor_parser", "-QTK", profile)
	lines := strings.Split(strings.TrimSpace(must(t, "apparmor_parser", "-QTK", "--names", profile)), "\n")
	if got := lines[len(lines)-1]; got != "/usr/lib/onion-grater" {
		t.Errorf("profile %q", got)
	}
}
