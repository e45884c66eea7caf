// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// policyNet is a Gateway between a Workstation and a server.
type policyNet struct {
	*testing.T
	gateway, workstation, server *netlab.Namespace
	inside, outside              netlab.Port // the others' ends
}

func newPolicyNet(t *testing.T) *policyNet {
	t.Helper()
	p := &policyNet{T: t}
	for name, ns := range map[string]**netlab.Namespace{"gwp-gateway": &p.gateway, "gwp-inside": &p.workstation, "gwp-server": &p.server} {
		var err error
		if *ns, err = netlab.New(name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup((*ns).Close)
	}
	p.inside, p.outside = netlab.Port{Namespace: p.workstation, Interface: "eth0"}, netlab.Port{Namespace: p.server, Interface: "eth0"}
	eth0, eth1 := netlab.Port{Namespace: p.gateway, Interface: "eth0"}, netlab.Port{Namespace: p.gateway, Interface: "eth1"}
	for _, step := range []func() error{
		func() error { return netlab.Connect(eth0, p.outside) },
		func() error { return netlab.Connect(eth1, p.inside) },
		func() error { return eth0.Address("10.0.2.15/24", "2001:db8::15/64") },
		func() error { return eth1.Address(whonix.GatewayIP+"/18", whonix.GatewayIP6+"/96") },
		func() error { return p.outside.Address("10.0.2.2/24", "2001:db8::2/64") },
		func() error { return p.inside.Address(whonix.WorkstationIP+"/18", whonix.WorkstationIP6+"/96") },
		func() error { return p.inside.DefaultVia(whonix.GatewayIP, whonix.GatewayIP6) },
		func() error { return p.outside.DefaultVia("10.0.2.15", "2001:db8::15") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// apply does at boot what systemd does with the shipped file.
func (p *policyNet) apply() {
	p.Helper()
	file, err := filepath.Abs(top + "/etc/sysctl.d/anonymizer-config-gateway.conf")
	if err != nil {
		p.Fatal(err)
	}
	err = p.gateway.Do(func() error {
		out, err := exec.Command("/lib/systemd/systemd-sysctl", file).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		p.Fatal(err)
	}
}

func (p *policyNet) sysctl(name string) (value string) {
	p.Helper()
	err := p.gateway.Do(func() error {
		data, err := os.ReadFile("/proc/sys/net/" + name)
		value = strings.TrimSpace(string(data))
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return value
}

// advertise sends a router's advertisement of a prefix out of a port.
func (p *policyNet) advertise(from netlab.Port, prefix string) {
	p.Helper()
	hw, err := from.HardwareAddr()
	if err != nil {
		p.Fatal(err)
	}
	socket, err := from.OpenSocket()
	if err != nil {
		p.Fatal(err)
	}
	defer socket.Close()
	src, all := netip.MustParseAddr("fe80::bad"), netip.MustParseAddr("ff02::1")
	const advertisement, hopLimit = 134, 255
	body := netlab.ICMP(src, all, advertisement, 0, netlab.RouterAdvertisement(netip.MustParsePrefix(prefix), hw))
	packet := netlab.IPv6{Src: src, Dst: all, Next: netlab.ProtoICMPv6, HopLimit: hopLimit, Payload: body}.Bytes()
	const ipv6 = 0x86dd
	if err := socket.Send(netlab.Ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, hw, ipv6, packet)); err != nil {
		p.Fatal(err)
	}
}

// has waits until an interface has an address of a prefix, as long as the
// interface is to get one at all.
func (p *policyNet) has(device, prefix string) bool {
	p.Helper()
	out := ""
	if err := p.gateway.Do(func() error {
		data, err := exec.Command("ip", "-6", "addr", "show", "dev", device).Output()
		out = string(data)
		return err
	}); err != nil {
		p.Fatal(err)
	}
	return strings.Contains(out, prefix)
}

// await advertises again and again until the interface has taken it.
func (p *policyNet) await(from netlab.Port, device, prefix string) {
	p.Helper()
	const interval = 50 * time.Millisecond
	for deadline := time.Now().Add(patience); !p.has(device, strings.TrimSuffix(prefix, ":/64")); time.Sleep(interval) {
		p.advertise(from, prefix)
		if time.Now().After(deadline) {
			p.Fatalf("%s takes no advertisement", device)
		}
	}
}

// routers are the default routes that the Gateway has.
func (p *policyNet) routers() []string {
	p.Helper()
	list, err := p.gateway.DefaultRoutes(syscall.AF_INET6)
	if err != nil {
		p.Fatal(err)
	}
	return list
}

// TestAcceptance16_Advertisements: a Workstation's router advertisement gives
// the Gateway nothing, one from the Internet's side does (defect 1).
func TestAcceptance16_Advertisements(t *testing.T) {
	const bad, good = "2001:db8:bad::/64", "2001:db8:900d::/64"
	without := newPolicyNet(t)
	without.await(without.inside, "eth1", bad) // what the policy is there for
	for _, ns := range []*netlab.Namespace{without.gateway, without.workstation, without.server} {
		ns.Close()
	}
	p := newPolicyNet(t)
	p.apply()
	for range 20 {
		p.advertise(p.inside, bad)
	}
	p.await(p.outside, "eth0", good)
	before := len(p.routers())
	for range 20 {
		p.advertise(p.inside, bad)
	}
	p.await(p.outside, "eth0", "2001:db8:900e::/64")
	if p.has("eth1", "2001:db8:bad:") || p.has("eth0", "2001:db8:bad:") || len(p.routers()) != before || before != 1 {
		t.Errorf("a Workstation was heard: %v", p.routers())
	}
	for name, want := range map[string]string{
		"ipv6/conf/default/accept_ra": "0", "ipv6/conf/default/autoconf": "0", "ipv6/conf/eth1/accept_ra": "0", "ipv6/conf/eth1/autoconf": "0", "ipv6/conf/eth0/accept_ra": "1",
	} {
		if got := p.sysctl(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	later := netlab.Port{Namespace: p.gateway, Interface: "vif1.0"}
	peer := netlab.Port{Namespace: p.workstation, Interface: "eth1"}
	if err := netlab.Connect(later, peer); err != nil {
		t.Fatal(err)
	}
	if got := p.sysctl("ipv6/conf/vif1.0/accept_ra"); got != "0" {
		t.Errorf("an interface that came later: %s", got)
	}
}

// reached reports a connection from the Workstation to the server.
func (p *policyNet) reached(address string, timeout time.Duration) bool {
	err := p.workstation.Do(func() error {
		conn, err := net.DialTimeout("tcp", address, timeout)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return err == nil
}

// TestAcceptance17_Forwarding: an interface that was switched to forwarding by
// itself forwards no more (defect 2).
func TestAcceptance17_Forwarding(t *testing.T) {
	p := newPolicyNet(t)
	addresses := map[string]string{"tcp4": "10.0.2.2:80", "tcp6": "[2001:db8::2]:80"}
	for network, address := range addresses {
		var l net.Listener
		if err := p.server.Do(func() (err error) { l, err = net.Listen(network, address); return err }); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	for _, name := range []string{"ipv4/conf/eth0/forwarding", "ipv4/conf/eth1/forwarding", "ipv6/conf/all/forwarding", "ipv6/conf/eth1/forwarding"} {
		if err := p.gateway.Sysctl(name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	if p.sysctl("ipv4/ip_forward") != "0" {
		t.Error("the documented check would have shown it")
	}
	for _, address := range addresses {
		if !p.reached(address, patience) {
			t.Errorf("%s is not reached without the policy", address)
		}
	}
	p.apply()
	const quick = 2 * time.Second
	for _, address := range addresses {
		if p.reached(address, quick) {
			t.Errorf("%s is reached through the Gateway", address)
		}
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		for _, device := range []string{"all", "default", "eth0", "eth1"} {
			if got := p.sysctl(family + "/conf/" + device + "/forwarding"); got != "0" {
				t.Errorf("%s %s: %s", family, device, got)
			}
		}
	}
}

// dhclient runs Debian's script of its DHCP client with the given hooks, and
// tells what became of resolv.conf and of resolvconf.
func dhclient(t *testing.T, reason string, hooks map[string]string) (resolv, resolvconf string) {
	t.Helper()
	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(dir+path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("/etc/resolv.conf", "# ours\n")
	write("/etc/fstab", "")
	write("/etc/dhcp/called", "")
	write("/bin/ping", "#!/bin/sh\n") // a router that answers, for TIMEOUT
	for name, text := range hooks {
		write("/etc/dhcp/dhclient-enter-hooks.d/"+name, text)
	}
	script := fmt.Sprintf("mount --bind '%s/etc' /etc && ip link set lo up && ip link add eth0 type veth peer name peer && ip link set eth0 up && exec /sbin/dhclient-script", dir)
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	cmd.Env = []string{"PATH=" + dir + "/bin:/usr/sbin:/usr/bin:/sbin:/bin", "reason=" + reason, "interface=eth0", "new_ip_address=10.0.2.20", "old_ip_address=10.0.2.20",
		"new_subnet_mask=255.255.255.0", "new_domain_name_servers=192.0.2.53", "new_domain_name=example", "new_ip6_address=2001:db8::20/128", "new_max_life=600",
		"new_preferred_life=300", "new_dhcp6_name_servers=2001:db8::53", "new_dhcp6_domain_search=example.", "new_routers=127.0.0.1"}
	out, _ := cmd.CombinedOutput() // some reasons end in a status of their own
	read := func(path string) string {
		data, err := os.ReadFile(dir + path)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(data)
	}
	return read("/etc/resolv.conf"), read("/etc/dhcp/called")
}

// TestAcceptance15_Dhclient: neither resolv.conf nor resolvconf is given a
// server, whichever hooks are there (defect 25).
func TestAcceptance15_Dhclient(t *testing.T) {
	const resolvconfHook = "make_resolv_conf() { echo \"resolvconf $new_domain_name_servers\" >> /etc/dhcp/called; }\n"
	const ours, name = "# ours\n", "zz_nodnsupdate"
	shipped := shippedText(t, top+"/etc/dhcp/dhclient-enter-hooks.d/"+name)
	for _, reason := range []string{"BOUND", "BOUND6", "RENEW", "REBIND", "TIMEOUT", "EXPIRE"} {
		both := map[string]string{"resolvconf": resolvconfHook, name: shipped, "nodnsupdate": shipped}
		if resolv, called := dhclient(t, reason, both); resolv != ours || called != "" {
			t.Errorf("%s: %q, %q", reason, resolv, called)
		}
		if resolv, _ := dhclient(t, reason, map[string]string{name: shipped}); resolv != ours {
			t.Errorf("%s without resolvconf: %q", reason, resolv)
		}
	}
	for _, reason := range []string{"BOUND", "BOUND6", "TIMEOUT"} {
		if resolv, _ := dhclient(t, reason, nil); !strings.Contains(resolv, "192.0.2.53") && !strings.Contains(resolv, "2001:db8::53") {
			t.Errorf("%s without the hook: %q", reason, resolv)
		}
	}
	if _, called := dhclient(t, "BOUND", map[string]string{"resolvconf": resolvconfHook, "nodnsupdate": shipped}); !strings.Contains(called, "192.0.2.53") {
		t.Errorf("the hook by its old name alone: %q", called) // defect 25
	}
}
