// SPDX-License-Identifier: GPL-3.0-or-later

package whonix

import (
	"net"
	"strconv"
	"strings"
)

// Addresses of the internal network outside Qubes.
const (
	GatewayIP      = "10.152.152.10"
	GatewayIP6     = "fd19:c33d:88bc::10"
	WorkstationIP  = "10.152.152.11"
	WorkstationIP6 = "fd19:c33d:88bc::11"
)

// Addresses of loopback.
const (
	LoopbackIP  = "127.0.0.1"
	LoopbackIP6 = "::1"
)

// Ports that code names. What they are for is in the table, Ports.
const (
	TransPortWorkstation = 9040
	TransPortGateway     = 9041
	DNSPortWorkstation   = 5300
	DNSPortGateway       = 5400
	DefaultPort          = 9050
	ControlPort          = 9051
	TorControlPort       = 9052
	BrowserPort          = 9150
	BrowserControlPort   = 9151

	LegacyBrowserPort    = 9100
	MailPort             = 9102
	AptGetPort           = 9104
	SdwdatePort          = 9108 // the one SocksPort open before time is right
	TorBrowserUpdatePort = 9115
	CurlPort             = 9117
)

// Custom ports: SocksPorts and HTTPTunnelPorts prepared for programs that the
// user installs.
const (
	CustomPortFirst     = 9152
	HTTPTunnelPortFirst = 9190
	CustomPortLast      = 9229
)

// The same as text, where a constant is needed.
const (
	DefaultPortText        = "9050"
	ControlPortText        = "9051"
	TorControlPortText     = "9052"
	MailPortText           = "9102"
	AptGetPortText         = "9104"
	CurlPortText           = "9117"
	BrowserPortText        = "9150"
	BrowserControlPortText = "9151"
)

// TorSocket is where programs on the Gateway find Tor without a port.
const TorSocket = "/run/tor/socks"

// Kind is what listens at a port.
type Kind int

// The kinds. All but the last two are listeners in the generated part of the
// Gateway's torrc.
const (
	Trans      Kind = iota // TransPort: whatever TCP the firewall redirects
	DNS                    // DnsPort
	Socks                  // SocksPort
	HTTPTunnel             // HTTPTunnelPort: HTTP CONNECT
	TorControl             // Tor's own control port, behind the filter
	Filter                 // the control port filter, onion-grater
)

// String is the option of Tor's that opens such a listener; empty if none of
// the generated part does.
func (k Kind) String() string {
	return [...]string{"TransPort", "DnsPort", "SocksPort", "HTTPTunnelPort", "", ""}[k]
}

// Side is on which of the Gateway's addresses a port is.
type Side int

// The sides.
const (
	Local    Side = 1 << iota // loopback
	Internal                  // the addresses that Workstations see
	Both     = Local | Internal
)

// Flags of Tor's listeners.
const (
	ipv6     = "IPv6Traffic"
	destAddr = "IsolateDestAddr"
	destPort = "IsolateDestPort"
	dest     = destAddr + " " + destPort
)

// Port is a row of the one port table: a port, or several that are alike.
type Port struct {
	First, Last   uint16
	Kind          Kind
	Side          Side
	Name          string // as in the variables SOCKS_PORT_NAME of 2020
	Purpose       string
	Flags         string // of Tor's listener
	InternalFlags string // further ones on the internal addresses
}

// Ports is the one port table, in the order of Tor's configuration. Whatever
// knows a port number has it from here, or a test of pkg/house fails.
func Ports() []Port {
	ports := []Port{
		{Kind: Trans, First: TransPortGateway, Side: Local, Name: "TRANS_GATEWAY", Purpose: "the Gateway's own TCP"},
		{Kind: DNS, First: DNSPortGateway, Side: Local, Name: "DNS_GATEWAY", Purpose: "the Gateway's own DNS"},
		// No isolation, on purpose: file sharing would have circuits without end.
		{Kind: Trans, First: TransPortWorkstation, Side: Internal, Name: "TRANS_WORKSTATION", Purpose: "all other TCP of Workstations"},
		// Above 1024: Tor can bind it again after it has become debian-tor.
		{Kind: DNS, First: DNSPortWorkstation, Side: Internal, Name: "DNS_WORKSTATION", Purpose: "all other DNS of Workstations", Flags: destPort},
	}
	ports = append(ports, programs()...)
	ports = append(ports, custom()...)
	ports = append(ports,
		Port{Kind: Filter, First: ControlPort, Side: Internal, Name: "CONTROL_FILTER", Purpose: "the control port filter"},
		Port{Kind: Filter, First: BrowserControlPort, Name: "CONTROL_BROWSER", Purpose: "the same, where Tor Browser looks for it; on Workstations alone"},
		Port{Kind: TorControl, First: TorControlPort, Side: Local, Name: "CONTROL", Purpose: "Tor's control port"})
	for i := range ports {
		ports[i].Last = max(ports[i].First, ports[i].Last)
	}
	return ports
}

// programs are the SocksPorts of the distribution's programs. Isolation by
// destination is left out where it is load without gain (APT), where many
// servers belong to one purpose (Bitcoin), and where browsers may come along
// (desktops).
func programs() []Port {
	socks := func(port uint16, name, purpose, flags string) Port {
		return Port{Kind: Socks, First: port, Side: Both, Name: name, Purpose: purpose, Flags: strings.TrimSpace(ipv6 + " " + flags)}
	}
	browser := socks(BrowserPort, "TBB_DEFAULT", "Tor Browser's own default, isolated by user name", "PreferIPv6 KeepAliveIsolateSOCKSAuth")
	browser.InternalFlags = "ExtendedErrors"
	return []Port{
		socks(DefaultPort, "TOR_DEFAULT", "programs that expect a system Tor", ""),
		socks(LegacyBrowserPort, "TB", "Tor Browser", ""),
		socks(9101, "IRC", "IRC clients", dest),
		socks(MailPort, "TORBIRDY", "Thunderbird", dest),
		socks(9103, "IM", "instant messengers", dest),
		socks(AptGetPort, "APT_GET", "apt-get, and the updates proxy of Qubes", ""),
		socks(9105, "GPG", "GnuPG", dest),
		socks(9106, "SSH", "ssh", dest),
		socks(9107, "GIT", "git", dest),
		socks(SdwdatePort, "SDWDATE", "sdwdate", dest),
		socks(9109, "WGET", "wget", dest),
		socks(9110, "SYSTEMCHECK", "systemcheck", dest),
		socks(9111, "BITCOIN", "bitcoin", ""),
		socks(9114, "WHONIX_NEWS", "news of the distribution", dest),
		socks(TorBrowserUpdatePort, "TBB_DOWNLOAD", "Tor Browser downloader", dest),
		socks(CurlPort, "CURL", "curl", dest),
		socks(9118, "RSS", "feed readers", dest),
		socks(9122, "KDE", "KDE programs", ""),
		socks(9123, "GNOME", "GNOME programs", ""),
		socks(9124, "APTITUDE", "aptitude", ""),
		socks(9125, "YUM", "yum", ""),
		browser,
	}
}

// custom are the ports for what the user installs: of each kind four groups,
// by how streams are isolated.
func custom() []Port {
	group := func(kind Kind, first, last uint16, side Side, flags string) Port {
		return Port{Kind: kind, First: first, Last: last, Side: side, Purpose: "programs of your own", Flags: flags}
	}
	return []Port{
		group(Socks, CustomPortFirst, 9159, Internal, ipv6),
		group(Socks, 9160, 9169, Internal, ipv6+" "+destAddr),
		group(Socks, 9170, 9179, Internal, ipv6+" "+destPort),
		group(Socks, 9180, 9189, Internal, ipv6+" "+dest),
		group(HTTPTunnel, HTTPTunnelPortFirst, 9199, Both, ""),
		group(HTTPTunnel, 9200, 9209, Both, destAddr),
		group(HTTPTunnel, 9210, 9219, Both, destPort),
		group(HTTPTunnel, 9220, CustomPortLast, Both, dest),
	}
}

// SocksPorts are the SocksPorts for the programs of the distribution, in
// ascending order.
func SocksPorts() []Port {
	var out []Port
	for _, p := range Ports() {
		if p.Kind == Socks && p.Name != "" {
			out = append(out, p)
		}
	}
	return out
}

// HostPort is an address and a port as one word.
func HostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// TorListeners is the generated part of the Gateway's torrc: a line for each
// port and address, those of loopback first, for Workstations behind the given
// addresses.
func TorListeners(internal4, internal6 string) []string {
	var out []string
	for _, side := range []struct {
		side       Side
		ipv4, ipv6 string
	}{{Local, LoopbackIP, LoopbackIP6}, {Internal, internal4, internal6}} {
		for _, p := range Ports() {
			if p.Kind.String() == "" || p.Side&side.side == 0 {
				continue
			}
			if p.First == DefaultPort && side.side == Local {
				out = append(out, Socks.String()+" unix:"+TorSocket+" "+ipv6+" WorldWritable")
			}
			flags := p.Flags
			if side.side == Internal {
				flags += " " + p.InternalFlags
			}
			for n := int(p.First); n <= int(p.Last); n++ {
				for _, host := range []string{side.ipv4, side.ipv6} {
					line := p.Kind.String() + " " + HostPort(host, uint16(n)) + " " + flags
					out = append(out, strings.TrimSpace(line))
				}
			}
		}
	}
	return out
}
