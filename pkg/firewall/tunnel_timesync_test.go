// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"strings"
	"testing"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// TestTimesyncNoWayRoundTor: with a VPN, what full mode sends through Tor does
// not go through the VPN in the clear before time is right. Found by the proof
// (P5): the rules of the original let it.
func TestTimesyncNoWayRoundTor(t *testing.T) {
	topo := buildNetwork(t)
	gw := topo.Gateway.Namespace
	facts := testFacts(whonix.Gateway)
	facts.Machine.Qubes, facts.Machine.NetVM = true, true
	const uidUpdates = 907
	rules := rulesetOf(t, facts, set("VPN_FIREWALL=1", "VPN_INTERFACE=eth0", "EXT_IF=eth9", "INT_IF=eth1", "INT_TIF=eth1",
		"GATEWAY_TRANSPARENT_TCP=1", "GATEWAY_TRANSPARENT_DNS=1", "firewall_mode="+ModeTimesync))
	loadText(t, gw, strings.ReplaceAll(rules, "skuid vm-updates", "skuid 907"))
	for _, server := range []string{netlab.ServerIP, netlab.ServerIP6} {
		expect(t, "TCP of nobody", gw.TCP(uidNobody, addr(server, 80), quick), netlab.Refused)
		expect(t, "DNS of nobody", gw.UDP(uidNobody, addr(server, 53), netlab.Query("example.com"), quick), netlab.Refused, netlab.Forbidden)
		expect(t, "TCP of the updates cache", gw.TCP(uidUpdates, addr(server, 80), quick), netlab.Refused)
		expect(t, "UDP of the updates cache", gw.UDP(uidUpdates, addr(server, 123), []byte("x"), quick), netlab.Refused, netlab.Forbidden)
		expect(t, "TCP of clearnet", gw.TCP(uidClearnet, addr(server, 80), quick), netlab.Answered)
	}
}
