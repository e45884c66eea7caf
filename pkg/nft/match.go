// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"strconv"
	"strings"
)

// Match is one condition of a rule.
type Match interface {
	nft() string
}

// IIfName matches packets that came in through the interface.
type IIfName struct{ Interface Interface }

// OIfName matches packets that leave through the interface.
type OIfName struct{ Interface Interface }

// CTState matches packets whose connection is in one of the states.
type CTState []string

// CTReply matches packets in the reply direction of their connection.
type CTReply struct{}

// TCPFlags matches TCP segments of which exactly Value, of the flags in Mask,
// is set. Both are flag names joined by `|`; Value may be 0x0.
type TCPFlags struct{ Mask, Value string }

// Fragment matches IPv4 fragments other than the first.
type Fragment struct{}

// IPProtocol matches the protocol field of IPv4 headers.
type IPProtocol struct {
	Not    bool
	Protos []string
}

// IP6NextHdr matches the next-header field of the fixed IPv6 header.
type IP6NextHdr string

// L4Proto matches the transport protocol in both families, behind extension
// headers too.
type L4Proto struct {
	Not    bool
	Protos []string
}

// NFProto matches the network protocol: ipv4 or ipv6.
type NFProto string

// DPort matches the destination port of Proto, tcp or udp.
type DPort struct {
	Proto string
	Ports Ports
}

// UDPShorter matches UDP datagrams of fewer bytes than that, header included.
type UDPShorter int

// DAddr matches the destination address in the network's family.
type DAddr struct{ Net Net }

// SAddr matches the source address in the network's family.
type SAddr struct{ Net Net }

// ICMPType and ICMPCode match fields of ICMP, ICMP6Type of ICMPv6.
type (
	ICMPType  string
	ICMPCode  string
	ICMP6Type []string
)

// SKUID matches packets of sockets that the account owns.
type SKUID struct{ User User }

// ReversePathMissing matches packets whose source has no route back through
// the interface they came in by, in either family.
type ReversePathMissing struct{}

// DAddrType matches the type of route, in the kernel's own table, that the
// destination address has.
type DAddrType struct {
	Not   bool
	Types []string
}

// ARPRequest matches ARP requests.
type ARPRequest struct{}

// ARPTarget matches the address an ARP request asks for.
type ARPTarget struct {
	Not  bool
	Nets []Net
}

// ARPSender matches the address an ARP packet says it is from.
type ARPSender struct {
	Not  bool
	Nets []Net
}

func (m IIfName) nft() string    { return "iifname " + m.Interface.nft() }
func (m OIfName) nft() string    { return "oifname " + m.Interface.nft() }
func (m CTState) nft() string    { return "ct state " + strings.Join(m, ",") }
func (CTReply) nft() string      { return "ct direction reply" }
func (m TCPFlags) nft() string   { return "tcp flags & (" + m.Mask + ") == " + m.Value }
func (Fragment) nft() string     { return "ip frag-off & 0x1fff != 0" }
func (m IPProtocol) nft() string { return "ip protocol " + not(m.Not) + braces(m.Protos) }
func (m IP6NextHdr) nft() string { return "ip6 nexthdr " + string(m) }
func (m L4Proto) nft() string    { return "meta l4proto " + not(m.Not) + braces(m.Protos) }
func (m NFProto) nft() string    { return "meta nfproto " + string(m) }
func (m DPort) nft() string      { return m.Proto + " dport " + m.Ports.Text }
func (m UDPShorter) nft() string { return "udp length < " + strconv.Itoa(int(m)) }
func (m DAddr) nft() string      { return m.Net.Family() + " daddr " + m.Net.Text }
func (m SAddr) nft() string      { return m.Net.Family() + " saddr " + m.Net.Text }
func (m ICMPType) nft() string   { return "icmp type " + string(m) }
func (m ICMPCode) nft() string   { return "icmp code " + string(m) }
func (m ICMP6Type) nft() string  { return "icmpv6 type " + braces(m) }
func (m SKUID) nft() string      { return "skuid " + m.User.Text }

func (ReversePathMissing) nft() string { return "fib saddr . iif oif missing" }

func (m DAddrType) nft() string { return "fib daddr type " + not(m.Not) + braces(m.Types) }

func (ARPRequest) nft() string  { return "arp operation request" }
func (m ARPTarget) nft() string { return "arp daddr ip " + not(m.Not) + set(m.Nets) }
func (m ARPSender) nft() string { return "arp saddr ip " + not(m.Not) + set(m.Nets) }

func not(n bool) string {
	if n {
		return "!= "
	}
	return ""
}

// set prints networks as an anonymous set, also a single one.
func set(nets []Net) string {
	words := make([]string, len(nets))
	for i, n := range nets {
		words[i] = n.Text
	}
	return "{ " + strings.Join(words, ", ") + " }"
}
