// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What each machine has.
func gatewayPackages() []string {
	return []string{"whonix-networking-helpers", "whonix-firewall", "onion-grater", "sdwdate", "timesanitycheck", "anon-gw-anonymizer-config", "whonix-gw-network-conf", "ipv4-forward-disable", "anon-gw-dns-conf", "anon-gw-dhcp-conf"}
}

func workstationPackages() []string {
	return []string{"whonix-networking-helpers", "whonix-firewall", "uwt", "bindp", "anon-ws-disable-stacked-tor", "sdwdate", "timesanitycheck", "whonix-ws-network-conf", "anon-ws-dns-conf"}
}

// state is every file of a system with its mode and its link's target, what is
// in those of /etc, and what is diverted. Left out is what systems change by
// themselves, and what Debian keeps of packages that are gone: accounts.
func (m *machine) state() []string {
	m.t.Helper()
	find := exec.Command("find", ".", "-xdev",
		"(", "-path", "./proc", "-o", "-path", "./run", "-o", "-path", "./tmp", "-o", "-path", "./var/tmp", "-o", "-path", "./var/lib/dpkg", "-o", "-path", "./var/log", "-o", "-path", "./var/cache", "-o", "-path", "./var/lib/systemd",
		"-o", "-name", "passwd*", "-o", "-name", "shadow*", "-o", "-name", "group*", "-o", "-name", "gshadow*", ")", "-prune",
		"-o", "-printf", "%p %M %u %g %l\\n")
	find.Dir = m.root
	out, err := find.Output()
	must(m.t, err)
	lines := strings.Split(string(out), "\n")
	sums := exec.Command("sh", "-c", "find etc -type f ! -name 'passwd*' ! -name 'shadow*' ! -name 'group*' ! -name 'gshadow*' -exec sha256sum {} +")
	sums.Dir = m.root
	out, err = sums.Output()
	must(m.t, err)
	lines = append(lines, strings.Split(string(out), "\n")...)
	lines = append(lines, strings.Split(m.offline("dpkg-divert", "--list"), "\n")...)
	slices.Sort(lines)
	return lines
}

// changes are the lines of only one of two sorted lists.
func changes(before, after []string) (out []string) {
	for _, l := range before {
		if _, found := slices.BinarySearch(after, l); !found {
			out = append(out, "- "+l)
		}
	}
	for _, l := range after {
		if _, found := slices.BinarySearch(before, l); !found {
			out = append(out, "+ "+l)
		}
	}
	return out
}

// TestPurge: packages that were installed, removed and purged leave the system
// as it was.
func TestPurge(t *testing.T) {
	for name, packages := range map[string][]string{"gateway": gatewayPackages(), "workstation": workstationPackages()} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, name)
			before := m.state()
			m.install(packages...)
			if len(changes(before, m.state())) < 100 {
				t.Error("nothing was installed")
			}
			m.offline(append([]string{"dpkg", "--purge"}, packages...)...)
			expected := []string{
				"- ./etc/apparmor.d/disable", // an empty directory of apparmor's that dpkg takes for ours
				"+ ./usr/local/etc/torrc.d",  // the user's
			}
			for _, c := range changes(before, m.state()) {
				if !slices.ContainsFunc(expected, func(e string) bool { return strings.HasPrefix(c, e) }) {
					t.Error(c)
				}
			}
		})
	}
}

// TestDisplaced: what is displaced is a link to ours, and the original is kept
// beside it.
func TestDisplaced(t *testing.T) {
	m := newMachine(t, "workstation")
	m.install(workstationPackages()...)
	for path, target := range map[string]string{
		"/usr/bin/apt-get":       "apt-get.anondist",
		"/usr/bin/curl":          "curl.anondist",
		"/usr/bin/wget":          "wget.anondist", // not installed
		"/usr/bin/tor":           "tor.anondist",
		"/usr/sbin/tor":          "tor.anondist",
		"/etc/default/tor":       "tor.anondist",
		"/etc/tor/torsocks.conf": "torsocks.conf.anondist",
		"/etc/resolv.conf":       "resolv.conf.whonix",
	} {
		if got, err := os.Readlink(filepath.Join(m.root, path)); err != nil || got != target {
			t.Errorf("%s: %q, %v, want a link to %s", path, got, err, target)
		}
	}
	for _, path := range []string{"/usr/bin/apt-get.anondist-orig", "/usr/bin/curl.anondist-orig", "/usr/bin/tor.anondist-orig", "/etc/default/tor.anondist-orig", "/etc/tor/torsocks.conf.anondist-orig"} {
		if fi, err := os.Lstat(filepath.Join(m.root, path)); err != nil || !fi.Mode().IsRegular() {
			t.Errorf("%s: %v", path, err)
		}
	}
	if out := m.offline("tor", "--version"); !strings.Contains(out, "Tor version") {
		t.Errorf("the dummy says %q", out)
	}
}

// TestUpgrade: the packages of today are installed over those of before, whose
// files they take over; fragments of the user's, and changed ones, are kept.
func TestUpgrade(t *testing.T) {
	m := newMachine(t, "gateway")
	m.write("/var/tmp/old/DEBIAN/control", "Package: whonix-firewall\nVersion: 3:18.2-1\nArchitecture: all\nMaintainer: x <x@x.example>\nDescription: x\n")
	m.write("/var/tmp/old/DEBIAN/conffiles", "/etc/whonix_firewall.d/30_whonix_gateway_default.conf\n/etc/whonix_firewall.d/30_default.conf\n")
	m.write("/var/tmp/old/etc/whonix_firewall.d/30_whonix_gateway_default.conf", "# of before\n")
	m.write("/var/tmp/old/etc/whonix_firewall.d/30_default.conf", "# of long before\n")
	m.write("/var/tmp/old/usr/lib/whonix-firewall/reloadfirewall", "#!/bin/bash\n")
	m.write("/var/tmp/old/usr/bin/whonix_firewall", "#!/bin/bash\n")
	m.write("/var/tmp/helpers/DEBIAN/control", "Package: helper-scripts\nVersion: 3:54.2-1\nArchitecture: all\nMaintainer: x <x@x.example>\nDescription: x\n")
	m.write("/var/tmp/helpers/usr/bin/leaktest", "of helper-scripts\n")
	m.write("/var/tmp/helpers/usr/libexec/helper-scripts/strings.bsh", "also of helper-scripts\n")
	for _, p := range []string{"old", "helpers"} {
		m.offline("dpkg-deb", "--root-owner-group", "--build", "/var/tmp/"+p, "/var/tmp/"+p+".deb")
		m.offline("dpkg", "--install", "/var/tmp/"+p+".deb")
	}
	m.write("/etc/whonix_firewall.d/30_whonix_gateway_default.conf", "# of before, changed by the user\n")
	m.write("/etc/whonix_firewall.d/50_user.conf", "GATEWAY_ALLOW_INCOMING_SSH=1\n")
	m.install("whonix-networking-helpers", "whonix-firewall")
	for path, want := range map[string]string{
		"/etc/whonix_firewall.d/30_whonix_gateway_default.conf": "# of before, changed by the user\n",
		"/etc/whonix_firewall.d/50_user.conf":                   "GATEWAY_ALLOW_INCOMING_SSH=1\n",
		"/usr/bin/leaktest.whonix-networking-helpers-orig":      "of helper-scripts\n",
		"/usr/libexec/helper-scripts/strings.bsh":               "also of helper-scripts\n",
	} {
		if got, err := os.ReadFile(filepath.Join(m.root, path)); string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(m.root, "/etc/whonix_firewall.d/30_default.conf")); err == nil {
		t.Error("an unchanged file of long before is still there")
	}
	if got, _ := os.Readlink(filepath.Join(m.root, "/usr/lib/whonix-firewall")); got != "../libexec/whonix-firewall" {
		t.Errorf("/usr/lib/whonix-firewall leads to %q", got)
	}
	if out := m.offline("leaktest", "--version"); !strings.HasPrefix(out, "leaktest (whonix-networking)") {
		t.Error(out)
	}
	if out := m.offline("whonix_firewall", "--version"); !strings.HasPrefix(out, "whonix_firewall (whonix-networking)") {
		t.Error(out)
	}
	// A new version of helper-scripts goes where the diversions say.
	m.offline("dpkg", "--install", "/var/tmp/helpers.deb")
	if out := m.offline("leaktest", "--version"); !strings.HasPrefix(out, "leaktest (whonix-networking)") {
		t.Errorf("after an upgrade of helper-scripts: %s", out)
	}
	m.offline("dpkg", "--purge", "whonix-firewall", "whonix-networking-helpers")
	if got, err := os.ReadFile(filepath.Join(m.root, "/usr/bin/leaktest")); string(got) != "of helper-scripts\n" {
		t.Errorf("after removal, leaktest: %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(m.root, "/etc/whonix_firewall.d/50_user.conf")); err != nil {
		t.Errorf("what the user wrote is gone: %v", err)
	}
}
