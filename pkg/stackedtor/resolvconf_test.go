// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"errors"
	"os"
	"strings"
	"testing"

	"whonix-networking/pkg/cli"
)

// TestRepairResolvConf: whatever has replaced the link is kept, said, and
// replaced by it (defect 45).
func TestRepairResolvConf(t *testing.T) {
	for name, put := range map[string]func(m *machine) error{
		"right":    func(m *machine) error { return os.Symlink("resolv.conf.whonix", m.root.Path(resolvConf)) },
		"missing":  func(*machine) error { return nil },
		"file":     func(m *machine) error { m.write(resolvConf, "nameserver 192.0.2.1\n"); return nil },
		"link":     func(m *machine) error { return os.Symlink("../run/resolvconf/resolv.conf", m.root.Path(resolvConf)) },
		"replaced": func(m *machine) error { m.write(resolvConf, "x"); m.write(resolvConfReplaced, "older"); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.write(resolvConfGateway, "nameserver 10.152.152.10\n")
			if err := put(m); err != nil {
				t.Fatal(err)
			}
			before, beforeErr := os.ReadFile(m.root.Path(resolvConf))
			if err := repairResolvConf(m.root, cli.Env{Stdout: &m.stdout}); err != nil {
				t.Fatal(err)
			}
			if to, _ := os.Readlink(m.root.Path(resolvConf)); to != "resolv.conf.whonix" {
				t.Errorf("it leads to %q", to)
			}
			if said := m.stdout.Len() > 0; said == (name == "right") {
				t.Errorf("said: %q", m.stdout.String())
			}
			kept, err := os.ReadFile(m.root.Path(resolvConfReplaced))
			if name == "file" || name == "replaced" {
				if beforeErr != nil || err != nil || string(kept) != string(before) {
					t.Errorf("kept %q, %v; it was %q", kept, err, before)
				}
			}
			m.stdout.Reset()
			if err := repairResolvConf(m.root, cli.Env{Stdout: &m.stdout}); err != nil || m.stdout.Len() > 0 {
				t.Errorf("again: %v %q", err, m.stdout.String())
			}
		})
	}
}

// TestRepairWithoutSource: a link to nothing would be worse than what is there.
func TestRepairWithoutSource(t *testing.T) {
	m := newMachine(t)
	m.write(resolvConf, "nameserver 192.0.2.1\n")
	err := repairResolvConf(m.root, cli.Env{Stdout: &m.stdout})
	var hinted *cli.Hinted
	if !errors.As(err, &hinted) || !strings.Contains(err.Error(), resolvConfGateway) || m.read(resolvConf) != "nameserver 192.0.2.1\n" {
		t.Errorf("%v, %q", err, m.read(resolvConf))
	}
}
