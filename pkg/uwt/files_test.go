// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// packaged is what the package's list installs: by path, the file of this tree,
// or "->" and what a link leads to.
func packaged(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../scripts/packages/uwt/files")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		switch f := strings.Fields(line); {
		case len(f) == 0 || f[0] == "#":
		case f[0] == "program":
			out[f[2]] = binaries + "/" + f[1]
		case f[0] == "file":
			out[f[2]] = "../../" + f[1]
		case f[0] == "link":
			out[f[2]] = "->" + f[1]
		}
	}
	return out
}

// TestPackage: every path of today and of 2020 is there, and leads to what it
// should.
func TestPackage(t *testing.T) {
	files := packaged(t)
	follow := func(p string) string {
		for range 5 {
			target, link := strings.CutPrefix(files[p], "->")
			if !link {
				break
			}
			p = path.Join(path.Dir(p), target)
		}
		return p
	}
	want := map[string]string{
		"/usr/lib/uwtwrapper": wrapperPath, "/usr/lib/uwtexec": uwtexecPath, "/usr/lib/uwt/uwt.sh": "/usr/libexec/uwt/uwt.sh",
		"/usr/bin/uwt_settings_show": "/usr/bin/uwt-settings-show", "/usr/lib/uwt_settings_show": "/usr/bin/uwt-settings-show",
		"/usr/bin/time_privacy": "/usr/bin/time-privacy", "/etc/zprofile.d/20_uwt.zsh": "/etc/profile.d/20_uwt.sh",
		"/etc/X11/Xsession.d/20_uwt": "/etc/profile.d/20_uwt.sh",
	}
	for _, name := range strings.Fields("apt apt-file apt-get aptitude-curses curl dnf-3 git gpg gpg2 mixmaster-update onionshare onionshare-cli" +
		" onionshare-gui rawdog ricochet ssh wget wormhole yum yumdownloader") {
		want["/usr/bin/"+name+wrapperSuffix] = wrapperPath
	}
	for p, end := range want {
		if got := follow(p); got != end || files[end] == "" {
			t.Errorf("%s leads to %s, want %s", p, got, end)
		}
	}
	for p := range files {
		if strings.HasSuffix(p, wrapperSuffix) && strings.HasPrefix(p, "/usr/bin/") && want[p] == "" {
			t.Errorf("%s is a wrapper that nobody asked for", p)
		}
	}
}

// inForce is the lines of a file that are neither empty nor comments.
func inForce(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out
}

// TestSettingsOfOthers: what torsocks, sudo and privleap are told.
func TestSettingsOfOthers(t *testing.T) {
	for file, want := range map[string][]string{
		"tor/torsocks.conf.anondist": {"TorAddress 127.0.0.1", "TorPort 9050", "OnionAddrRange 127.42.42.0/24", "AllowInbound 1", "AllowOutboundLocalhost 1", "IsolatePID 1"},
		"sudoers.d/uwt":              nil,
		"privleap/conf.d/uwt.conf": {"[action:try-wait-for-tor-service-running]", "Command=/usr/libexec/helper-scripts/try-wait-for-tor-service-running",
			"AuthorizedGroups=sudo,privleap", "AuthorizedUsers=user"},
		"uwt.d/30_uwt_default.conf":         {`uwtwrapper_global="1"`},
		"uwt.d/30_timeprivacy_default.conf": {`timeprivacy_global="0"`},
	} {
		if got := inForce(t, "../../etc/"+file); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

// TestLogin: the hooks of login shells, X sessions and the message of the day
// do what they should, and nothing where the rest is gone.
func TestLogin(t *testing.T) {
	m := newMachine(t)
	files := packaged(t)
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if strings.HasPrefix(p, "/etc/profile.d/") || strings.HasPrefix(p, "/etc/update-motd.d/") {
			m.copy(files[p], p)
		}
	}
	const login = "set -e; . /etc/profile.d/20_uwt.sh; echo \"level $TORSOCKS_LOG_LEVEL\"; /etc/update-motd.d/40_uwt"
	for _, shell := range []string{"sh", "bash"} {
		if s := m.run(shell + " -c '" + login + "'").want(0).quiet(); s.stdout != "level \n" {
			t.Errorf("%s, nothing installed: %q", shell, s.stdout)
		}
	}
	m.copy(files["/usr/libexec/uwt/uwt.sh"], "/usr/libexec/uwt/uwt.sh")
	m.copy(files["/usr/bin/uwt-settings-show"], "/usr/bin/uwt-settings-show")
	for _, shell := range []string{"sh", "bash"} {
		if s := m.run(shell + " -c '" + login + "'").want(0).quiet(); !strings.HasPrefix(s.stdout, "level 1\nuwt INFO: Stream isolation for some applications enabled.") {
			t.Errorf("%s: %q", shell, s.stdout)
		}
	}
	m.write("/usr/libexec/uwt/uwt.sh", "false\n", 0o755)
	m.run("sh -c '" + login + "'").want(0)
}
