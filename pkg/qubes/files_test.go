// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func shipped(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(top, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestUnits: systemd accepts the units, and what is added to others.
func TestUnits(t *testing.T) {
	root := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(root+path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const units = "/usr/lib/systemd/system"
	own, err := filepath.Glob(top + "/systemd/system/qubes-whonix-*.service")
	if err != nil || len(own) == 0 {
		t.Fatalf("no units: %v", err)
	}
	args := []string{"verify", "--man=no", "--root=" + root}
	for _, u := range own {
		put(units+"/"+filepath.Base(u), shipped(t, "systemd/system/"+filepath.Base(u)))
		args = append(args, filepath.Base(u))
	}
	dropins, err := filepath.Glob(top + "/systemd/system/*/40_qubes*.conf")
	if err != nil || len(dropins) < 14 {
		t.Fatalf("%d drop-ins, %v", len(dropins), err)
	}
	for _, d := range dropins {
		dir := filepath.Base(filepath.Dir(d))
		unit := strings.TrimSuffix(dir, ".d")
		put(units+"/"+dir+"/"+filepath.Base(d), shipped(t, "systemd/system/"+dir+"/"+filepath.Base(d)))
		put(units+"/"+unit, "[Service]\nExecStart=/usr/bin/touch\n")
		args = append(args, unit)
	}
	for _, other := range []string{"qubes-qrexec-agent", "whonix-firewall"} {
		put(units+"/"+other+".service", "[Service]\nExecStart=/usr/bin/touch\n")
	}
	for _, target := range []string{"sysinit", "basic", "shutdown", "network-pre", "network", "network-online", "local-fs", "multi-user"} {
		put(units+"/"+target+".target", "[Unit]\n")
	}
	for _, program := range []string{"/usr/bin/touch", "/usr/bin/qvm-connect-tcp", "/usr/bin/tinyproxy", "/usr/lib/qubes-whonix/tinyproxy-config-patch",
		"/usr/lib/qubes-whonix/init/network-proxy-setup", "/usr/lib/qubes-whonix/init/qubes-whonix-postinit", "/usr/lib/qubes-whonix/init/torified-updates-proxy-check"} {
		put(program, "#!/bin/sh\n")
		if err := os.Chmod(root+program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestAccountAndFolder: the account is made, and its folder is its own.
func TestAccountAndFolder(t *testing.T) {
	root := t.TempDir()
	dir, err := filepath.Abs(top + "/systemd")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"systemd-sysusers", "--root=" + root, dir + "/sysusers.d/qubes-whonix.conf"},
		{"systemd-tmpfiles", "--create", "--root=" + root, dir + "/tmpfiles.d/qubes-whonix.conf"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", args, err, out)
		}
	}
	passwd, err := os.ReadFile(root + "/etc/passwd")
	if err != nil || !strings.Contains(string(passwd), checkUser+":x:") || !strings.Contains(string(passwd), ":/run/updatesproxycheck:/bin/false\n") {
		t.Errorf("%s, %v", passwd, err)
	}
	if fi, err := os.Stat(root + "/run/updatesproxycheck"); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", fi, err)
	}
	if to, err := os.Readlink(root + "/run/qubes-service/whonix-secure-proxy"); err != nil || to != secureProxy {
		t.Errorf("it leads to %q, %v", to, err)
	}
}

// TestConstantsAgree: scripts, pages and the program speak of one proxy.
func TestConstantsAgree(t *testing.T) {
	out, err := exec.Command("/bin/bash", "-c", `. "$1"; printf '%s\n' "$PROXY_SERVER" "$PROXY_META"`, "bash", top+"/scripts/qubes-whonix/utility_functions.sh").Output()
	if err != nil || string(out) != proxyServer+"\n"+proxyMeta+"\n" {
		t.Errorf("%s, %v", out, err)
	}
	for page, has := range map[string][]string{
		"default.html":    {"{errno}", "{cause}", "{detail}", "{website}", "{package}", "{version}"},
		"ERR_INVALID_URL": {"%U"},
	} {
		for _, text := range append(has, proxyMeta) {
			if !strings.Contains(shipped(t, "scripts/qubes-whonix/"+page), text) {
				t.Errorf("%s has no %s", page, text)
			}
		}
	}
	if text := shipped(t, "systemd/system/qubes-updates-proxy.service.d/40_qubes-whonix.conf"); !strings.Contains(text, "\nExecStart=\nExecStart=/usr/bin/tinyproxy -d -c "+tinyproxyRun+"\n") {
		t.Error("tinyproxy is started with another configuration")
	}
	unit := strings.Replace(checkUnit, "/usr/lib/", "", 1)
	if text := shipped(t, unit); !strings.Contains(text, "\nUser="+checkUser+"\n") {
		t.Errorf("%s has another account", unit)
	}
}

// TestProtectedFiles: each name has its four forms, in lines that are nothing
// else.
func TestProtectedFiles(t *testing.T) {
	lines := strings.Split(shipped(t, "etc/qubes/protected-files.d/qubes-whonix.conf"), "\n")
	has := map[string]bool{}
	for _, l := range lines {
		has[l] = true
	}
	for _, name := range []string{"/etc/localtime", "/etc/timezone", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"} {
		for _, form := range []string{"", ".anondist", ".whonix", ".kicksecure"} {
			if !has[name+form] {
				t.Errorf("%s is not protected", name+form)
			}
		}
	}
}

// TestSetDateTime: dom0's time is kept if it is one, and nothing else is
// (defect 47).
func TestSetDateTime(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs(top + "/etc/qubes-rpc/qubes.SetDateTime.anondist")
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"2026-11-25T13:00:00+00:00\n": "2026-11-25T13:00:00+00:00\n",
		"1764075600":                  "1764075600\n",
		"":                            "",
		"$(id)\n":                     "",
		"1\x1b[2J\n":                  "",
		strings.Repeat("x", 1<<16):    "",
	} {
		cmd := exec.Command("unshare", "--mount", "/bin/sh", "-c", `mount -t tmpfs tmpfs /run && { bash "$0"; s=$?; cat /run/qubes-whonix/qubes.SetDateTime 2>/dev/null; exit $s; }`, script)
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.Output()
		if string(out) != want || (err == nil) != (want != "") {
			t.Errorf("%.40q: kept %q, %v", in, out, err)
		}
	}
}

// TestPackageFacts: what is displaced is there to take its place, and what can
// trigger the package is what a package has (defect 44).
func TestPackageFacts(t *testing.T) {
	lists, err := filepath.Glob(top + "/scripts/packages/*/files")
	if err != nil {
		t.Fatal(err)
	}
	installed := map[string]bool{"/usr/share/anon-apps-config/kioslaverc": true, "/etc/resolv.conf.anondist": true} // of packages of others
	for _, list := range lists {
		for line := range strings.Lines(shipped(t, strings.TrimPrefix(list, top+"/"))) {
			if f := strings.Fields(line); len(f) > 2 && f[0] != "#" {
				installed[f[2]] = true
			}
		}
	}
	dir := "scripts/packages/qubes-whonix/"
	for _, name := range strings.Fields(shipped(t, dir+"displace")) {
		if !installed[name] {
			t.Errorf("%s takes the place of something, and is not there", name)
		}
	}
	triggers := strings.Fields(strings.ReplaceAll(shipped(t, dir+"triggers"), "interest-noawait", ""))
	for _, name := range triggers {
		if !installed[name] {
			t.Errorf("no package could trigger %s", name)
		}
		if !strings.Contains(shipped(t, dir+"postinst"), name) {
			t.Errorf("postinst does not know the trigger %s", name)
		}
	}
	if len(triggers) == 0 {
		t.Error("there are no triggers")
	}
}
