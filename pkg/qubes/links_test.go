// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// TestRepairLinks: what Qubes has replaced is a link again, and kept; links that
// lead elsewhere, and names of which there is no other file, are left alone.
func TestRepairLinks(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.write("/etc/resolv.conf.whonix", "# none\n")
	m.write("/etc/resolv.conf", "nameserver 10.139.1.1\n")
	m.write("/etc/hosts.anondist", "127.0.0.1 localhost\n")
	if err := os.Symlink("/usr/share/hosts", m.root.Path("/etc/hosts")); err != nil {
		t.Fatal(err)
	}
	m.write("/etc/hostname", "host\n")
	run := func() {
		t.Helper()
		if err := postinit(context.Background(), m.root, m.env()); err != nil {
			t.Fatal(err)
		}
	}
	run()
	if to, err := os.Readlink(m.root.Path("/etc/resolv.conf")); err != nil || to != "resolv.conf.whonix" || m.read("/etc/resolv.conf.replaced") != "nameserver 10.139.1.1\n" {
		t.Errorf("it leads to %q, %v; kept: %q", to, err, m.read("/etc/resolv.conf.replaced"))
	}
	if to, err := os.Readlink(m.root.Path("/etc/hosts")); err != nil || to != "/usr/share/hosts" {
		t.Errorf("a link was replaced: %q, %v", to, err)
	}
	if fi, err := os.Lstat(m.root.Path("/etc/hostname")); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("a file was replaced: %v", err)
	}
	if got := m.stdout.String(); got != "INFO: /etc/resolv.conf is a link to resolv.conf.whonix again\n" {
		t.Errorf("said %q", got)
	}
	before := m.state()
	run()
	if m.state() != before {
		t.Error("again: something was written")
	}
	if err := m.root.Remove("/etc/resolv.conf"); err != nil {
		t.Fatal(err)
	}
	run()
	if m.read("/etc/resolv.conf") != "# none\n" {
		t.Error("a missing link is not made")
	}
	for _, name := range []string{"/etc/hosts", "/etc/hosts.replaced"} {
		if err := m.root.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(m.root.Path("/etc/hosts"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := postinit(context.Background(), m.root, m.env()); err == nil || !strings.Contains(err.Error(), "/etc/hosts is neither") {
		t.Errorf("a directory: %v", err)
	}
}

// TestRepairImmutable: a file that was made immutable against whatever replaced it
// is replaced, on a file system that has the flag.
func TestRepairImmutable(t *testing.T) {
	var m *machine
	var out []byte
	err := errors.New("no directory")
	for _, dir := range []string{"", "/var/tmp", "."} {
		root, failed := os.MkdirTemp(dir, "links")
		if failed != nil {
			t.Fatal(failed)
		}
		defer os.RemoveAll(root)
		m = &machine{t: t, root: fsx.Root(root)}
		m.write("/etc/hosts.anondist", "127.0.0.1 localhost\n")
		m.write("/etc/hosts", "other\n")
		if out, err = exec.Command("chattr", "+i", m.root.Path("/etc/hosts")).CombinedOutput(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	defer func() { _ = clearImmutable(m.root.Path("/etc/hosts.replaced")) }()
	if err := os.Remove(m.root.Path("/etc/hosts")); err == nil {
		t.Fatal("the flag does nothing")
	}
	if err := repairLinks(m.root, m.env()); err != nil || m.read("/etc/hosts") != "127.0.0.1 localhost\n" {
		t.Errorf("%v, %q", err, m.read("/etc/hosts"))
	}
}
