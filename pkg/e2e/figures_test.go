// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/netlab"
)

// alone gives a machine a network that leads nowhere.
func (m *machine) alone(interfaces ...string) {
	m.t.Helper()
	for i, name := range interfaces {
		end, err := netlab.New(fmt.Sprintf("%s-%d", m.name, i))
		must(m.t, err)
		m.t.Cleanup(end.Close)
		if m.ns == nil {
			m.ns, err = netlab.New(m.name)
			must(m.t, err)
			m.t.Cleanup(m.ns.Close)
		}
		must(m.t, netlab.Connect(netlab.Port{Namespace: m.ns, Interface: name}, netlab.Port{Namespace: end, Interface: "eth0"}))
	}
}

// socketsAfter is how long after systemd began all sockets listened.
func (m *machine) socketsAfter() time.Duration {
	m.t.Helper()
	out := m.does("systemctl", "show", "--property=UserspaceTimestampMonotonic", "--value")
	begin, err := strconv.Atoi(strings.TrimSpace(out))
	must(m.t, err)
	end, err := strconv.Atoi(m.property("sockets.target", "ActiveEnterTimestampMonotonic"))
	must(m.t, err)
	return time.Duration(end-begin) * time.Microsecond
}

// TestBootTime: the Workstation's sockets listen at most half as long again
// after the boot as those of the same Debian without our packages.
func TestBootTime(t *testing.T) {
	const boots = 5
	plain, ours := newMachine(t, "plain"), newMachine(t, "workstation")
	ours.install(workstationPackages()...)
	ours.write("/usr/share/anon-ws-base-files/workstation", "")
	for _, m := range []*machine{plain, ours} {
		m.alone("eth0")
	}
	var times [2][]time.Duration
	for range boots {
		for i, m := range []*machine{plain, ours} {
			m.boot()
			times[i] = append(times[i], m.socketsAfter())
			m.off()
		}
	}
	for i := range times {
		slices.Sort(times[i])
	}
	without, with := times[0][boots/2], times[1][boots/2]
	t.Logf("sockets listen after %v without our packages, %v with them: %.2f", without, with, float64(with)/float64(without))
	if with*2 > without*3 {
		t.Errorf("more than 1.5 times as long: %v", times)
	}
}

// TestDaemons: what runs for long is confined and small.
func TestDaemons(t *testing.T) {
	for name, c := range map[string]struct {
		packages []string
		marker   string
		nics     []string
	}{
		"gateway":     {gatewayPackages(), "/usr/share/anon-gw-base-files/gateway", []string{"eth0", "eth1"}},
		"workstation": {workstationPackages(), "/usr/share/anon-ws-base-files/workstation", []string{"eth0"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, name)
			m.install(c.packages...)
			m.write(c.marker, "")
			m.alone(c.nics...)
			if state := m.boot(); state != "running" {
				t.Errorf("%s: %s\n%s", state, m.failed(), m.console())
			}
			for _, p := range c.packages {
				for path := range strings.FieldsSeq(m.does("dpkg", "--listfiles", p)) {
					unit, found := strings.CutPrefix(path, "/usr/lib/systemd/system/")
					if !found || !strings.HasSuffix(unit, ".service") || strings.Contains(unit, "/") {
						continue
					}
					kind, state := m.property(unit, "Type"), m.property(unit, "ActiveState")
					if kind == "oneshot" {
						continue
					}
					exposure := m.exposure(unit)
					t.Logf("%-60s %s, exposure %.1f, %s KiB", unit, state, exposure, m.resident(unit))
					if exposure > allowed(unit) {
						t.Errorf("%s: exposure %.1f", unit, exposure)
					}
				}
			}
		})
	}
}

// allowed is the exposure that a unit may have.
func allowed(unit string) float64 {
	switch unit {
	case "anon-ws-disable-stacked-tor.service": // its children are whatever a fragment of the administrator's starts
		return 4
	case "whonix-firewall-restarter.service": // it shuts the network, interfaces too, where nothing else can
		return 2.2
	}
	return 2
}

// exposure is systemd's rating of a unit, from 0 to 10.
func (m *machine) exposure(unit string) float64 {
	m.t.Helper()
	out := m.does("systemd-analyze", "security", "--no-pager", unit)
	_, rest, found := strings.Cut(out, "Overall exposure level for "+unit+": ")
	text, _, _ := strings.Cut(rest, " ")
	x, err := strconv.ParseFloat(text, 64)
	if !found || err != nil {
		m.t.Fatalf("%s: %q, %v", unit, text, err)
	}
	return x
}

// resident is the memory of a unit's main process, in KiB, or 0.
func (m *machine) resident(unit string) string {
	m.t.Helper()
	out, _ := m.try("sed", "-n", "s/^VmRSS:[[:space:]]*\\([0-9]*\\) kB/\\1/p", "/proc/"+m.property(unit, "MainPID")+"/status")
	if out = strings.TrimSpace(out); out == "" {
		out = "0"
	}
	return out
}

// TestSize: all programs together take at most 100 MiB.
func TestSize(t *testing.T) {
	const most = 100 << 10 // KiB
	dest := t.TempDir()
	install := exec.Command("scripts/install-package", dest)
	install.Dir = "../.."
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command("du", "--summarize", "--block-size=1K", dest).Output()
	must(t, err)
	text, _, _ := strings.Cut(string(out), "\t")
	size, err := strconv.Atoi(text)
	must(t, err)
	t.Logf("%d KiB", size)
	if size > most {
		t.Errorf("more than %d KiB", most)
	}
}
