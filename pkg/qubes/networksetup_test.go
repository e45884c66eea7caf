// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// setUp runs network-proxy-setup twice in a namespace of its own, with a bridge
// in the place of the dummy, which not every kernel has; before is run first.
// It returns the addresses of eth1, none if there is no eth1.
func (m *machine) setUp(before func() error) (addresses []string, err error) {
	m.t.Helper()
	ns, err := netlab.New("gateway")
	if err != nil {
		m.t.Fatal(err)
	}
	defer ns.Close()
	failed := ns.Do(func() error {
		if before != nil {
			if err := before(); err != nil {
				return err
			}
		}
		for range 2 {
			err = setUpNetwork(context.Background(), m.root, m.env(), "bridge")
		}
		link, missing := net.InterfaceByName("eth1")
		if missing != nil {
			return nil
		}
		list, err := link.Addrs()
		if err != nil {
			return err
		}
		for _, a := range list {
			if !a.(*net.IPNet).IP.IsLinkLocalUnicast() {
				addresses = append(addresses, a.String())
			}
		}
		if len(addresses) == 0 {
			return nil
		}
		if link.Flags&net.FlagUp == 0 {
			return fmt.Errorf("eth1 is down")
		}
		for _, setting := range []string{"accept_ra", "autoconf"} {
			value, err := os.ReadFile("/proc/sys/net/ipv6/conf/eth1/" + setting)
			if err != nil || string(value) != "0\n" {
				return fmt.Errorf("%s is %q, %v", setting, value, err)
			}
		}
		for _, a := range list { // Tor can bind at once
			ip := a.(*net.IPNet).IP
			if ip.IsLinkLocalUnicast() {
				continue
			}
			l, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
			if err != nil {
				return err
			}
			l.Close()
		}
		return nil
	})
	if failed != nil {
		m.t.Error(failed)
	}
	slices.Sort(addresses)
	return addresses, err
}

// TestSetUpNetwork: what Qubes says becomes eth1's, as far as it is good
// (defect 37).
func TestSetUpNetwork(t *testing.T) {
	eth1 := func() error { return makeLink("eth1", "bridge") }
	for name, c := range map[string]struct {
		ip, mask, ip6 string // "-" is no key
		before        func() error
		want          string
		fails         bool
		says          string
	}{
		"all":           {"10.137.0.9\n", "255.255.255.0\n", "fd09:24ef:4179::a89:9\n", nil, "10.137.0.9/24 fd09:24ef:4179::a89:9/128", false, ""},
		"there already": {"10.137.0.9\n", "255.255.255.255\n", "fd09:24ef:4179::a89:9\n", eth1, "10.137.0.9/32 fd09:24ef:4179::a89:9/128", false, ""},
		"no network":    {"-", "-", "-", nil, "", false, "INFO: QubesDB has no /qubes-netvm-gateway"},
		"no netmask":    {"10.137.0.9", "-", "-", nil, "10.137.0.9/32", false, ""},
		"empty":         {"10.137.0.9", "", "\n", nil, "10.137.0.9/32", false, ""},
		"bad netmask":   {"10.137.0.9", "255.0.255.0", "-", nil, "10.137.0.9/32", false, "/qubes-netvm-netmask"},
		"no mask":       {"10.137.0.9", "0.0.0.0", "-", nil, "10.137.0.9/32", false, "/qubes-netvm-netmask"},
		"bad IPv6":      {"10.137.0.9", "-", "10.0.0.1", nil, "10.137.0.9/32", false, "/qubes-netvm-gateway6"},
		"bad IPv4":      {"::1", "-", "fd00::9", nil, "", true, ""},
		"anywhere":      {"0.0.0.0", "-", "-", nil, "", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, whonix.GatewayMarker)
			for key, value := range map[string]string{keyNetVMGateway: c.ip, keyNetVMNetmask: c.mask, keyNetVMGateway6: c.ip6} {
				if value != "-" {
					m.key(key, value)
				}
			}
			got, err := m.setUp(c.before)
			if strings.Join(got, " ") != c.want || (err != nil) != c.fails || !strings.Contains(m.stderr.String(), c.says) {
				t.Errorf("eth1 has %v; %v; said %q", got, err, m.stderr.String())
			}
			if c.fails && !strings.Contains(err.Error(), keyNetVMGateway) {
				t.Errorf("the error names no key: %v", err)
			}
		})
	}
}

// TestSetUpNetworkElsewhere: nothing is done in templates and on Workstations.
func TestSetUpNetworkElsewhere(t *testing.T) {
	for _, marker := range []string{whonix.GatewayMarker, whonix.WorkstationMarker} {
		m := newMachine(t, marker)
		if marker == whonix.GatewayMarker {
			m.write(whonix.TemplateMarker, "")
		}
		m.key(keyNetVMGateway, "10.137.0.9")
		if got, err := m.setUp(nil); err != nil || got != nil {
			t.Errorf("%s: %v, %v", marker, got, err)
		}
	}
}

// TestSetUpNetworkFails: an interface that cannot be made is an error.
func TestSetUpNetworkFails(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.key(keyNetVMGateway, "10.137.0.9")
	ns, err := netlab.New("gateway")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error { return setUpNetwork(context.Background(), m.root, m.env(), "no-such-kind") })
	if err == nil || !strings.Contains(err.Error(), "make the interface eth1 (no-such-kind)") {
		t.Error(err)
	}
}

// TestOffload: the kernel knows the request; loopback has the setting.
func TestOffload(t *testing.T) {
	ns, err := netlab.New("gateway")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		if err := offloadOff("no-such-link", ethtoolScatterGather); err != unix.ENODEV {
			return fmt.Errorf("a missing interface: %v", err)
		}
		if err := makeLink("eth1", "bridge"); err != nil {
			return err
		}
		return offloadOff("eth1", ethtoolScatterGather)
	})
	if err != nil {
		t.Error(err)
	}
}
