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
		"/usr/libexec/helper-scripts/detect-ipv6-enabled-in-kernel"} {
		m.write(program, "#!/bin/sh\n")
		if err := os.Chmod(m.root.Path(program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"anon-ws-disable-stacked-tor.service", "detect-ipv6-enabled-in-kernel.service"} {
		data, err := os.ReadFile("../../systemd/system/" + name)
		if err != nil {
			t.Fatal(err)
		}
		m.write(systemUnits+"/"+name, string(data))
	}
	for _, target := range []string{"sysinit", "basic", "sockets", "shutdown", "network", "multi-user"} {
		m.write("/usr/lib/systemd/system/"+target+".target", "[Unit]\n")
	}
	units, err := filepath.Glob(m.root.Path(systemUnits) + "/*.s*")
	if err != nil || len(units) != 42 {
		t.Fatalf("%d units, %v", len(units), err)
	}
	args := []string{"verify", "--man=no", "--root=" + string(m.root)}
	for _, u := range units {
		m.write(shippedUnits+"/"+filepath.Base(u), m.read(systemUnits+"/"+filepath.Base(u)))
		if !strings.Contains(u, "::1") { // to systemd-analyze what follows a colon is an alias
			args = append(args, filepath.Base(u))
		}
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "anon-ws-disable-stacked-tor") || strings.Contains(string(out), "detect-ipv6") {
		t.Errorf("%v: %s", err, out)
	}
}
