// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"strconv"
	"strings"

	"whonix-networking/pkg/whonix"
)

// Variables are the configuration's variables by name, as files and
// environment set them.
type Variables map[string]Variable

// Variable is a value and where its parts come from.
type Variable struct {
	Text  string
	Parts []Part // what each assignment contributed, oldest first
}

// Part is the text that one assignment contributed; Origin is FILE:LINE, or
// the word "environment".
type Part struct {
	Text, Origin string
}

// where names the assignment that contributed item, the latest if several did.
func (v Variable) where(item string) string {
	for i := len(v.Parts) - 1; i >= 0; i-- {
		if strings.Contains(v.Parts[i].Text, item) {
			return v.Parts[i].Origin
		}
	}
	if n := len(v.Parts); n > 0 {
		return v.Parts[n-1].Origin
	}
	return "default"
}

// words splits as the shell does with the default IFS.
func words(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return c == ' ' || c == '\t' || c == '\n' })
}

// Networks that defaults are made of.
const (
	lans    = "127.0.0.0/8 192.168.0.0/24 192.168.1.0/24 10.152.152.0/24 10.0.2.2/24"
	lansH   = "192.168.1.0/24 192.168.0.0/24 127.0.0.0/8 10.152.152.0/24 10.0.2.2/24"
	lans6   = "::1/128 fd19:c33d:88bc::0/96"
	qubes   = "10.137.0.0/16 10.138.0.0/16"
	qubes6  = "fd09:24ef:4179::a8a:0/112 fd09:24ef:4179::a89:0/112"
	vifs    = "vif*"
	intNIC  = "eth1"
	extNIC  = "eth0"
	tunNIC  = "tun0"
	off, on = "0", "1"
)

// defaults are the values of variables that are unset or empty. IPv4-mapped
// networks are not among them: no packet ever carried such an address (D20).
func defaults(role whonix.Role, inQubes bool) map[string]string {
	d := map[string]string{
		"CONTROL_PORT_FILTER_PROXY_PORT": strconv.Itoa(whonix.ControlPort),
		"EXT_IF":                         extNIC,
		"VPN_INTERFACE":                  tunNIC,
		"INT_IF":                         intNIC,
		"INT_TIF":                        intNIC,
		"LOCAL_NET":                      lans,
		"LOCAL_NET_IP6":                  lans6,
		"qubes_updates_proxy_port":       "8082",
	}
	if inQubes {
		d["LOCAL_NET"] = "127.0.0.0/8 " + qubes
		d["LOCAL_NET_IP6"] = "::1/128 " + qubes6
	}
	switch role {
	case whonix.Gateway:
		inboundDefaults(d, on)
		gatewayDefaults(d, inQubes)
	case whonix.Host:
		inboundDefaults(d, off)
		d["NON_TOR_GATEWAY"], d["NON_TOR_GATEWAY_IP6"] = lansH, lans6
		d["LOCAL_NET"], d["LOCAL_NET_IP6"] = lansH, lans6
	default:
		d["GATEWAY_IP_HARDCODED"], d["GATEWAY_IP6_HARDCODED"] = whonix.GatewayIP, whonix.GatewayIP6
		d["GATEWAY_IP"], d["GATEWAY_IP6"] = whonix.GatewayIP, whonix.GatewayIP6
	}
	return d
}

// inboundDefaults are those that the gateway and the host share; services for
// the Workstation are on or off.
func inboundDefaults(d map[string]string, services string) {
	for _, name := range []string{
		"WORKSTATION_TRANSPARENT_TCP", "WORKSTATION_TRANSPARENT_DNS",
		"WORKSTATION_ALLOW_SOCKSIFIED", "CONTROL_PORT_FILTER_PROXY_ENABLE",
	} {
		d[name] = services
	}
	for _, name := range []string{
		"GATEWAY_ALLOW_INCOMING_SSH", "GATEWAY_ALLOW_INCOMING_FLASHPROXY", "GATEWAY_ALLOW_INCOMING_ICMP",
		"GATEWAY_ALLOW_INCOMING_DIR_PORT", "GATEWAY_ALLOW_INCOMING_OR_PORT",
	} {
		d[name] = off
	}
	d["GATEWAY_ALLOW_INCOMING_ICMP_FRAG_NEEDED"] = on
	d["FLASHPROXY_PORT"], d["DIR_PORT"], d["OR_PORT"] = "9000", "80", "443"
	d["TRANS_PORT_WORKSTATION"] = strconv.Itoa(whonix.TransPortWorkstation)
	d["TRANS_PORT_GATEWAY"] = strconv.Itoa(whonix.TransPortGateway)
	d["DNS_PORT_WORKSTATION"] = strconv.Itoa(whonix.DNSPortWorkstation)
	d["DNS_PORT_GATEWAY"] = strconv.Itoa(whonix.DNSPortGateway)
}

func gatewayDefaults(d map[string]string, inQubes bool) {
	for _, name := range []string{
		"ALLOW_GATEWAY_ROOT_USER", "ALLOW_GATEWAY_USER_USER",
		"GATEWAY_TRANSPARENT_DNS", "GATEWAY_TRANSPARENT_TCP", "GATEWAY_TRANSPARENT_UDP", "WORKSTATION_TRANSPARENT_UDP",
	} {
		d[name] = off
	}
	d["WORKSTATION_DEST_SOCKSIFIED"], d["WORKSTATION_DEST_SOCKSIFIED_IPV6"] = whonix.GatewayIP, whonix.GatewayIP6
	d["NON_TOR_GATEWAY"], d["NON_TOR_GATEWAY_IP6"] = lans, lans6
	if inQubes {
		d["INT_IF"], d["INT_TIF"] = vifs, vifs
		d["WORKSTATION_DEST_SOCKSIFIED"] = qubes + " " + whonix.GatewayIP
		d["WORKSTATION_DEST_SOCKSIFIED_IPV6"] = qubes6 + " " + whonix.GatewayIP6
		d["NON_TOR_GATEWAY"], d["NON_TOR_GATEWAY_IP6"] = "", ""
	}
}

// account is a variable that names an account, and the account it stands for
// by default.
type account struct {
	variable, name string
	required       bool
}

// accounts in the order in which they are looked up.
func accounts() []account {
	return []account{
		{variable: "CLEARNET_USER", name: "clearnet"},
		{variable: "NOTUNNEL_USER", name: "notunnel"},
		{variable: "ROOT_USER", name: "root", required: true},
		{variable: "SDWDATE_USER", name: "sdwdate"},
		{variable: "SYSTEMCHECK_USER", name: "systemcheck"},
		{variable: "TOR_USER", name: "debian-tor"},
		{variable: "TUNNEL_USER", name: "tunnel"},
		{variable: "UPDATESPROXYCHECK_USER", name: "updatesproxycheck"},
		{variable: "USER_USER", name: "user"},
	}
}

// builtinSocksPorts is the list appended to INTERNAL_OPEN_PORTS.
func builtinSocksPorts() string {
	var b strings.Builder
	for i, p := range whonix.SocksPorts() {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Itoa(int(p.First)))
	}
	return b.String()
}

// printedVariables are the variables that --info prints, in this order.
func printedVariables(role whonix.Role) []string {
	switch role {
	case whonix.Gateway:
		return strings.Fields(`ALLOW_GATEWAY_ROOT_USER ALLOW_GATEWAY_USER_USER CLEARNET_USER
			CONTROL_PORT_FILTER_PROXY_ENABLE CONTROL_PORT_FILTER_PROXY_PORT DIR_PORT DNS_PORT_GATEWAY
			DNS_PORT_WORKSTATION EXTERNAL_OPEN_ALL EXTERNAL_OPEN_PORTS EXTERNAL_UDP_OPEN_PORTS EXT_IF
			FLASHPROXY_PORT GATEWAY_ALLOW_INCOMING_DIR_PORT GATEWAY_ALLOW_INCOMING_FLASHPROXY
			GATEWAY_ALLOW_INCOMING_ICMP GATEWAY_ALLOW_INCOMING_ICMP_FRAG_NEEDED
			GATEWAY_ALLOW_INCOMING_OR_PORT GATEWAY_ALLOW_INCOMING_RELATED_STATE
			GATEWAY_ALLOW_INCOMING_SSH GATEWAY_TRANSPARENT_DNS GATEWAY_TRANSPARENT_TCP
			GATEWAY_TRANSPARENT_UDP INTERNAL_OPEN_PORTS INT_IF INT_TIF LOCAL_NET LOCAL_NET_IP6
			NON_TOR_GATEWAY NON_TOR_GATEWAY_IP6 NO_NAT_USERS NO_REJECT_INVALID_OUTGOING_PACKAGES OR_PORT
			ROOT_USER SDWDATE_USER SYSTEMCHECK_USER TOR_USER TRANS_PORT_GATEWAY TRANS_PORT_WORKSTATION
			TUNNEL_FIREWALL_ENABLE TUNNEL_USER USER_USER VPN_FIREWALL VPN_INTERFACE
			WORKSTATION_ALLOW_SOCKSIFIED WORKSTATION_DEST_SOCKSIFIED WORKSTATION_DEST_SOCKSIFIED_IPV6
			WORKSTATION_TRANSPARENT_DNS WORKSTATION_TRANSPARENT_TCP WORKSTATION_TRANSPARENT_UDP
			firewall_allow_udp firewall_mode firewall_mode_detected info_enabled outgoing_allow_ip_list
			source_only`)
	case whonix.Host:
		return strings.Fields(`CLEARNET_USER EXTERNAL_OPEN_ALL EXTERNAL_OPEN_PORTS EXTERNAL_UDP_OPEN_PORTS
			EXT_IF FLASHPROXY_PORT GATEWAY_ALLOW_INCOMING_FLASHPROXY GATEWAY_ALLOW_INCOMING_ICMP
			GATEWAY_ALLOW_INCOMING_ICMP_FRAG_NEEDED GATEWAY_ALLOW_INCOMING_RELATED_STATE
			GATEWAY_ALLOW_INCOMING_SSH INTERNAL_OPEN_PORTS LOCAL_NET LOCAL_NET_IP6 NON_TOR_GATEWAY
			NON_TOR_GATEWAY_IP6 NO_REJECT_INVALID_OUTGOING_PACKAGES VPN_FIREWALL VPN_INTERFACE
			VPN_SERVERS firewall_mode firewall_mode_detected info_enabled source_only`)
	default:
		return strings.Fields(`CONTROL_PORT_FILTER_PROXY_PORT EXTERNAL_OPEN_ALL EXTERNAL_OPEN_PORTS
			EXTERNAL_UDP_OPEN_PORTS EXT_IF GATEWAY_IP GATEWAY_IP6 GATEWAY_IP_HARDCODED
			GATEWAY_IP6_HARDCODED INTERNAL_OPEN_PORTS INT_IF LOCAL_NET LOCAL_NET_IP6 NOTUNNEL_USER
			NO_REJECT_INVALID_OUTGOING_PACKAGES SDWDATE_USER SYSTEMCHECK_USER
			TUNNEL_FIREWALL_ALLOW_CONTROL_PORT_FILTER_PROXY TUNNEL_FIREWALL_ALLOW_LOCAL_NET
			TUNNEL_FIREWALL_ALLOW_NOTUNNEL_USER TUNNEL_FIREWALL_ALLOW_SDWDATE_USER
			TUNNEL_FIREWALL_ALLOW_SYSTEMCHECK TUNNEL_FIREWALL_ALLOW_TB_UPDATER TUNNEL_FIREWALL_ENABLE
			TUNNEL_USER UPDATESPROXYCHECK_USER VPN_FIREWALL VPN_INTERFACE firewall_allow_udp firewall_mode
			firewall_mode_detected info_enabled outgoing_allow_ip_list source_only`)
	}
}
