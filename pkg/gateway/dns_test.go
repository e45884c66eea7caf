// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"whonix-networking/pkg/cli"
)

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }

func (m *machine) dns(environ []string, args ...string) error {
	env := m.env("anon-dns", environ...)
	env.Args = append(env.Args, args...)
	return (&resolver{m.root, env, 0, func(string) (string, bool) { return "", false }}).run()
}

// TestAcceptance13_DNS: added once, taken away without a trace, and a mistyped
// word changes nothing (defects 19 and 20).
func TestAcceptance13_DNS(t *testing.T) {
	for _, text := range []string{shippedText(t, top+"/scripts/whonix-gw-network-conf/resolv.conf.whonix"), "nameserver 10x0.2.3", "", "\n\n"} {
		m := newMachine(t)
		m.write("/etc/resolv.conf.whonix", text)
		if err := os.Symlink("resolv.conf.whonix", m.root.Path(resolvPath)); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"add"}, {"add"}, nil} {
			if err := m.dns(nil, args...); err != nil || strings.Count("\n"+m.read("/etc/resolv.conf.whonix"), "\nnameserver 10.0.2.3\n") != 1 {
				t.Errorf("%v: %v\n%s", args, err, m.read(resolvPath))
			}
		}
		if err := m.dns([]string{"dns_server=192.0.2.1"}, "add"); err != nil || strings.Contains("\n"+m.read(resolvPath), "\nnameserver 10.0.2.3\n") {
			t.Errorf("another server: %v\n%s", err, m.read(resolvPath))
		}
		for range 2 {
			if err := m.dns([]string{"dns_server=no address"}, "remove"); err != nil || m.read("/etc/resolv.conf.whonix") != text {
				t.Errorf("remove: %v %q, want %q", err, m.read(resolvPath), text)
			}
		}
		if target, err := os.Readlink(m.root.Path(resolvPath)); err != nil || target != "resolv.conf.whonix" {
			t.Errorf("the link: %s %v", target, err)
		}
		before := m.state()
		for _, c := range []struct {
			environ string
			args    []string
			code    int
		}{
			{"", []string{"rmove"}, 2}, {"", []string{"add", "x"}, 2}, {"", []string{""}, 2}, {"dns_server=10.0.2.3\nnameserver 8.8.8.8", nil, 1}, {"dns_server=example.com", nil, 1}, {"dns_server=fe80::1%eth0", nil, 1},
		} {
			if err := m.dns([]string{c.environ}, c.args...); cli.Code(err) != c.code || m.state() != before {
				t.Errorf("%q %q: %v", c.environ, c.args, err)
			}
		}
	}
}

// TestDNSOthers: what there is already, what is missing, what cannot be written.
func TestDNSOthers(t *testing.T) {
	m := newMachine(t)
	m.write(resolvPath, " nameserver\t10.0.2.3\n")
	before := m.state()
	if err := m.dns(nil, "add"); err != nil || m.state() != before {
		t.Errorf("there already: %v", err)
	}
	m = newMachine(t)
	if err := m.dns([]string{"dns_server=2001:db8::53"}, "add"); err != nil || !strings.Contains(m.read(resolvPath), "\nnameserver 2001:db8::53\n") {
		t.Errorf("a missing file: %v", err)
	}
	m.write(resolvPath, "a\n"+dnsBegin+"\nnameserver 10.0.2.3\nsearch example\n")
	before = m.state()
	if err := m.dns(nil, "remove"); err == nil || !strings.Contains(err.Error(), resolvPath+":2:") || m.state() != before {
		t.Errorf("a block without an end: %v", err)
	}
	if err := os.Remove(m.root.Path(resolvPath)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", m.root.Path(resolvPath)); err != nil {
		t.Fatal(err)
	}
	if err := m.dns(nil, "add"); cli.Code(err) != 1 {
		t.Errorf("/dev/null: %v", err)
	}
	m = newMachine(t)
	if err := os.MkdirAll(m.root.Path(resolvPath), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.dns(nil, "add"); cli.Code(err) != 1 {
		t.Errorf("a directory: %v", err)
	}
	env := m.env("anon-dns")
	if err := (&resolver{m.root, env, 1000, nil}).run(); cli.Code(err) != 1 || !strings.Contains(err.Error(), "root") {
		t.Errorf("not root: %v", err)
	}
	m = newMachine(t)
	r := &resolver{m.root, m.env("anon-dns"), 0, func(key string) (string, bool) { return "10.139.1.1", key == "/qubes-primary-dns" }}
	if err := r.run(); err != nil || !strings.Contains(m.read(resolvPath), "\nnameserver 10.139.1.1\n") {
		t.Errorf("Qubes: %v", err)
	}
}
