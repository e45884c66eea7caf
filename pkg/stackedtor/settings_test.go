// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/whonix"
)

// TestAcceptance25_Machines: the rows of section I by marker files, and by a
// qubesdb-read that answers, is silent or fails.
func TestAcceptance25_Machines(t *testing.T) {
	const plain, internal = "127.0.0.1 ::1", whonix.GatewayIP + " " + whonix.GatewayIP6
	for name, c := range map[string]struct {
		markers []string
		qubesdb string // a script's body; none if empty
		want    string
		errors  int
	}{
		"host":                         {nil, "", plain, 0},
		"Gateway":                      {[]string{whonix.GatewayMarker}, "", plain, 0},
		"Workstation":                  {[]string{whonix.WorkstationMarker}, "", internal, 0},
		"Workstation, also a Gateway":  {[]string{whonix.WorkstationMarker, whonix.GatewayMarker}, "", internal, 0},
		"Qubes Workstation":            {[]string{whonix.WorkstationMarker}, `case $1 in /qubes-gateway) echo 10.137.0.7 ;; *) echo fd09::7 ;; esac`, "10.137.0.7 fd09::7", 0},
		"Qubes Workstation, one fails": {[]string{whonix.WorkstationMarker}, `case $1 in /qubes-gateway) echo 10.137.0.7 ;; *) exit 2 ;; esac`, "10.137.0.7 ::1", 1},
		"Qubes Workstation, silent":    {[]string{whonix.WorkstationMarker}, "true", internal, 0},
		"Qubes template, failing":      {[]string{whonix.TemplateMarker}, "exit 1", plain, 2},
		"Qubes Gateway":                {[]string{whonix.GatewayMarker}, "echo 10.0.0.1", plain, 0},
		"Qubes, hostile":               {[]string{whonix.WorkstationMarker}, `echo '10.0.0.1";reboot"'`, plain, 2},
	} {
		m := newMachine(t)
		if err := os.Remove(m.root.Path(whonix.WorkstationMarker)); err != nil {
			t.Fatal(err)
		}
		for _, marker := range c.markers {
			m.write(marker, "")
		}
		if c.qubesdb != "" {
			m.write("/usr/bin/qubesdb-read", "#!/bin/sh\n"+c.qubesdb+"\n")
			if err := os.Chmod(m.root.Path("/usr/bin/qubesdb-read"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		g := settings(m.root, cli.Env{}, warner(&m.stderr))
		ip, ip6, _ := strings.Cut(c.want, " ")
		if want := "GATEWAY_IP=\"" + ip + "\"\nGATEWAY_IP6=\"" + ip6 + "\"\ngateway_control_port=\"9051\"\n"; g.String() != want {
			t.Errorf("%s: %s, want %s", name, g, want)
		}
		if said := m.stderr.String(); strings.Count(said, "ERROR: qubesdb-read ") != c.errors || strings.Count(said, "\n") != c.errors {
			t.Errorf("%s: %q, want %d lines", name, said, c.errors)
		}
	}
}

// TestAcceptance25_Hostile: what could end an assignment, or begin a command,
// never comes out, and a shell that evaluates the output runs nothing (defect
// 26).
func TestAcceptance25_Hostile(t *testing.T) {
	m := newMachine(t)
	for _, value := range []string{`a"; touch HERE; "`, "10.0.0.1;touch HERE", "10.0.0.1\ntouch HERE", "$(touch HERE)", "`touch HERE`", "a b", "*", "-x", `a\`, "fe80::1%eth0", strings.Repeat("a", 300)} {
		value = strings.ReplaceAll(value, "HERE", m.root.Path("/here"))
		m.stderr.Reset()
		g := settings(m.root, cli.Env{Environ: []string{varGateway + "=" + value, varGateway6 + "=" + value, varControlPort + "=" + value}}, warner(&m.stderr))
		if g.IP != whonix.GatewayIP || g.IP6 != whonix.GatewayIP6 || g.ControlPort != "9051" || strings.Count(m.stderr.String(), "\n") != 3 {
			t.Errorf("%q: %s, %q", value, g, m.stderr.String())
		}
		out, err := exec.Command("sh", "-c", "eval $1; echo $GATEWAY_IP", "sh", g.String()).CombinedOutput()
		if err != nil || string(out) != whonix.GatewayIP+"\n" {
			t.Errorf("%q: %v %s", value, err, out)
		}
	}
	if m.root.Exists("/here") {
		t.Error("a command ran")
	}
}

// TestSettingsFile: whole or not at all, and the old one stays where that fails.
func TestSettingsFile(t *testing.T) {
	m := newMachine(t)
	g := Gateway{IP: "10.0.0.1", IP6: "fd00::1", ControlPort: "1"}
	if err := writeSettings(m.root, g); err != nil || m.read(environmentFile) != g.String() {
		t.Fatalf("%v", err)
	}
	if got := ownership(t, m.root.Path(runDir)) + " " + ownership(t, m.root.Path(environmentFile)); got != "drwxrwxr-x 0 0 -rw-r--r-- 0 0" {
		t.Errorf("%s", got)
	}
	if err := os.Remove(m.root.Path(environmentFile)); err != nil {
		t.Fatal(err)
	}
	m.write(environmentFile+"/occupied", "")
	if err := writeSettings(m.root, g); err == nil {
		t.Error("a directory was replaced")
	}
	if entries := m.list(runDir); len(entries) != 0 {
		t.Errorf("left behind: %q", entries)
	}
}
