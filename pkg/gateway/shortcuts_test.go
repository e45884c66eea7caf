// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
)

// shortcut runs one, where programs only say how they were called; those in
// fail end with 3. Nobody presses a key before they have ended.
func (m *machine) shortcut(name string, programs, fail string) (string, error) {
	for _, p := range strings.Fields(programs) {
		text := "#!/bin/sh\necho " + p + " \"$*\"\ncase \"$*\" in " + fail + ") exit 3 ;; esac\n"
		m.write("/usr/bin/"+p, text)
		if err := os.Chmod(m.root.Path("/usr/bin/"+p), 0o755); err != nil {
			m.Fatal(err)
		}
	}
	m.stdout.Reset()
	m.stderr.Reset()
	env := m.env(name, "PATH=/usr/bin:/bin")
	env.Stdin = strings.NewReader("\n")
	err := (&shortcuts{m.root, env, time.Minute}).run(context.Background())
	return m.stdout.String(), err
}

// TestShortcuts: each name does what its menu entry says.
func TestShortcuts(t *testing.T) {
	const end = "Feel free to close this window, or press Enter.\n"
	for _, c := range []struct {
		name, programs, fail, want string
		code                       int
	}{
		{"nyx", "nyx", "none", "nyx \n" + end, 0},
		{"reloadtor", "leaprun", "none", "leaprun reload-tor\nleaprun tor-status\n" + end, 0},
		{"reloadtor", "leaprun", "tor-status", "leaprun restart-tor\nleaprun tor-status\n" + end, 0},
		{"restarttor", "leaprun", "restart-tor", "leaprun restart-tor\nleaprun tor-status\n" + end, 1},
		{"stoptor", "leaprun", "tor-status", "leaprun stop-tor\nleaprun tor-status\n" + end, 0},
		{"stoptor", "", "none", end, 1},
		{"tordata", "sudo lxqt-sudo", "none", "lxqt-sudo env XDG_CURRENT_DESKTOP=X-Generic xdg-open /var/lib/tor\n", 0},
		{"tordata", "lxqt-sudo", "none", "", 1},
		{"torrc", "sudo gsudoedit", "none", "gsudoedit /usr/local/etc/torrc.d/50_user.conf\n", 0},
		{"torrc", "gsudoedit", "none", "", 1},
		{"torrcexamples", "xdg-open", "none", "xdg-open /usr/share/anon-gw-anonymizer-config/torrc.examples\n", 0},
		{"gateway-shortcuts", "", "none", "", 2},
	} {
		m := newMachine(t)
		if got, err := m.shortcut(c.name, c.programs, c.fail); got != c.want || cli.Code(err) != c.code {
			t.Errorf("%s with %q, %s failing: %v\n%s", c.name, c.programs, c.fail, err, got)
		}
		if sudo := strings.Contains(m.stderr.String(), "ERROR: sudo unavailable. Boot into sysmaint session?"); sudo != (c.code == 1 && strings.HasPrefix(c.name, "tor")) {
			t.Errorf("%s: %s", c.name, m.stderr.String())
		}
	}
	m := newMachine(t)
	m.write("/etc/motd", "welcome\n")
	if got, _ := m.shortcut("stoptor", "leaprun", "none"); !strings.HasPrefix(got, "welcome\nleaprun stop-tor\n") {
		t.Errorf("%s", got)
	}
}

// TestShortcutEntries: the menu's entries are valid, and start what is there.
func TestShortcutEntries(t *testing.T) {
	entries, err := filepath.Glob(shippedShare + "gateway-*.desktop")
	if err != nil || len(entries) != 6 {
		t.Fatalf("%v %v", entries, err)
	}
	if out, err := exec.Command("desktop-file-validate", entries...).CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, out)
	}
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(e), "gateway-"), ".desktop")
		want := "\nExec=/usr/libexec/helper-scripts/terminal-wrapper /usr/libexec/gateway-shortcuts/" + name + "\n"
		if name == "torrcexamples" {
			want = "\nExec=/usr/libexec/gateway-shortcuts/" + name + "\n"
		}
		if text := shippedText(t, e); !strings.Contains(text, want) || !strings.Contains(text, "\nKeywords=system;tor;") || !strings.Contains(text, "\nCategories=System") {
			t.Errorf("%s", text)
		}
	}
}
