// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"context"
	"os"
	"strings"
	"testing"
)

// TestPtraceScope: at the scope that Yama has here, the launcher finds the mode
// that works for this user, and says of the other why it does not. It needs the
// loopback interface only, and runs as any user; see scripts/vm.
func TestPtraceScope(t *testing.T) {
	scope := ptraceScope()
	permitted := scope == "unknown" || scope == "0" || os.Getuid() == 0 && scope != "3"
	t.Logf("ptrace_scope %s, uid %d: reading permitted %v", scope, os.Getuid(), permitted)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	env := []string{"BIND_ADDR=127.0.0.9"}
	steps := []string{"socket tcp", "bind 127.0.0.1:7777", "name", "listen", "name", "socket udp", "connect 127.0.0.1:53", "uring"}
	out, err := run{env: env, args: probing(t, ModeAuto, steps...)}.command(ctx, t).CombinedOutput()
	lines := strings.Split(string(out), "\n")
	if err != nil || len(lines) < 6 {
		t.Fatalf("%v: %s", err, out)
	}
	// What is bound is to be seen at once where addresses can be read, else
	// from listen on.
	before := "name 127.0.0.1:7777"
	if permitted {
		before = "name 127.0.0.9:7777"
	}
	if lines[0] != "bind ok" || lines[1] != before || lines[2] != "listen ok" || lines[3] != "name 127.0.0.9:7777" || lines[4] != "connect ok" || lines[5] != "uring ENOSYS" {
		t.Errorf("%q", lines)
	}
	out, err = run{env: env, args: probing(t, ModeAddress, "socket tcp", "bind 127.0.0.1:7778", "name")}.command(ctx, t).CombinedOutput()
	if permitted {
		if err != nil || string(out) != "bind ok\nname 127.0.0.9:7778\n" {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	if err == nil || !strings.Contains(string(out), "mode address is not permitted here") || !strings.Contains(string(out), "ptrace_scope "+scope) {
		t.Errorf("%v: %s", err, out)
	}
}
