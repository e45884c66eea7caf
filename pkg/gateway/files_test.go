// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whonix-networking/pkg/whonix"
)

// The tests of this file hold the shipped files against the tools that read
// them.

const top = "../.."

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestTorOptions: the active lines of the contract, no more and no fewer.
func TestTorOptions(t *testing.T) {
	for file, want := range map[string]string{
		"tor/torrc.anondist": "%include /etc/torrc.d/*.conf",
		"torrc.d/60_network.conf": "DormantTimeoutEnabled 0|AutomapHostsOnResolve 1|VirtualAddrNetworkIPv4 10.192.0.0/10|" +
			"VirtualAddrNetworkIPv6 [fc00::]/7|ClientUseIPv4 1|ClientUseIPv6 1|Log notice file /run/tor/log",
		"torrc.d/65_gateway.conf":       fmt.Sprintf("ControlPort %d|CookieAuthentication 1|ClientOnionAuthDir /var/lib/tor/authdir", whonix.TorControlPort),
		"torrc.d/65_leak_tests.conf":    "",
		"torrc.d/70_ws_gw_dynamic.conf": "%include " + listenersPath,
		"torrc.d/95_whonix.conf":        "%include /usr/local/etc/torrc.d/*.conf",
		"sudoers.d/anonymizer-config-gateway": strings.Join([]string{
			"%sudo ALL=NOPASSWD: /usr/sbin/service tor restart", "%sudo ALL=NOPASSWD: /usr/sbin/service tor reload", "%sudo ALL=NOPASSWD: /usr/sbin/service tor status",
			"%sudo ALL=NOPASSWD: /usr/sbin/service tor@default restart", "%sudo ALL=NOPASSWD: /usr/sbin/service tor@default reload", "%sudo ALL=NOPASSWD: /usr/sbin/service tor@default status",
			"%sudo ALL=NOPASSWD: /usr/bin/tor --defaults-torrc /usr/share/tor/tor-service-defaults-torrc -f /etc/tor/torrc --RunAsDaemon 0 --verify-config",
		}, "|"),
	} {
		if got := strings.Join(active(shippedText(t, top+"/etc/"+file)), "|"); got != want {
			t.Errorf("%s: %s\nwant %s", file, got, want)
		}
	}
	if lines := active(shippedText(t, shippedShare+"torrc.examples")); len(lines) > 0 {
		t.Errorf("torrc.examples says something: %v", lines)
	}
}

// TestTorExamples: Tor takes each example that needs no program of its own.
func TestTorExamples(t *testing.T) {
	var lines []string
	for line := range strings.Lines(shippedText(t, shippedShare+"torrc.examples")) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "#"))
		option, value, _ := strings.Cut(line, " ")
		if slices.Contains([]string{"ReachableAddresses", "Socks5Proxy", "Socks5ProxyUsername", "Socks5ProxyPassword", "HiddenServicePort", "DisableNetwork"}, option) {
			lines = append(lines, option+" "+value)
		}
		if option == "HiddenServiceDir" {
			lines = append(lines, option+" "+t.TempDir()+"/service/")
		}
		if option == "bridge" && !strings.HasPrefix(value, "obfs4") {
			lines = append(lines, line, "UseBridges 1")
		}
	}
	if len(lines) != 9 {
		t.Errorf("%d lines: %v", len(lines), lines)
	}
	file := filepath.Join(t.TempDir(), "torrc")
	if err := os.WriteFile(file, []byte("DataDirectory "+t.TempDir()+"\n"+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, "tor", "--defaults-torrc", "/dev/null", "-f", file, "--verify-config")
}

func TestSudoers(t *testing.T) {
	must(t, "visudo", "-cf", top+"/etc/sudoers.d/anonymizer-config-gateway")
}

// TestAppArmor: the profiles that our local files belong to are read with them,
// and allow what Tor then needs.
func TestAppArmor(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/local", 0o755); err != nil {
		t.Fatal(err)
	}
	profiles := map[string]string{
		"system_tor":        shippedText(t, "/etc/apparmor.d/system_tor"),
		"usr.bin.obfsproxy": "#include <tunables/global>\n/usr/bin/obfsproxy {\n  #include <abstractions/base>\n  #include <local/usr.bin.obfsproxy>\n}\n",
	}
	for name, text := range profiles {
		if !strings.Contains(text, "<local/"+name+">") {
			t.Errorf("%s includes nothing", name)
		}
		for path, text := range map[string]string{name: text, "local/" + name: shippedText(t, top+"/etc/apparmor.d/local/"+name+".anondist")} {
			if err := os.WriteFile(dir+"/"+path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		must(t, "apparmor_parser", "-QTK", "-I", dir, "-I", "/etc/apparmor.d", dir+"/"+name)
		debug := must(t, "apparmor_parser", "-QTK", "-I", dir, "-I", "/etc/apparmor.d", "-p", dir+"/"+name)
		if want := map[string]string{"system_tor": "/run/tor/log rwk", "usr.bin.obfsproxy": "/var/lib/tor/pt_state/ rwk"}[name]; !strings.Contains(debug, want) {
			t.Errorf("%s: no %s", name, want)
		}
	}
}

// TestUnits: systemd takes the unit and the drop-ins, with Debian's units of
// Tor, and orders them.
func TestUnits(t *testing.T) {
	root := t.TempDir()
	const units = "/usr/lib/systemd/system/"
	put := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(root+path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []string{"sysinit", "basic", "shutdown", "network", "network-online", "multi-user", "nss-lookup"} {
		put(units+target+".target", "[Unit]\nDescription=x\n", 0o644)
	}
	for _, name := range []string{"tor.service", "tor@default.service"} {
		put(units+name, shippedText(t, "/lib/systemd/system/"+name), 0o644)
	}
	for _, name := range []string{"vanguards.service", "systemd-resolved.service", "networking.service", "qubes-whonix-network.service"} {
		put(units+name, "[Unit]\nDescription=x\n[Service]\nType=oneshot\nExecStart=/bin/true\n", 0o644)
	}
	for _, program := range []string{"/usr/libexec/anon-gw-anonymizer-config/tor-config-sane", "/usr/bin/tor", "/usr/bin/install", "/bin/kill", "/bin/true"} {
		put(program, "#!/bin/sh\n", 0o755)
	}
	ours := []string{"anon-gw-anonymizer-config.service", "tor@default.service.d/40_network-target.conf", "tor@default.service.d/40_obfs4proxy-workaround.conf",
		"tor@default.service.d/50_controlsocket-workaround.conf", "vanguards.service.d/30_anon-gw-anonymizer-config.conf", "systemd-resolved.service.d/40_anon-dns-conf.conf"}
	for _, name := range ours {
		put(units+name, shippedText(t, top+"/systemd/system/"+name), 0o644)
	}
	out := must(t, "systemd-analyze", "verify", "--man=no", "--root="+root, "anon-gw-anonymizer-config.service", "tor@default.service", "vanguards.service", "systemd-resolved.service")
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "anon") || strings.Contains(line, "_workaround") || strings.Contains(line, "40_") {
			t.Errorf("%s", line)
		}
	}
	for key, want := range map[string]int{"Before=tor.service tor@default.service": 1, "PartOf=tor.service tor@default.service": 1, "After=networking.service": 1, "ExecReload=": 1, "\nConditionPathExists=!/run/qubes/this-is-templatevm": 1} {
		if got := strings.Count(shippedText(t, top+"/systemd/system/"+ours[0]), key); got != want {
			t.Errorf("%s: %d times", key, got)
		}
	}
}

// TestExposure is the figure of systemd-analyze security, which is to stay
// below medium.
func TestExposure(t *testing.T) {
	const most = 5.0
	out := must(t, "systemd-analyze", "security", "--offline=true", "--no-pager", top+"/systemd/system/anon-gw-anonymizer-config.service")
	_, rest, _ := strings.Cut(out, "Overall exposure level for anon-gw-anonymizer-config.service: ")
	figure, _, _ := strings.Cut(rest, " ")
	if got, err := strconv.ParseFloat(figure, 64); err != nil || got > most {
		t.Errorf("%s %v", figure, err)
	}
}

func TestTmpfilesAndPreset(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{"/etc/passwd": "root:x:0:0::/root:/bin/sh\n", "/etc/group": "root:x:0:\n", "/run/anon-gw-anonymizer-config/initial-wait-at-boot": ""} {
		if err := os.MkdirAll(filepath.Dir(root+path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := filepath.Abs(top + "/systemd/tmpfiles.d/anon-gw-anonymizer-config.conf")
	if err != nil {
		t.Fatal(err)
	}
	must(t, "systemd-tmpfiles", "--root="+root, "--create", config)
	for path, want := range map[string]string{runDir: "drwxrwxr-x 0 0", waited: "-rw-r--r-- 0 0"} {
		if got := ownership(t, root+path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	if got := active(shippedText(t, top+"/systemd/system-preset/50-anon-gw-anonymizer-config.preset")); !slices.Equal(got, []string{"enable anon-gw-anonymizer-config.service", "enable leak-monitor.service"}) {
		t.Errorf("%v", got)
	}
}

// TestShellFiles: what other shells read.
func TestShellFiles(t *testing.T) {
	for file, c := range map[string]struct{ script, want string }{
		"systemd/qubes-bind-dirs.d/30_anon-gw-anonymizer-config.conf": {`binds=(/a); source "$1"; echo "${binds[@]}"`, "/a /var/lib/tor\n"},
		"scripts/whonix-gw-network-conf/network_internal_ip.txt":      {`source "$1"; echo "$network_internal_ip"`, whonix.GatewayIP + "\n"},
		"etc/dhcpcd.enter-hook":      {`source "$1"; echo "$skip_hooks"; skip_hooks="a b"; source "$1"; echo "$skip_hooks"`, "resolv.conf\na b resolv.conf\n"},
		"etc/resolvconf.conf.whonix": {`source "$1"; echo "$resolvconf"`, "NO\n"},
	} {
		if got := must(t, "bash", "-euc", c.script, "bash", top+"/"+file); got != c.want {
			t.Errorf("%s: %q", file, got)
		}
	}
}

// TestPrivleap: the actions, and who may.
func TestPrivleap(t *testing.T) {
	lines := active(shippedText(t, top+"/etc/privleap/conf.d/anon-gw-anonymizer-config.conf"))
	var names []string
	for i := 0; i+3 < len(lines); i += 4 {
		name := strings.TrimSuffix(strings.TrimPrefix(lines[i], "[action:"), "]")
		names = append(names, name)
		command, ok := strings.CutPrefix(lines[i+1], "Command=")
		if !ok || lines[i+2] != "AuthorizedGroups=sudo,privleap" || lines[i+3] != "AuthorizedUsers=user" || (!strings.HasPrefix(command, "systemctl --no-pager ") && !strings.HasSuffix(command, "--verify-config")) {
			t.Errorf("%v", lines[i:i+4])
		}
	}
	if got := strings.Join(names, " "); got != "stop-tor restart-tor reload-tor tor-status anonymizer-tor-verify-config" {
		t.Errorf("%s", got)
	}
}

// TestInterfaces: ifupdown reads the Gateway's interfaces, and has eth1 listen
// to no router (defect 1).
func TestInterfaces(t *testing.T) {
	file := top + "/scripts/whonix-gw-network-conf/30_non-qubes-whonix"
	if got := strings.Fields(must(t, "ifquery", "-i", file, "--list", "-a")); !slices.Equal(got, []string{"lo", "eth0", "eth1"}) {
		t.Errorf("%v", got)
	}
	for device, want := range map[string][]string{
		"eth0": {"address: 10.0.2.15", "netmask: 24", "gateway: 10.0.2.2"},
		"eth1": {"address: " + whonix.GatewayIP, "address: " + whonix.GatewayIP6, "netmask: 18", "netmask: 96", "accept_ra: 0", "autoconf: 0"},
	} {
		got := must(t, "ifquery", "-i", file, device)
		for _, line := range want {
			other := map[string]string{"netmask: 24": "netmask: 255.255.255.0", "netmask: 18": "netmask: 255.255.192.0"}[line]
			if !strings.Contains(got, line) && (other == "" || !strings.Contains(got, other)) {
				t.Errorf("%s: no %s\n%s", device, line, got)
			}
		}
		if device == "eth1" && strings.Contains(got, "gateway") {
			t.Errorf("a router on the internal network\n%s", got)
		}
	}
}
