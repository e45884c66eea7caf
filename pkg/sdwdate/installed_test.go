// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The tests of this file hold the shipped files against the tools that read
// them.

const tree = "../.."

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func shipped(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(tree, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestUnits: systemd reads the units and drop-ins.
func TestUnits(t *testing.T) {
	root := t.TempDir()
	units := root + "/usr/lib/systemd/system"
	put := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	services := []string{"sdwdate.service", "sdwdate-start-anondate-set-file-watcher.service", "timesanitycheck.service"}
	for _, name := range append(services, "systemd-timesyncd.service.d/40_sdwdate.conf", "qubes-sync-time.service.d/40_sdwdate.conf") {
		put(units+"/"+name, shipped(t, "systemd/system/"+name), 0o644)
	}
	for _, name := range []string{"systemd-timesyncd.service", "qubes-sync-time.service"} {
		put(units+"/"+name, "[Service]\nType=oneshot\nExecStart=/bin/kill\n", 0o644)
	}
	for _, name := range []string{"basic", "sysinit", "shutdown", "network", "multi-user", "local-fs"} {
		put(units+"/"+name+".target", "[Unit]\nDescription="+name+"\n", 0o644)
	}
	for _, program := range []string{"/usr/libexec/sdwdate/sdwdate", "/usr/libexec/sdwdate/sclockadj", "/usr/libexec/sdwdate/sdwdate-start-anondate-set-file-watcher", "/usr/bin/timesanitycheck", "/bin/kill"} {
		put(root+program, "#!/bin/sh\n", 0o755)
	}
	for _, unit := range append(services, "systemd-timesyncd.service", "qubes-sync-time.service") {
		if out := must(t, "systemd-analyze", "verify", "--man=no", "--root="+root, unit); strings.Contains(out, unit) {
			t.Errorf("%s: %s", unit, out)
		}
	}
	daemon := shipped(t, "systemd/system/sdwdate.service")
	for _, line := range []string{"Type=notify", "User=sdwdate", "ExecCondition=/usr/libexec/sdwdate/sdwdate --check-netvm", "ExecStopPost=-/usr/libexec/sdwdate/sclockadj --restore",
		"SuccessExitStatus=143", "ConditionPathExists=!/run/qubes-service/no-sdwdate", "AmbientCapabilities=CAP_SYS_TIME", "CapabilityBoundingSet=CAP_SYS_TIME", "SystemCallFilter=@system-service @clock"} {
		if !strings.Contains(daemon, "\n"+line+"\n") {
			t.Errorf("sdwdate.service has no line %s", line)
		}
	}
	for _, name := range services[:2] {
		if strings.Contains(shipped(t, "systemd/system/"+name), "\nProtectClock=") {
			t.Errorf("%s may not set the clock", name)
		}
	}
}

// TestExposure: what runs all the time, or parses anything, gives an attacker
// little.
func TestExposure(t *testing.T) {
	const most = 2.5
	for _, unit := range []string{"sdwdate.service", "sdwdate-start-anondate-set-file-watcher.service", "timesanitycheck.service"} {
		out := must(t, "systemd-analyze", "security", "--offline=true", tree+"/systemd/system/"+unit)
		m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no figure in %s", out)
		}
		if figure, err := strconv.ParseFloat(m[1], 64); err != nil || figure > most {
			t.Errorf("%s: exposure %s, at most %v", unit, m[1], most)
		}
	}
}

// TestAccountsAndFolders: systemd makes the account and the folders; the status
// is there before anybody watches it.
func TestAccountsAndFolders(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(tree)
	if err != nil {
		t.Fatal(err)
	}
	must(t, "systemd-sysusers", "--root="+root, abs+"/systemd/sysusers.d/sdwdate.conf")
	passwd, _ := os.ReadFile(root + "/etc/passwd")
	group, _ := os.ReadFile(root + "/etc/group")
	m := regexp.MustCompile(`(?m)^sdwdate:[^:]*:(\d+):\d+:[^:]*:/run/sdwdate:/bin/false$`).FindStringSubmatch(string(passwd))
	if m == nil || !regexp.MustCompile(`(?m)^debian-tor:.*[:,]sdwdate(,|$)`).Match(group) {
		t.Fatalf("%s\n%s", passwd, group)
	}
	must(t, "systemd-tmpfiles", "--root="+root, "--create", abs+"/systemd/tmpfiles.d/sdwdate.conf")
	for path, want := range map[string]string{"/run/sdwdate": "drwxr-xr-x", "/run/sdwdate/status": "-rw-r--r--", "/var/lib/sdwdate": "drwxr-xr-x"} {
		fi, err := os.Stat(root + path)
		if err != nil || fi.Mode().String() != want {
			t.Errorf("%s: %v, %v", path, fi, err)
		}
		if out := must(t, "stat", "-c", "%u", root+path); strings.TrimSpace(out) != m[1] {
			t.Errorf("%s belongs to %s", path, out)
		}
	}
}

// TestAppArmor: the profiles are read, enforce, and confine the daemon, not the
// wrapper (D25); the requests' profile has no capability.
func TestAppArmor(t *testing.T) {
	must(t, "apparmor_parser", "-QTK", "-I", tree+"/etc/apparmor.d", "-I", "/etc/apparmor.d", tree+"/etc/apparmor.d/sdwdate")
	text := shipped(t, "etc/apparmor.d/sdwdate")
	_, request, ok := strings.Cut(text, "\nprofile url-to-unixtime /usr/bin/url-to-unixtime ")
	if !ok || strings.Contains(text, "complain") || !strings.Contains(text, "\nprofile sdwdate /usr/libexec/sdwdate/sdwdate ") || strings.Contains(request, "capability ") ||
		strings.Contains(shipped(t, "etc/apparmor.d/abstractions/url-to-unixtime"), "capability ") {
		t.Error("the profiles are not those")
	}
}

// TestOtherFiles: sudo and privleap read theirs; bash completes.
func TestOtherFiles(t *testing.T) {
	rules := regexp.MustCompile(`(?m)^(user|%sudo) ALL=NOPASSWD: /usr/sbin/sdwdate-clock-jump$`).FindAllString(shipped(t, "etc/sudoers.d/sdwdate"), -1)
	if len(rules) != 2 {
		t.Errorf("%v", rules)
	}
	actions := regexp.MustCompile(`(?m)^\[action:(.*)\]$`).FindAllStringSubmatch(shipped(t, "etc/privleap/conf.d/sdwdate.conf"), -1)
	if len(actions) != 8 {
		t.Errorf("%v", actions)
	}
	script := "source " + tree + "/scripts/completions/sdwdate; COMP_WORDS=(sdwdate --); COMP_CWORD=1; _sdwdate sdwdate; printf '%s\\n' \"${COMPREPLY[@]}\""
	offered := must(t, "bash", "-c", strings.Replace(script, "(sdwdate --)", "(sdwdate --)", 1))
	for _, option := range regexp.MustCompile(`--[a-z-]+`).FindAllString(usage, -1) {
		if !strings.Contains(offered, option+"\n") {
			t.Errorf("%s is not offered", option)
		}
	}
}

// TestSettingsAreDocumented: every setting that counts is in the manual, and
// every one there counts.
func TestSettingsAreDocumented(t *testing.T) {
	page := shipped(t, "man/sdwdate.d.5")
	values := map[string]string{"PROXY_IP": "127.0.0.1", "PROXY_PORT": "1", "MAX_FAILURE_RATIO": "1", "RANDOMIZE_TIME": "true", "PREPARATION": "auto", "CONSENSUS_CHECK": "off",
		"MAX_SLEW_PPM": "500", "SDWDATE_POOLS_RESET": "true", "ALLOW_NON_ONION": "true", "HTTP_METHOD": "GET", "USER_AGENT": "x", "ANONDATE_TOR_CERT": "false"}
	for key, value := range values {
		if !regexp.MustCompile(`(?m)^\.It Li .*\b` + key + `\b`).MatchString(page) {
			t.Errorf("%s is not in sdwdate.d(5)", key)
		}
		if _, notices := parseConf([]fragment{{"x", []byte(key + "=" + value)}}); len(notices) != 0 {
			t.Errorf("%v", notices)
		}
	}
	documented := strings.Join(regexp.MustCompile(`(?m)^\.It Li (.*)$`).FindAllString(page, -1), " ")
	for _, key := range regexp.MustCompile(`[A-Z]+_[A-Z_]+|PREPARATION`).FindAllString(documented, -1) {
		if values[key] == "" {
			t.Errorf("%s is documented only", fmt.Sprint(key))
		}
	}
}
