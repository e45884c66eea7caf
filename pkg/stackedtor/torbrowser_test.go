// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// torBrowser is the contract's table (G).
func torBrowser() []string {
	return []string{"TOR_CONTROL_IPC_PATH=/run/anon-ws-disable-stacked-tor/127.0.0.1_9151.sock", "TOR_NO_DISPLAY_NETWORK_SETTINGS=1", "TOR_SKIP_CONTROLPORTTEST=1",
		"TOR_SKIP_LAUNCH=1", "TOR_SOCKS_IPC_PATH=/run/anon-ws-disable-stacked-tor/127.0.0.1_9150.sock", "TOR_USE_LEGACY_LAUNCHER=1"}
}

// session runs a command in a mount namespace where torbrowser.sh has the given
// text and mode; there is none for mode 0. It returns the variables that begin
// with TOR_, sorted, and all other output.
func session(t *testing.T, text string, mode os.FileMode, command ...string) (set []string, rest string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "torbrowser.sh")
	if mode != 0 {
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	const prepare = `set -e
mount -t tmpfs tmpfs /usr/libexec
mkdir /usr/libexec/anon-ws-disable-stacked-tor
if [ -e "$1" ]; then cp --preserve=mode "$1" /usr/libexec/anon-ws-disable-stacked-tor/; fi
shift
exec env --ignore-environment PATH=/usr/bin:/bin "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "--", "sh", "-c", prepare, "sh", file}, command...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v: %s", command, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, "TOR_") {
			set = append(set, line)
		} else {
			rest += line + "\n"
		}
	}
	slices.Sort(set)
	return set, rest
}

// TestTorBrowserHook: whatever stands in torbrowser.sh, a session begins, and
// says nothing (defect 43).
func TestTorBrowserHook(t *testing.T) {
	hook, err := filepath.Abs(top + "/etc/profile.d/20_torbrowser.sh")
	if err != nil {
		t.Fatal(err)
	}
	good := shippedText(t, "scripts/anon-ws-disable-stacked-tor/torbrowser.sh")
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want []string
	}{
		"shipped":        {good, 0o755, torBrowser()},
		"switched off":   {good, 0o644, nil},
		"absent":         {"", 0, nil},
		"syntax error":   {"if true\nexport TOR_X=1\n", 0o755, nil},
		"unended quote":  {"export TOR_X='1\n", 0o755, nil},
		"exit":           {"exit 3\n", 0o755, nil},
		"exit 0":         {"export TOR_X=1\nexit 0\n", 0o755, nil},
		"fails":          {"export TOR_X=1\nfalse\n", 0o755, []string{"TOR_X=1"}},
		"noise":          {"echo noise; echo noise >&2\nnonsense\nexport TOR_X=1\n", 0o755, []string{"TOR_X=1"}},
		"unset variable": {"export TOR_X=\"$nothing\"\n", 0o755, []string{"TOR_X="}},
	} {
		for _, shell := range [][]string{{"dash"}, {"dash", "-e"}, {"bash"}, {"bash", "-e"}, {"bash", "--posix"}, {"busybox", "sh"}} {
			command := append(slices.Clone(shell), "-c", `before=$-; . "$1"; [ "$before" = "$-" ] && echo begun; env`, "sh", hook)
			set, rest := session(t, c.text, c.mode, command...)
			if !slices.Equal(set, c.want) || !strings.HasPrefix(rest, "begun\n") || strings.Contains(rest, "noise") {
				t.Errorf("%s, %q: %q, want %q; %s", name, shell, set, c.want, rest)
			}
		}
	}
}

// TestTorBrowserWithoutProfile: systemd's user services get the same, and
// nothing where it is switched off.
func TestTorBrowserWithoutProfile(t *testing.T) {
	generator, err := filepath.Abs(top + "/systemd/user-environment-generators/20-torbrowser")
	if err != nil {
		t.Fatal(err)
	}
	good := shippedText(t, "scripts/anon-ws-disable-stacked-tor/torbrowser.sh")
	for mode, want := range map[os.FileMode][]string{0o755: torBrowser(), 0o644: nil} {
		if set, rest := session(t, good, mode, "sh", generator); !slices.Equal(set, want) || rest != "" {
			t.Errorf("%v: %q %q", mode, set, rest)
		}
	}
}
