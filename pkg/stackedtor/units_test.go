// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits: systemd accepts what is generated and what is shipped.
func TestUnits(t *testing.T) {
	m := newMachine(t)
	if err := m.generate(); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{relayPath, "/usr/libexec/anon-ws-disable-stacked-tor/state-files", "/usr/libexec/anon-ws-disable-stacked-tor/socat-unix-sockets",
		"/usr/libexec/helper-scripts/detect-ipv6-enabled-in-kernel", "/usr/libexec/whonix-ws-network-conf/resolv-conf-repair", "/usr/bin/tor", "/bin/kill", generatorPath} {
		m.write(program, "#!/bin/sh\n")
		if err := os.Chmod(m.root.Path(program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(m.root.Path(shippedUnits), os.DirFS(top+"/systemd/system")); err != nil {
		t.Fatal(err)
	}
	// As Debian's, as far as the drop-ins are about it.
	for _, name := range []string{"tor.service", "tor@default.service", "tor@.service"} {
		m.write(shippedUnits+"/"+name, "[Service]\nType=notify\nExecStartPre=/usr/bin/tor --verify-config\nExecStart=/usr/bin/tor\n")
	}
	for _, target := range []string{"sysinit", "basic", "sockets", "shutdown", "network", "network-pre", "nss-lookup", "local-fs", "multi-user"} {
		m.write("/usr/lib/systemd/system/"+target+".target", "[Unit]\n")
	}
	units, err := filepath.Glob(m.root.Path(systemUnits) + "/*.s*")
	if err != nil || len(units) != 40 {
		t.Fatalf("%d units, %v", len(units), err)
	}
	args := []string{"verify", "--man=no", "--root=" + string(m.root), "anon-ws-disable-stacked-tor.service", "detect-ipv6-enabled-in-kernel.service",
		"resolv-conf-repair.service", "redirections-after-mounts.service", "tor.service", "tor@default.service", "tor@other.service"}
	for _, u := range units {
		m.write(shippedUnits+"/"+filepath.Base(u), m.read(systemUnits+"/"+filepath.Base(u)))
		if !strings.Contains(u, "::1") { // to systemd-analyze what follows a colon is an alias
			args = append(args, filepath.Base(u))
		}
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
