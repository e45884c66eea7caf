// SPDX-License-Identifier: GPL-3.0-or-later

package house

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const top = "../.."

// commands are the names of all programs.
func commands(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob(top + "/cmd/*/main.go")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	for i, d := range dirs {
		dirs[i] = filepath.Base(filepath.Dir(d))
	}
	return dirs
}

func text(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(top, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestPrograms: every program has a short main, tests beside it, a manual page
// with a SECURITY section, and a row in the README.
func TestPrograms(t *testing.T) {
	const linesMax = 60
	readme := text(t, "README.md")
	for _, name := range commands(t) {
		main := text(t, "cmd/"+name+"/main.go")
		if n := strings.Count(main, "\n"); n > linesMax {
			t.Errorf("cmd/%s/main.go has %d lines, more than %d", name, n, linesMax)
		}
		if !strings.Contains(main, "\n// Command "+name+" ") {
			t.Errorf("cmd/%s/main.go has no package comment", name)
		}
		if found, _ := filepath.Glob(top + "/cmd/" + name + "/*_test.go"); len(found) == 0 {
			t.Errorf("cmd/%s has no tests", name)
		}
		if !strings.Contains(readme, "| `"+name+"`") {
			t.Errorf("README.md has no row for %s", name)
		}
		pages, _ := filepath.Glob(top + "/man/" + name + ".[1-8]")
		if len(pages) != 1 {
			t.Errorf("%s has %d manual pages", name, len(pages))
			continue
		}
		page, err := os.ReadFile(pages[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range []string{".Sh SECURITY", ".Sh EXIT STATUS", "Fl -version"} {
			if !strings.Contains(string(page), section) {
				t.Errorf("%s has no %s", pages[0], section)
			}
		}
	}
}

// TestPackageNames: a name says what a package is about.
func TestPackageNames(t *testing.T) {
	entries, err := os.ReadDir(top + "/pkg")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "misc"}, e.Name()) {
			t.Errorf("pkg/%s: the name says nothing", e.Name())
		}
	}
}

// built makes, once, what is there to be installed.
var built = sync.OnceValue(func() error {
	build := exec.Command("make", "--silent", "all", "library")
	build.Dir = top
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
})

// installed runs the installation into an empty directory and lists what is
// there, by path.
func installed(t *testing.T) (dest string, files map[string]fs.FileMode) {
	t.Helper()
	dest = t.TempDir()
	if err := built(); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("scripts/install-package", dest)
	install.Dir = top
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files = map[string]fs.FileMode{}
	err := filepath.WalkDir(dest, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var fi fs.FileInfo
			if fi, err = e.Info(); err == nil {
				files[strings.TrimPrefix(p, dest)] = fi.Mode()
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dest, files
}

// TestInstall: the known paths are there with the known modes, links lead
// somewhere, and no file of the tree was forgotten.
func TestInstall(t *testing.T) {
	dest, files := installed(t)
	for path, mode := range files {
		if mode&fs.ModeSymlink != 0 {
			target, _ := os.Readlink(dest + path)
			if target == os.DevNull { // what masks a file of systemd's
				continue
			}
			if _, err := os.Stat(dest + path); err != nil || filepath.IsAbs(target) {
				t.Errorf("%s: link to %s leads nowhere, or is not relative", path, target)
			}
		}
	}
	for path, perm := range map[string]fs.FileMode{
		"/usr/bin/bindp-launcher":                                                             0o755,
		"/usr/lib/libindp.so":                                                                 0o644,
		"/usr/bin/whonix-firewall":                                                            0o755,
		"/usr/libexec/whonix-firewall/enable-firewall":                                        0o755,
		"/usr/libexec/whonix-firewall/firewall-restarter":                                     0o755,
		"/usr/libexec/whonix-firewall/stream-isolation-test":                                  0o755,
		"/etc/whonix_firewall.d/30_whonix_gateway_default.conf":                               0o644,
		"/usr/lib/systemd/system/whonix-firewall.service":                                     0o644,
		"/usr/share/applications/whonix-reloadfirewall.desktop":                               0o644,
		"/etc/apparmor.d/whonix-firewall":                                                     0o644,
		"/usr/share/man/man8/whonix-firewall.8":                                               0o644,
		"/usr/share/bash-completion/completions/whonix-firewall":                              0o644,
		"/usr/lib/sysusers.d/whonix-firewall.conf":                                            0o644,
		"/usr/lib/tmpfiles.d/whonix-firewall.conf":                                            0o644,
		"/usr/lib/systemd/system/whonix-firewall-restarter.service":                           0o644,
		"/usr/lib/systemd/system-preset/50-whonix-firewall.preset":                            0o644,
		"/usr/share/man/man5/whonix_firewall.d.5":                                             0o644,
		"/usr/lib/systemd/system/whonix-firewall-early.service":                               0o644,
		"/etc/whonix_firewall.d/30_whonix_host_default.conf":                                  0o644,
		"/etc/whonix_firewall.d/30_whonix_workstation_default.conf":                           0o644,
		"/usr/libexec/whonix-firewall/whonix-firewall-starter":                                0o755,
		"/usr/libexec/sdwdate/sdwdate":                                                        0o755,
		"/usr/bin/sdwdate":                                                                    0o755,
		"/usr/bin/url-to-unixtime":                                                            0o755,
		"/usr/bin/minimum-unixtime-show":                                                      0o755,
		"/usr/sbin/anondate":                                                                  0o755,
		"/usr/bin/timesanitycheck":                                                            0o755,
		"/usr/share/sdwdate/onion-tester":                                                     0o755,
		"/etc/sdwdate.d/30_default.conf":                                                      0o644,
		"/etc/sudoers.d/sdwdate":                                                              0o440,
		"/usr/lib/systemd/system/sdwdate.service":                                             0o644,
		"/usr/lib/systemd/system/systemd-timesyncd.service.d/40_sdwdate.conf":                 0o644,
		"/usr/lib/qubes-bind-dirs.d/40_sdwdate.conf":                                          0o644,
		"/usr/bin/whonix-lab":                                                                 0o755,
		"/usr/share/applications/whonix-firewall50user.desktop":                               0o644,
		"/usr/share/applications/whonix-firewall30default.desktop":                            0o644,
		"/usr/lib/systemd/system/networking.service.d/30_whonix-gw-firewall-fail-closed.conf": 0o644,
		"/usr/lib/systemd/system/anon-ws-disable-stacked-tor_autogen_port_9050.socket":        0o644,
		"/usr/lib/systemd/system/anon-ws-disable-stacked-tor_autogen__run_tor_socks.service":  0o644,
		"/usr/libexec/anon-ws-disable-stacked-tor/torbrowser.sh":                              0o755,
		"/etc/profile.d/20_torbrowser.sh":                                                     0o755,
		"/usr/lib/systemd/user-environment-generators/20-torbrowser":                          0o755,
		"/usr/share/anon-ws-disable-stacked-tor/control.authcookie":                           0o644,
		"/etc/anon-ws-disable-stacked-tor.d/30_anon-dist.conf":                                0o644,
		"/etc/default/tor.anondist":                                                           0o644,
		"/etc/network/interfaces.d/30_non-qubes-whonix":                                       0o644,
		"/etc/resolv.conf.whonix":                                                             0o644,
		"/usr/bin/permission-hardener":                                                        0o755,
		"/usr/bin/remount-secure":                                                             0o755,
		"/usr/libexec/security-misc/remove-system.map":                                        0o755,
		"/usr/libexec/security-misc/hide-hardware-info":                                       0o755,
		"/usr/lib/permission-hardener.d/30_default.conf":                                      0o644,
		"/etc/kernel/postinst.d/30_remove-system-map":                                         0o755,
		"/usr/lib/systemd/system/tor@default.service.d/51_anon_ws_disable_stacked_tor.conf":   0o644,
	} {
		if files[path] != perm {
			t.Errorf("%s: mode %v, want %v", path, files[path], perm)
		}
	}
	for _, link := range []string{
		"/usr/bin/url_to_unixtime", "/usr/lib/sdwdate/url_to_unixtime", "/usr/bin/minimum-time-check", "/usr/sbin/anondate-set", "/usr/share/sdwdate/onion-list-all",
		"/usr/bin/whonix_firewall", "/usr/bin/whonix-gateway-firewall", "/usr/bin/whonix-workstation-firewall", "/usr/bin/whonix-host-firewall",
		"/usr/lib/whonix-firewall", "/usr/libexec/whonix-firewall/reloadfirewall", "/usr/libexec/whonix-firewall/firewall30default",
		"/usr/libexec/whonix-firewall/firewall50user", "/usr/share/whonix-ws-firewall/unit_tests/stream_isolation_test",
		"/usr/share/man/man8/whonix_firewall.8", "/usr/share/man/man8/reloadfirewall.8",
		"/usr/lib/systemd/system-generators/anon-ws-disable-stacked-tor", "/usr/lib/anon-ws-disable-stacked-tor/torbrowser.sh", "/etc/systemd/network/99-default.link",
		"/usr/lib/security-misc/permission-hardening", "/usr/lib/security-misc/permission-hardening-undo", "/usr/lib/security-misc/remount-secure",
		"/usr/lib/security-misc/remove-system.map", "/usr/lib/systemd/system-generators/security-misc-hardening", "/usr/share/man/man8/remove-system.map.8",
		"/etc/zprofile.d/20_torbrowser.zsh", "/etc/X11/Xsession.d/20_torbrowser",
	} {
		if files[link]&fs.ModeSymlink == 0 {
			t.Errorf("%s is no link", link)
		}
	}
	nothingForgotten(t)
}

// nothingForgotten: every file that is there to be installed is in a package's
// list.
func nothingForgotten(t *testing.T) {
	t.Helper()
	lists, err := filepath.Glob(top + "/scripts/packages/*/files")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, l := range lists {
		data, err := os.ReadFile(l)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	for _, name := range commands(t) {
		if !strings.Contains(all.String(), "\nprogram "+name+" ") {
			t.Errorf("the program %s is in no package", name)
		}
	}
	for _, dir := range []string{"etc", "systemd", "man", "scripts/completions", "scripts/applications"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			rel := strings.TrimPrefix(p, top+"/")
			if !strings.Contains(all.String(), "\nfile "+rel+" ") && !strings.Contains(all.String(), "\npage "+e.Name()+"\n") {
				t.Errorf("%s is in no package", rel)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestHelpAndVersion: every program answers to both, whoever asks.
func TestHelpAndVersion(t *testing.T) {
	_, _ = installed(t)
	for _, name := range commands(t) {
		program := filepath.Join(top, "build", "bin", name)
		help, _ := exec.Command(program, "--help").CombinedOutput()
		if !strings.HasPrefix(string(help), "usage: "+name) {
			t.Errorf("%s --help: %q", name, help)
		}
		version, err := exec.Command(program, "--version").Output()
		if err != nil || !strings.HasPrefix(string(version), name+" (whonix-networking) ") {
			t.Errorf("%s --version: %q, %v", name, version, err)
		}
	}
}

// TestCombined: an installed program is the one that its list names, whether it
// shares a file with others or not.
func TestCombined(t *testing.T) {
	dest, _ := installed(t)
	lists, err := filepath.Glob(top + "/scripts/packages/*/files")
	if err != nil {
		t.Fatal(err)
	}
	run := func(path, name string) string { // what it calls itself, and what it says it does
		c := exec.Command(path)
		c.Args = []string{name, "--help"}
		out, err := c.CombinedOutput()
		lines := strings.SplitAfterN(string(out), "\n", 3)
		return fmt.Sprintf("%s%v", strings.Join(lines[:min(2, len(lines))], ""), err)
	}
	shared := 0
	for _, list := range lists {
		for line := range strings.Lines(text(t, strings.TrimPrefix(list, top+"/"))) {
			f := strings.Fields(line)
			if len(f) < 3 || f[0] != "program" {
				continue
			}
			name := filepath.Base(f[2])
			if got, want := run(dest+f[2], name), run(filepath.Join(top, "build", "bin", f[1]), name); got != want {
				t.Errorf("%s: %q, want %q", f[2], got, want)
			}
			fi, err := os.Stat(dest + f[2])
			if err != nil {
				t.Fatal(err)
			}
			if fi.Sys().(*syscall.Stat_t).Nlink > 1 {
				shared++
			}
		}
	}
	if shared == 0 {
		t.Error("no two programs share a file")
	}
}

// TestClockIsSafe: the tests of whatever can set the clock cannot.
func TestClockIsSafe(t *testing.T) {
	for _, name := range commands(t) {
		if !strings.Contains(text(t, "cmd/"+name+"/main.go"), `"whonix-networking/pkg/sdwdate"`) {
			continue
		}
		if !strings.Contains(text(t, "cmd/"+name+"/main_test.go"), "\nfunc init() { clocktest.Forbid() }\n") {
			t.Errorf("cmd/%s/main_test.go does not forbid it", name)
		}
	}
}
