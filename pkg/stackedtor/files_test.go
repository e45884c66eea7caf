// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/relay"
)

// The tests of this file hold the shipped files against the tools that read
// them.

const top = "../.."

func shippedText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(top, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestShippedDropIn: it has no effect, and every example in it works.
func TestShippedDropIn(t *testing.T) {
	const path = "etc/anon-ws-disable-stacked-tor.d/30_anon-dist.conf"
	text := shippedText(t, path)
	if lines := effective(text); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
	m := newMachine(t)
	m.write("/"+path, regexp.MustCompile(`(?m)^#(\S)`).ReplaceAllString(text, "$1"))
	if err := m.generate(); err != nil || m.stderr.Len() > 0 {
		t.Errorf("%v: %s", err, m.stderr.String())
	}
	for stem, want := range map[string]string{"port_4444": "10.152.152.10:4444", "port6_7777": "fd19:c33d:88bc::10:8888", "_run_example_socks": "10.152.152.10:9050", "port_9050": "10.152.152.10:9053"} {
		if text := m.read(systemUnits + "/" + unitPrefix + stem + ".service"); !strings.Contains(text, "systemd-socket-proxyd "+want+"\n") {
			t.Errorf("%s: %s", stem, text)
		}
	}
	e := evaluation{root: m.root, dirs: dropInDirs(), output: &m.stdout, stderr: &m.stderr, set: map[string]string{varGateway: "10.0.0.1"}}
	res, err := e.dropIns(context.Background())
	if err != nil || res.Tier != confd.Native || len(res.Commands) != 2 {
		t.Fatalf("%v: %+v", err, res)
	}
	for _, c := range res.Commands {
		if _, err := relay.ParseSocat(c.Args[1:]); err != nil {
			t.Errorf("%q: %v", c.Args, err)
		}
	}
}

// TestFragments: the contract's lines (H, J).
func TestFragments(t *testing.T) {
	const tor = "systemd/system/tor"
	dummy := []string{"[Service]", "Type=simple", "ExecStartPre=", "ExecReload=", "ExecReload=/bin/kill -HUP $MAINPID", "AppArmorProfile=", "KillSignal=SIGTERM"}
	for path, want := range map[string][]string{
		tor + ".service.d/50_anon_ws_disable_stacked_tor.conf":         {"[Unit]", "ConditionPathExists=", "[Service]", "RemainAfterExit=yes"},
		tor + "@default.service.d/50_anon_ws_disable_stacked_tor.conf": {"[Unit]", "ConditionPathExists="},
		tor + "@default.service.d/51_anon_ws_disable_stacked_tor.conf": append([]string{"[Unit]", "Description=anon-ws-disable-stacked-tor", "Documentation=" + documentation}, dummy...),
		tor + "@.service.d/51_anon_ws_disable_stacked_tor.conf":        dummy,
		"systemd/tmpfiles.d/anon-ws-disable-stacked-tor.conf":          {"d /run/anon-ws-disable-stacked-tor 0775 root root -"},
		"etc/rsyslog.d/anon-ws-disable-stacked-tor.conf":               nil,
		"etc/default/tor.anondist":                                     {`RUN_DAEMON="no"`, "CLEANUP_OLD_COREFILES=y"},
		"etc/resolv.conf.whonix":                                       {"nameserver 10.152.152.10", "nameserver fd19:c33d:88bc::10"},
	} {
		if got := effective(shippedText(t, path)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	interfaces := strings.Join(effective(shippedText(t, "etc/network/interfaces.d/30_non-qubes-whonix")), "\n") + "\n"
	for _, want := range []string{
		"auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet static\naddress 10.152.152.11\nnetmask 255.255.192.0\ngateway 10.152.152.10\n",
		"iface eth0 inet6 manual\naddress fd19:c33d:88bc::11\nnetmask 96\ngateway fd19:c33d:88bc::10\n",
	} {
		if !strings.Contains(interfaces, want) {
			t.Errorf("%s: want %s", interfaces, want)
		}
	}
	sum := sha256.Sum256([]byte(shippedText(t, "scripts/anon-ws-disable-stacked-tor/control.authcookie")))
	if got := fmt.Sprintf("%x", sum); !strings.HasPrefix(got, "333ce44a") || !strings.HasSuffix(got, "83f440") {
		t.Errorf("another cookie: %s", got)
	}
}

// TestAccountAndDirectory: systemd makes both.
func TestAccountAndDirectory(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(top)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"systemd-sysusers", "--root=" + root, abs + "/systemd/sysusers.d/anon-ws-disable-stacked-tor.conf"},
		{"systemd-tmpfiles", "--root=" + root, "--create", abs + "/systemd/tmpfiles.d/anon-ws-disable-stacked-tor.conf", abs + "/systemd/tmpfiles.d/whonix-networking-helpers.conf"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
	passwd, err := os.ReadFile(root + "/etc/passwd")
	if err != nil || !regexp.MustCompile(`(?m)^debian-tor:.*:/var/lib/tor:/bin/false$`).Match(passwd) {
		t.Errorf("%v: %s", err, passwd)
	}
	for _, dir := range []string{"/run/anon-ws-disable-stacked-tor", runDir} {
		if got := ownership(t, root+dir); got != "drwxrwxr-x 0 0" {
			t.Errorf("%s: %s", dir, got)
		}
	}
}

// TestExposure: what runs all the time gives an attacker little (defect 38,
// D.7); it was 9.4 and 9.2.
func TestExposure(t *testing.T) {
	m := newMachine(t)
	if err := m.generate(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(m.root.Path(shippedUnits), os.DirFS(top+"/systemd/system")); err != nil {
		t.Fatal(err)
	}
	for unit, most := range map[string]float64{unitPrefix + "port_9050.service": 1.5, "anon-ws-disable-stacked-tor.service": 4, "resolv-conf-repair.service": 3.1, "redirections-after-mounts.service": 3.1} {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--root="+string(m.root), unit).CombinedOutput()
		figure := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
		if err != nil || figure == nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got, err := strconv.ParseFloat(string(figure[1]), 64); err != nil || got > most {
			t.Errorf("%s: exposure %v, at most %v", unit, got, most)
		}
	}
}
