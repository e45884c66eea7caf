// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// packages are all whose lists belong here.
func packages() []string {
	return []string{"security-misc", "anon-base-files", "anon-apps-config", "anon-apt-sources-list", "anon-shared-build-apt-sources-tpo",
		"kicksecure-network-conf", "kicksecure-network-conf-dnscrypt", "tcp-timestamps-disable"}
}

// TestSettingsOfFiles: with every file in place, what the check reads of files is in
// force, and each setting has its line.
func TestSettingsOfFiles(t *testing.T) {
	t.Parallel()
	root := fsx.Root(shipped(t, "security-misc", "anon-apps-config"))
	put(t, root.Path(faillockConf), get(t, root.Path(faillockConf+".security-misc")), 0o644)
	put(t, root.Path("/var/lib/dpkg/info/anon-apps-config.list"), "", 0o644)
	put(t, root.Path(aptConfig), "", 0o755)
	i := &inspector{root: root, apt: map[string]string{}}
	put(t, root.Path("/apt.conf"), "Dir \""+string(root)+"/\";\n", 0o644)
	dump := exec.Command("apt-config", "dump")
	dump.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "APT_CONFIG=" + root.Path("/apt.conf")}
	options, err := dump.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(options)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if value, err := strconv.Unquote(strings.TrimSuffix(value, ";")); err == nil {
			i.apt[strings.ToLower(name)] = value
		}
	}
	n := 0
	for _, s := range table(t) {
		if !slices.Contains([]string{kindFaillock, kindLimit, kindSystemd, kindApt}, s.kind) {
			continue
		}
		n++
		f := i.inspect(s)
		file := strings.TrimSuffix(f.source, regexp.MustCompile(`:\d+$`).FindString(f.source))
		if f.state != stateOK || file != s.file {
			t.Errorf("%s %s: %s, %q of %q, want %q of %s", s.kind, s.name, f.state, f.actual, f.source, s.wanted, s.file)
		}
	}
	if n < 25 {
		t.Errorf("%d settings", n)
	}
}

// TestAcceptance25_Sources: apt itself reads each stanza, all by way of Tor, each
// with its key, of which none is in the package; without Tor's transport nothing is
// fetched.
func TestAcceptance25_Sources(t *testing.T) {
	t.Parallel()
	for _, codename := range []string{"bookworm", "trixie"} {
		root := shipped(t, "anon-apt-sources-list", "anon-shared-build-apt-sources-tpo")
		debian := get(t, root+"/usr/share/anon-apt-sources-list/"+codename+".sources")
		tpo := get(t, root+"/usr/share/anon-shared-build-apt-sources-tpo/"+codename+".sources")
		for _, text := range []string{debian, tpo} {
			stanzas := strings.Count(text, "\nTypes: ")
			if strings.Count(text, "\nSigned-By: /usr/share/keyrings/") != stanzas || strings.Count(text, "\nURIs: tor+http") != stanzas || strings.Count(text, "\nURIs: ") != stanzas || strings.Contains(text, "BEGIN PGP") {
				t.Errorf("%s:\n%s", codename, text)
			}
		}
		put(t, root+"/etc/apt/sources.list.d/debian.sources", debian, 0o644)
		put(t, root+"/etc/apt/sources.list.d/torproject.sources", strings.ReplaceAll(tpo, "Enabled: no", "Enabled: yes"), 0o644)
		for _, dir := range []string{"/var/lib/apt/lists/partial", "/var/cache/apt/archives/partial", "/etc/apt/preferences.d", "/var/lib/dpkg", "/methods"} {
			if err := os.MkdirAll(root+dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		put(t, root+"/var/lib/dpkg/status", "", 0o644)
		options := []string{"-o", "Dir=" + root, "-o", "Dir::State::status=" + root + "/var/lib/dpkg/status", "-o", "APT::Architecture=amd64"}
		// What apt-transport-tor would bring; it is asked nothing here.
		for _, method := range []string{"tor+http", "tor+https"} {
			if err := os.MkdirAll(root+"/tor", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/usr/lib/apt/methods/"+strings.TrimPrefix(method, "tor+"), root+"/tor/"+method); err != nil {
				t.Fatal(err)
			}
		}
		seen := map[string]bool{}
		for line := range strings.Lines(must(t, "unshare", append(append([]string{"--net", "apt-get"}, options...), "-o", "Dir::Bin::methods="+root+"/tor", "update", "--print-uris")...)) {
			uri := strings.Fields(line)[0]
			_, rest, isSuite := strings.Cut(uri, "/dists/")
			if !strings.HasPrefix(uri, "'tor+http") || !isSuite {
				t.Fatalf("%q", line)
			}
			suite, _, _ := strings.Cut(rest, "/")
			seen[suite] = true
		}
		for _, want := range []string{codename, codename + "-updates", codename + "-security", "tor-nightly-main-" + codename} {
			if !seen[want] {
				t.Errorf("%s: no %s: %v", codename, want, seen)
			}
		}
		if seen[codename+"-backports"] {
			t.Errorf("%s: backports are on", codename)
		}
		// A folder of methods without tor's.
		cmd := exec.Command("unshare", append([]string{"--net", "apt-get", "-o", "Dir::Bin::methods=" + root + "/methods", "-o", "APT::Update::Error-Mode=any"}, append(options, "update")...)...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "tor+http") {
			t.Errorf("update without tor's transport: %v\n%s", err, out)
		}
	}
}

// TestUnits: systemd takes units and drop-ins, and presets switch off what they
// should.
func TestUnits(t *testing.T) {
	t.Parallel()
	root := shipped(t, append(packages(), "whonix-networking-helpers")...)
	const units = "/usr/lib/systemd/system/"
	for _, target := range []string{"sysinit", "basic", "shutdown", "multi-user", "timers", "local-fs", "time-set", "time-sync"} {
		put(t, root+units+target+".target", "[Unit]\nDescription=x\n", 0o644)
	}
	for _, name := range []string{"systemd-resolved", "emergency", "rescue", "haveged", "privoxy", "dnscrypt-proxy", "systemd-modules-load", "i2p", "memlockd"} {
		put(t, root+units+name+".service", "[Unit]\nDescription=x\n[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n", 0o644)
	}
	put(t, root+units+"systemd-modules-load.service", "[Unit]\nDescription=x\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/true\n", 0o644)
	for _, program := range []string{"/usr/libexec/security-misc/disable-kernel-module-loading", "/usr/libexec/security-misc/virusforget", "/usr/libexec/helper-scripts/first-boot-skel", "/bin/true", "/usr/sbin/dnscrypt-proxy"} {
		put(t, root+program, "#!/bin/sh\n", 0o755)
	}
	out := must(t, "systemd-analyze", "verify", "--man=no", "--root="+root, "harden-module-loading.service", "virusforget-check@user.service", "virusforget-check@user.timer",
		"dist-skel-first-boot.service", "systemd-resolved.service", "emergency.service", "rescue.service", "haveged.service", "privoxy.service", "dnscrypt-proxy.service")
	if strings.TrimSpace(out) != "" {
		t.Errorf("%s", out)
	}
	for _, name := range []string{"harden-module-loading", "virusforget-check@", "dist-skel-first-boot"} {
		score := must(t, "systemd-analyze", "security", "--offline=true", "--threshold=45", "--root="+root, name+".service")
		t.Log(strings.TrimSpace(score[strings.LastIndex(score, "→"):]))
	}
	for _, name := range []string{"harden-module-loading", "privoxy", "i2p", "memlockd"} {
		must(t, "systemctl", "--root="+root, "preset", name+".service")
		if _, err := os.Lstat(root + "/etc/systemd/system/multi-user.target.wants/" + name + ".service"); err == nil {
			t.Errorf("%s is on", name)
		}
	}
	must(t, "systemctl", "--root="+root, "enable", "dist-skel-first-boot.service")
	if target, err := os.Readlink(root + "/etc/systemd/system/anon-base-files-skel-first-boot.service"); err != nil || filepath.Base(target) != "dist-skel-first-boot.service" {
		t.Errorf("no alias of 2020: %q %v", target, err)
	}
	put(t, root+"/etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644)
	put(t, root+"/etc/group", "root:x:0:\n", 0o644)
	must(t, "systemd-sysusers", "--root="+root, root+"/usr/lib/sysusers.d/security-misc-console.conf")
	if group := get(t, root+"/etc/group"); !strings.Contains(group, "\nconsole:") || !strings.Contains(group, "\nconsole-unrestricted:") {
		t.Errorf("%s", group)
	}
	must(t, "systemd-tmpfiles", "--root="+root, "--create", root+"/usr/lib/tmpfiles.d/security-misc-faillock.conf")
	if fi, err := os.Stat(root + "/var/lib/security-misc/faillock"); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("%v %v", fi, err)
	}
}

// TestShellHooks: sourced under any options, once or twice, nothing but the
// variables changes.
func TestShellHooks(t *testing.T) {
	t.Parallel()
	root := shipped(t, "security-misc", "anon-apps-config")
	for before, want := range map[string]string{
		"unset XDG_CONFIG_DIRS XDG_DATA_DIRS": "/usr/share/anon-apps-config/:/usr/share/security-misc/:/etc/xdg|/usr/share/anon-apps-config/share/:/usr/local/share/:/usr/share/",
		"XDG_CONFIG_DIRS=/a XDG_DATA_DIRS=/b": "/usr/share/anon-apps-config/:/usr/share/security-misc/:/a|/usr/share/anon-apps-config/share/:/b",
	} {
		for _, shell := range []string{"dash -eu", "bash -euo pipefail"} {
			words := append(strings.Fields(shell), "-c", before+`
for round in 1 2; do . "$1/etc/profile.d/30_security-misc.sh"; . "$1/etc/profile.d/50_anon-apps-config.sh"; done
echo "$XDG_CONFIG_DIRS|$XDG_DATA_DIRS"`, "x", root)
			if out := must(t, words[0], words[1:]...); strings.TrimSpace(out) != want {
				t.Errorf("%s: %s\nwant %s", shell, out, want)
			}
		}
	}
	for _, f := range []string{"etc/profile.d/30_security-misc.sh", "etc/profile.d/50_anon-apps-config.sh"} {
		must(t, "shellcheck", "-s", "sh", top+"/"+f)
	}
	fragments, _ := filepath.Glob(top + "/etc/default/grub.d/*.cfg")
	must(t, "shellcheck", append([]string{"-e", "SC2034"}, fragments...)...)
}

// TestParsers: the programs that read a file take it.
func TestParsers(t *testing.T) {
	t.Parallel()
	root := shipped(t, packages()...)
	for _, f := range []string{"security-misc", "30_default-password-lecture"} {
		must(t, "visudo", "-cf", root+"/etc/sudoers.d/"+f)
	}
	// One release's ssh knows every name in its file (defect D-30).
	release := regexp.MustCompile(`(?m)^VERSION_ID="?(\d+)`).FindStringSubmatch(get(t, "/etc/os-release"))
	if release == nil {
		t.Fatal("no release")
	}
	ssh := root + "/usr/share/security-misc/ssh/ssh_config.debian" + release[1]
	if out := must(t, "ssh", "-F", ssh, "-G", "example.org"); !strings.Contains(out, "visualhostkey yes") || !strings.Contains(out, "\nhostkeyalgorithms sk-ssh-ed25519@openssh.com,ssh-ed25519\n") {
		t.Errorf("%s", out)
	}
	home := t.TempDir()
	put(t, home+"/gpg.conf", get(t, root+"/etc/skel/.gnupg/gpg.conf"), 0o600)
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "gpg", "--homedir", home, "--no-autostart", "--list-keys")
	if out := must(t, "git", "config", "--file", root+"/etc/gitconfig.security-misc", "--list"); out != "core.symlinks=false\ntransfer.fsckobjects=true\nfetch.fsckobjects=true\nreceive.fsckobjects=true\n" {
		t.Errorf("%s", out)
	}
	schemas := t.TempDir()
	put(t, schemas+"/org.gnome.nautilus.gschema.xml", `<schemalist><enum id="e"><value nick="always" value="0"/><value nick="never" value="1"/></enum><schema id="org.gnome.nautilus.preferences" path="/x/"><key name="show-image-thumbnails" enum="e"><default>'always'</default></key></schema></schemalist>`, 0o644)
	put(t, schemas+"/30_security-misc.gschema.override", get(t, root+"/usr/share/glib-2.0/schemas/30_security-misc.gschema.override"), 0o644)
	must(t, "glib-compile-schemas", "--strict", "--dry-run", schemas)
	if err := xml.Unmarshal([]byte(get(t, root+"/etc/skel/.config/xfce4/xfconf/xfce-perchannel-xml/thunar.xml")), new(any)); err != nil && !strings.Contains(err.Error(), "unknown type") {
		t.Error(err)
	}
	for _, empty := range []string{"/etc/skel/.local/share/Bisq/btc_mainnet/tor/tor", "/etc/skel/.config/hexchat/ctcpreply.conf"} {
		if get(t, root+empty) != "" {
			t.Errorf("%s is not empty", empty)
		}
	}
	if id := get(t, root+"/usr/share/anon-base-files/machine-id"); id != "b08dfa6083e7567a1921a715000001fb\n" {
		t.Errorf("machine-id %q", id)
	}
	toml := get(t, root+"/etc/dnscrypt-proxy/kicksecure.toml")
	for _, never := range []string{"query_log", "nx_log", "/v2/"} { // defect D-27
		if strings.Contains(toml, never) {
			t.Errorf("kicksecure.toml: %s", never)
		}
	}
}

// TestApplications: addresses are this machine's own, ports those of the one table
// (defect D-28), and Thunderbird's keys all the documented ones.
func TestApplications(t *testing.T) {
	t.Parallel()
	root := shipped(t, "anon-apps-config")
	known := func(port string) bool {
		n, err := strconv.Atoi(port)
		return err == nil && slices.ContainsFunc(whonix.Ports(), func(p whonix.Port) bool { return int(p.First) <= n && n <= int(p.Last) && p.Kind == whonix.Socks })
	}
	for file, pattern := range map[string]string{
		"/usr/share/anon-apps-config/kioslaverc":    `(?m)^socksProxy=http://127\.0\.0\.1 (\d+)$`,
		"/etc/skel/.config/hexchat/hexchat.conf":    `(?m)^net_proxy_port = (\d+)$`,
		"/etc/privoxy/config_anon-apps-config.conf": `(?m)^forward-socks5t / 127\.0\.0\.1:(\d+) \.$`,
		"/etc/thunderbird/pref/40_thunderbird.js":   `(?m)^pref\("network\.proxy\.socks_port", (\d+)\);$`,
	} {
		text := get(t, root+file)
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil || !known(m[1]) || strings.Contains(text, whonix.GatewayIP) {
			t.Errorf("%s: %q", file, m)
		}
	}
	privoxy := get(t, root+"/etc/privoxy/config_anon-apps-config.conf")
	proxy := get(t, root+"/var/lib/i2p/i2p-config/i2ptunnel.config.d/00-I2P_HTTP_Proxy-i2ptunnel.config")
	if !strings.Contains(privoxy, "\nforward .i2p 127.0.0.2:4444\n") || !strings.Contains(proxy, "\ninterface=127.0.0.2\nlistenPort=4444\n") {
		t.Error("privoxy and I2P do not meet")
	}
	prefs := regexp.MustCompile(`(?m)^pref\("([^"]+)", (true|false|-?\d+|"[^"]*")\);$`).FindAllStringSubmatch(get(t, root+"/etc/thunderbird/pref/40_thunderbird.js"), -1)
	if len(prefs) != 138 {
		t.Errorf("%d keys of Thunderbird", len(prefs))
	}
	if n := strings.Count(get(t, root+"/usr/lib/thunderbird/thunderbird.cfg"), "\nlockPref("); n != 80 {
		t.Errorf("%d locked keys", n)
	}
}
