// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"whonix-networking/pkg/leakproof"
	"whonix-networking/pkg/whonix"
)

// choice is an option and values that an administrator may give it; the first
// is the default.
type choice struct {
	option string
	values []string
}

func onOff(names string, on string) (out []choice) {
	for _, n := range strings.Fields(names) {
		out = append(out, choice{n, []string{"", on}})
	}
	return out
}

// sharedChoices are the options that every role has.
func sharedChoices() []choice {
	return append(onOff("EXTERNAL_OPEN_ALL TUNNEL_FIREWALL_ENABLE", "true"),
		choice{"VPN_INTERFACE", []string{"", "wg0"}},
		choice{"EXT_IF", []string{"", "eth0 wlan0", "wl+"}}, // that it overlaps INT_IF: TestOneInterface
		choice{"EXTERNAL_OPEN_PORTS", []string{"", "22 1000:2000", "53"}},
		choice{"EXTERNAL_UDP_OPEN_PORTS", []string{"", "53 5353"}},
		choice{"INTERNAL_OPEN_PORTS", []string{"", "80", "1-65535"}},
		choice{"CONTROL_PORT_FILTER_PROXY_PORT", []string{"", "22"}},
		choice{"NO_REJECT_INVALID_OUTGOING_PACKAGES", []string{"", "1"}},
		choice{"LOCAL_NET", []string{"", " ", "10.0.0.0/8 172.16.0.1-172.16.0.9"}},
		choice{"LOCAL_NET_IP6", []string{"", "2001:db8::/32"}},
	)
}

func inboundChoices() []choice {
	return append(onOff(`GATEWAY_ALLOW_INCOMING_SSH GATEWAY_ALLOW_INCOMING_FLASHPROXY GATEWAY_ALLOW_INCOMING_DIR_PORT
		GATEWAY_ALLOW_INCOMING_OR_PORT GATEWAY_ALLOW_INCOMING_RELATED_STATE GATEWAY_ALLOW_INCOMING_ICMP`, "1"),
		choice{"GATEWAY_ALLOW_INCOMING_ICMP_FRAG_NEEDED", []string{"", "0"}},
		choice{"CLEARNET_USER", []string{"", "1001"}},
		choice{"INT_IF", []string{"", "eth1 eth2", "vif*"}},
		choice{"INT_TIF", []string{"", "tap0"}},
		choice{"NON_TOR_GATEWAY", []string{"", " ", "10.0.0.0/8 192.168.0.1-192.168.0.24"}},
		choice{"NON_TOR_GATEWAY_IP6", []string{"", "2001:db8::/32"}},
		choice{"IPV6_RA_IF", []string{"", "wlan0"}},
		choice{"WORKSTATION_DEST_SOCKSIFIED", []string{"", "10.0.0.0/8", "0.0.0.0/1 128.0.0.0/1"}},
		choice{"WORKSTATION_DEST_SOCKSIFIED_IPV6", []string{"", "2000::/3"}},
	)
}

func gatewayChoices() []choice {
	list := append(sharedChoices(), inboundChoices()...)
	for _, n := range strings.Fields("WORKSTATION_TRANSPARENT_TCP WORKSTATION_TRANSPARENT_DNS WORKSTATION_ALLOW_SOCKSIFIED CONTROL_PORT_FILTER_PROXY_ENABLE") {
		list = append(list, choice{n, []string{"", "0"}})
	}
	list = append(list, onOff("ALLOW_GATEWAY_ROOT_USER ALLOW_GATEWAY_USER_USER GATEWAY_TRANSPARENT_TCP GATEWAY_TRANSPARENT_DNS", "1")...)
	return append(list,
		choice{"GATEWAY_REJECT_LAN_DNS", []string{"", "true"}},
		choice{"NO_NAT_USERS", []string{"", "13"}},
		choice{"TUNNEL_USER", []string{"", "1002"}},
		choice{"TOR_USER", []string{"", "103"}},
		choice{"TRANS_PORT_WORKSTATION", []string{"", "80"}},
		choice{"DNS_PORT_WORKSTATION", []string{"", "53"}},
		choice{"TRANS_PORT_GATEWAY", []string{"", "81"}},
		choice{"DNS_PORT_GATEWAY", []string{"", "54"}},
	)
}

func hostChoices() []choice {
	list := append(sharedChoices(), inboundChoices()...)
	list = append(list, onOff("WORKSTATION_TRANSPARENT_TCP WORKSTATION_TRANSPARENT_DNS WORKSTATION_ALLOW_SOCKSIFIED CONTROL_PORT_FILTER_PROXY_ENABLE", "1")...)
	return append(list,
		choice{"HOST_FORWARD_IF", []string{"", "virbr1"}},
		choice{"HOST_ALLOW_OUTGOING", []string{"", "true"}},
		choice{"VPN_SERVERS", []string{"198.51.100.7", "198.51.100.7 2001:db8::7"}},
	)
}

func workstationChoices() []choice {
	list := append(sharedChoices(), onOff(`TUNNEL_FIREWALL_ALLOW_SDWDATE_USER TUNNEL_FIREWALL_ALLOW_NOTUNNEL_USER TUNNEL_FIREWALL_ALLOW_LOCAL_NET
		TUNNEL_FIREWALL_ALLOW_CONTROL_PORT_FILTER_PROXY TUNNEL_FIREWALL_ALLOW_TB_UPDATER TUNNEL_FIREWALL_ALLOW_SYSTEMCHECK firewall_allow_udp`, "true")...)
	return append(list,
		choice{"outgoing_allow_ip_list", []string{"", "198.51.100.1 2001:db8::1"}},
		choice{"TUNNEL_USER", []string{"", "1002"}},
		choice{"IPV6_RA_IF", []string{"", "eth0"}},
		choice{"GATEWAY_IP", []string{"", "10.0.0.1"}},
		choice{"GATEWAY_IP6", []string{"", "2001:db8::99"}},
	)
}

// pairs are configurations in which every value of every option meets every
// value of every other: chosen greedily, one after the other.
func pairs(choices []choice) (out [][]string) {
	type pair struct{ i, v, j, w int }
	missing := map[pair]bool{}
	for i := range choices {
		for j := i + 1; j < len(choices); j++ {
			for v := range choices[i].values {
				for w := range choices[j].values {
					missing[pair{i, v, j, w}] = true
				}
			}
		}
	}
	for len(missing) > 0 {
		row := make([]int, len(choices))
		for i := range choices {
			best, most := 0, -1
			for v := range choices[i].values {
				gain := 0
				for j := range i {
					if missing[pair{j, row[j], i, v}] {
						gain += 2
					}
				}
				for j := i + 1; j < len(choices); j++ { // what it can still bring
					for w := range choices[j].values {
						if missing[pair{i, v, j, w}] {
							gain++
							break
						}
					}
				}
				if gain > most {
					best, most = v, gain
				}
			}
			row[i] = best
		}
		vars, before := []string(nil), len(missing)
		for i, c := range choices {
			for j := range i {
				delete(missing, pair{j, row[j], i, row[i]})
			}
			if c.values[row[i]] != "" {
				vars = append(vars, c.option+"="+c.values[row[i]])
			}
		}
		if len(missing) == before { // greed led nowhere: take one that is missing
			for p := range missing {
				vars = []string{choices[p.i].option + "=" + choices[p.i].values[p.v], choices[p.j].option + "=" + choices[p.j].values[p.w]}
				delete(missing, p)
				break
			}
		}
		out = append(out, vars)
	}
	return out
}

// weakByDefault are weakenings of configurations that set nothing.
func weakByDefault() []string { return []string{"NON_TOR_GATEWAY", "NON_TOR_GATEWAY_IP6"} }

// TestEveryPairOfOptionsIsProved: P8. Whatever two options are set to, nothing
// leaks but by options that weaken by design, and those are named.
func TestEveryPairOfOptionsIsProved(t *testing.T) {
	for role, choices := range map[whonix.Role][]choice{
		whonix.Gateway: gatewayChoices(), whonix.Workstation: workstationChoices(), whonix.Host: hostChoices(),
	} {
		for _, mode := range []string{ModeFull, ModeTimesync} {
			for _, inQubes := range []bool{false, true} {
				if inQubes && role == whonix.Host {
					continue
				}
				t.Run(fmt.Sprintf("%v %s qubes=%v", role, mode, inQubes), func(t *testing.T) {
					t.Parallel()
					list := pairs(choices)
					if len(list) < 6 {
						t.Fatalf("only %d configurations", len(list))
					}
					for _, vars := range list {
						f := testFacts(role)
						f.Machine.Qubes, f.Machine.NetVM = inQubes, inQubes
						proveAll(t, f, append(slices.Clone(vars), "firewall_mode="+mode))
					}
				})
			}
		}
	}
}

// proveAll proves a configuration, and that it names only options that are set.
func proveAll(t *testing.T, f *Facts, vars []string) {
	t.Helper()
	p, texts := textsOf(t, f, set(vars...))
	proof, err := leakproof.Prove(p, texts)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range proof.Results {
		if r.Status != leakproof.Proved {
			t.Errorf("%q\n%s", vars, about(r))
		}
	}
	for _, w := range proof.Weakenings() {
		named := slices.ContainsFunc(vars, func(v string) bool {
			option, _, _ := strings.Cut(v, "=")
			alias := option == "TUNNEL_FIREWALL_ENABLE" && (w.Option == "VPN_FIREWALL" || w.Option == "LOCAL_NET" || w.Option == "VPN_SERVERS")
			return option == w.Option || alias || strings.HasPrefix(option, "WORKSTATION_") && f.Role == whonix.Host && strings.HasSuffix(w.Option, "_WORKSTATION") ||
				option == "CONTROL_PORT_FILTER_PROXY_ENABLE" && w.Option == "CONTROL_PORT_FILTER_PROXY_PORT"
		})
		if !named && !slices.Contains(weakByDefault(), w.Option) {
			t.Errorf("%q: %s weakens, and is not set: %s", vars, w.Option, w.Why)
		}
	}
}

// TestOneInterface: an interface that leads both ways is named, and keeps
// nothing from being proved that can be kept apart.
func TestOneInterface(t *testing.T) {
	for _, vars := range [][]string{{"EXT_IF=eth1"}, {"INT_IF=eth*"}, {"INT_IF=eth0", "INT_TIF=eth0"}} {
		p, texts := textsOf(t, testFacts(whonix.Gateway), set(vars...))
		proof, err := leakproof.Prove(p, texts)
		if err != nil || !proof.Holds() {
			t.Errorf("%q: %v %+v", vars, err, proof)
			continue
		}
		if !slices.ContainsFunc(proof.Weakenings(), func(w leakproof.Weakening) bool { return w.Option == "INT_IF" }) {
			t.Errorf("%q: not named: %v", vars, proof.Weakenings())
		}
	}
}
