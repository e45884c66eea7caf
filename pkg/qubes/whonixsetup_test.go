// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"whonix-networking/pkg/whonix"
)

// TestWhonixSetup: the user is told if the check has not found a proxy behind
// Tor, or has not ended in time, in the session's environment.
func TestWhonixSetup(t *testing.T) {
	const told = "update /usr/lib/qubes-whonix/messages.yaml on :0\n"
	for name, c := range map[string]struct {
		files    []string
		patience time.Duration
		want     string
	}{
		"behind Tor":       {[]string{whonix.TemplateMarker, checkDone, secureProxy}, time.Minute, ""},
		"behind Tor, late": {[]string{whonix.TemplateMarker, secureProxy}, 0, ""},
		"clearnet":         {[]string{whonix.TemplateMarker, checkDone}, time.Minute, told},
		"no check":         {[]string{whonix.TemplateMarker}, 20 * time.Millisecond, told},
		"no template":      {nil, time.Minute, ""},
	} {
		m := newMachine(t, whonix.WorkstationMarker)
		for _, f := range c.files {
			m.write(f, "")
		}
		m.program(alertProgram, `echo "$* on $DISPLAY"`)
		env := m.env()
		env.Environ = []string{"DISPLAY=:0"}
		if err := whonixSetup(context.Background(), m.root, env, c.patience, time.Millisecond); err != nil || m.stdout.String() != c.want {
			t.Errorf("%s: %v, %q", name, err, m.stdout.String())
		}
	}
}

// TestWhonixSetupWaits: the check's end is enough, and a session's ends the wait.
func TestWhonixSetupWaits(t *testing.T) {
	m := newMachine(t, whonix.WorkstationMarker)
	m.write(whonix.TemplateMarker, "")
	ended := make(chan error)
	go func() {
		ended <- whonixSetup(context.Background(), m.root, m.env(), time.Hour, time.Millisecond)
	}()
	m.write(checkDone, "")
	if err := <-ended; err == nil || !strings.Contains(err.Error(), alertProgram) {
		t.Errorf("nothing to show it with: %v", err)
	}
	if err := m.root.Remove(checkDone); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := whonixSetup(ctx, m.root, m.env(), time.Hour, time.Hour); code(err) != 1 {
		t.Error(err)
	}
}

// TestMessages: the alert finds what it looks for, and desktops start the
// program.
func TestMessages(t *testing.T) {
	var messages map[string]struct {
		Icon string
		En   struct{ Title, Message string }
	}
	if err := yaml.Unmarshal([]byte(shipped(t, "scripts/qubes-whonix/messages.yaml")), &messages); err != nil {
		t.Fatal(err)
	}
	if m := messages[alertSection]; m.Icon != "Critical" || m.En.Title == "" || !strings.Contains(m.En.Message, "sys-whonix") || !strings.HasPrefix(m.En.Message, "<p>") {
		t.Errorf("%+v", messages)
	}
	const entry = "etc/xdg/autostart/qubes-whonixsetup.desktop"
	if out, err := exec.Command("desktop-file-validate", top+"/"+entry).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v %s", err, out)
	}
	if !strings.Contains(shipped(t, entry), "\nExec=/usr/lib/qubes-whonix/qubes-whonixsetup\n") || !strings.Contains(shipped(t, "scripts/packages/qubes-whonix/files"), "\nprogram qubes-whonixsetup /usr/lib/qubes-whonix/qubes-whonixsetup\n") {
		t.Error("the entry starts something else than is installed")
	}
}
