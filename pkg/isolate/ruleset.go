// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import "whonix-networking/pkg/nft"

// Hook priorities of nft(8): dstnat at the output hook, and filter.
const (
	priorityDstnat = -100
	priorityFilter = 0
)

// ports are where the namespace's listeners are, on loopback.
type ports struct {
	relay4, relay6 uint16 // TCP
	names          uint16 // UDP and TCP, both families
}

// ruleset is the namespace's firewall. All of its routes are on loopback, so
// nothing could leave without it either; it turns what would be lost into
// connections to the listeners, or into an error at once.
//
// Replies of the listeners are of established connections, and go through the
// filter too. What is left when the first rule was passed is neither TCP nor a
// question for a name, and its sender gets EPERM from the policy to drop.
func ruleset(p ports) nft.Script {
	table := nft.Table{Family: "inet", Name: "isolate"}
	nat, filter := nft.Chain{Table: table, Name: "tor"}, nft.Chain{Table: table, Name: "rest"}
	tcp := nft.L4Proto{Protos: []string{"tcp"}}
	onLoopback := nft.OIfName{Interface: nft.Interface{Name: loopback}}
	port := func(proto string, port uint16) nft.Match { return nft.DPort{Proto: proto, Ports: nft.Port(port)} }
	redirect := func(to uint16, m ...nft.Match) nft.Rule {
		return nft.Rule{Chain: nat, Matches: m, Verdict: nft.Redirect{To: nft.Port(to)}}
	}
	accept := func(m ...nft.Match) nft.Rule { return nft.Rule{Chain: filter, Matches: m, Verdict: nft.Accept{}} }
	return nft.Script{
		nft.AddTable{Table: table},
		nft.AddChain{Chain: filter, Base: &nft.Base{Type: "filter", Hook: "output", Priority: priorityFilter, Policy: "drop"}},
		nft.AddChain{Chain: nat, Base: &nft.Base{Type: "nat", Hook: "output", Priority: priorityDstnat, Policy: "accept"}},
		redirect(p.names, port("udp", portDomain)),
		redirect(p.names, port("tcp", portDomain)),
		redirect(p.relay4, nft.NFProto("ipv4"), tcp),
		redirect(p.relay6, nft.NFProto("ipv6"), tcp),
		accept(nft.CTState{"established", "related"}),
		accept(onLoopback, port("udp", p.names)),
		accept(onLoopback, port("tcp", p.names)),
		accept(onLoopback, port("tcp", p.relay4)),
		accept(onLoopback, port("tcp", p.relay6)),
		nft.Rule{Chain: filter, Verdict: nft.Reject{}},
	}
}
