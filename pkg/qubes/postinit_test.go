// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"strings"
	"testing"

	"whonix-networking/pkg/whonix"
)

// TestPostinitTor: dom0's flags switch Tor's network, each way and back, and
// without a flag nothing is touched.
func TestPostinitTor(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.write(whonix.NetVMMarker, "")
	run := func(enable, disable string) {
		t.Helper()
		if err := postinit(context.Background(), m.root, m.env()); err != nil {
			t.Fatal(err)
		}
		if m.read(torEnableFile) != enable || m.read(torDisableFile) != disable || m.root.Exists(torEnableFile) != (enable != "") || m.root.Exists(torDisableFile) != (disable != "") {
			t.Errorf("enable %q, disable %q", m.read(torEnableFile), m.read(torDisableFile))
		}
	}
	run("", "")
	m.write(flagTorDisable, "")
	run("", torDisable)
	before := m.state()
	run("", torDisable)
	if m.state() != before {
		t.Error("again: something was written")
	}
	m.write(flagTorEnable, "")
	run(torEnable, "")
	if !m.root.Exists(flagGateway) || m.root.Exists(flagWorkstation) {
		t.Error("the flags of 2020 are wrong")
	}
}

// TestPostinitWorkstation: the addresses of Qubes are there, and the flag.
func TestPostinitWorkstation(t *testing.T) {
	m := newMachine(t, whonix.WorkstationMarker)
	m.write(appVMMarker, "")
	m.write(flagTorDisable, "")
	m.write("/etc/resolv.conf.whonix", "nameserver 10.152.152.10\n")
	m.key(keyIP, "10.137.1.5")
	m.key(keyGateway, "10.138.2.9")
	if err := postinit(context.Background(), m.root, m.env()); err != nil {
		t.Fatal(err)
	}
	if m.read("/etc/resolv.conf.whonix") != "nameserver 10.138.2.9\n" || !m.root.Exists(flagWorkstation) || m.root.Exists(torDisableFile) {
		t.Errorf("%s", m.state())
	}
	m.key(keyGateway, "nonsense")
	if err := postinit(context.Background(), m.root, m.env()); err == nil || !strings.Contains(m.stdout.String(), "ERROR: current_ip") {
		t.Errorf("a bad key: %v", err)
	}
}

// TestAcceptance23_Postinit: nothing is changed in a template, nor outside
// Qubes.
func TestAcceptance23_Postinit(t *testing.T) {
	for _, marker := range []string{whonix.GatewayMarker, whonix.WorkstationMarker, "/nothing"} {
		for _, qubes := range []bool{true, false} {
			m := newMachine(t, marker)
			if qubes {
				m.write(whonix.TemplateMarker, "")
			} else if err := m.root.Remove(whonix.QubesMarker); err != nil {
				t.Fatal(err)
			}
			m.write(flagTorDisable, "")
			m.write("/etc/resolv.conf.whonix", "nameserver 10.152.152.10\n")
			m.key(keyIP, "10.137.1.5")
			m.key(keyGateway, "10.138.2.9")
			before := m.state()
			if err := postinit(context.Background(), m.root, m.env()); err != nil || m.state() != before {
				t.Errorf("%s, Qubes %v: %v, or something was written", marker, qubes, err)
			}
		}
	}
}
