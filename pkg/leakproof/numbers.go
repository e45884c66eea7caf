// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import "whonix-networking/pkg/fdd"

// protocols are those of the names that nft(8) knows by itself.
func protocols() map[string]uint64 {
	return map[string]uint64{
		"icmp": fdd.ICMP, "igmp": 2, "tcp": fdd.TCP, "udp": fdd.UDP, "dccp": fdd.DCCP, "gre": 47, "esp": 50, "ah": 51,
		"icmpv6": fdd.ICMPv6, "ipv6-icmp": fdd.ICMPv6, "comp": 108, "sctp": fdd.SCTP, "udplite": fdd.UDPLite,
	}
}

func flagBits() map[string]uint64 {
	return map[string]uint64{"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
}

func routes() map[string]uint64 {
	return map[string]uint64{
		"unicast": fdd.Unicast, "local": fdd.Local, "broadcast": fdd.Broadcast, "anycast": fdd.Anycast, "multicast": fdd.Multicast,
		"blackhole": fdd.Blackhole, "unreachable": fdd.Unreachable, "prohibit": fdd.Prohibit,
	}
}

// Types of ICMP that properties name.
const (
	echoRequest       = 8
	unreachable       = 3
	fragNeeded        = 4 // a code
	packetTooBig      = 2 // of ICMPv6, as the following
	echoRequest6      = 128
	routerSolicit     = 133
	routerAdvert      = 134
	neighbourSolicit  = 135
	neighbourAdvert   = 136
	redirect6         = 137
	listenerQuery     = 130
	listenerReport    = 131
	listenerDone      = 132
	routerRenumbering = 138
	listenerReport2   = 143
)

func icmpTypes() map[string]uint64 {
	return map[string]uint64{
		"echo-reply": 0, "destination-unreachable": unreachable, "source-quench": 4, "redirect": 5, "echo-request": echoRequest,
		"router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12, "timestamp-request": 13,
		"timestamp-reply": 14, "info-request": 15, "info-reply": 16, "address-mask-request": 17, "address-mask-reply": 18,
	}
}

func icmpCodes() map[string]uint64 {
	return map[string]uint64{
		"net-unreachable": 0, "host-unreachable": 1, "prot-unreachable": 2, "port-unreachable": 3, "frag-needed": fragNeeded,
		"net-prohibited": 9, "host-prohibited": 10, "admin-prohibited": 13,
	}
}

func icmpv6Types() map[string]uint64 {
	return map[string]uint64{
		"destination-unreachable": 1, "packet-too-big": packetTooBig, "time-exceeded": 3, "parameter-problem": 4, "echo-request": echoRequest6,
		"echo-reply": 129, "mld-listener-query": listenerQuery, "mld-listener-report": listenerReport, "mld-listener-done": listenerDone,
		"mld-listener-reduction": listenerDone, "nd-router-solicit": routerSolicit, "nd-router-advert": routerAdvert,
		"nd-neighbor-solicit": neighbourSolicit, "nd-neighbor-advert": neighbourAdvert, "nd-redirect": redirect6,
		"router-renumbering": routerRenumbering, "ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": listenerReport2,
	}
}
