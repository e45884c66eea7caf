// SPDX-License-Identifier: GPL-3.0-or-later

package whonix

// Addresses of the internal network outside Qubes.
const (
	GatewayIP  = "10.152.152.10"
	GatewayIP6 = "fd19:c33d:88bc::10"
)

// Ports of the Gateway's Tor and of the control port filter.
const (
	ControlPort          = 9051 // onion-grater
	TransPortWorkstation = 9040 // TransPort for redirected Workstation traffic
	TransPortGateway     = 9041 // TransPort for the Gateway's own traffic
	DNSPortWorkstation   = 5300
	DNSPortGateway       = 5400
	SdwdatePort          = 9108 // the one SocksPort open before time is right
	TorBrowserUpdatePort = 9115
)

// Custom ports: SocksPorts and HTTPTunnelPorts prepared for programs that the
// user installs.
const (
	CustomPortFirst = 9152
	CustomPortLast  = 9229
)

// SocksPort is one stream-isolated SocksPort of the Gateway's Tor.
type SocksPort struct {
	Port    uint16
	Name    string // as in the variables SOCKS_PORT_NAME of 2020
	Purpose string
}

// SocksPorts are the SocksPorts for the programs of the distribution, in
// ascending order.
func SocksPorts() []SocksPort {
	return []SocksPort{
		{9050, "TOR_DEFAULT", "programs that expect a system Tor"},
		{9100, "TB", "Tor Browser"},
		{9101, "IRC", "IRC clients"},
		{9102, "TORBIRDY", "Thunderbird"},
		{9103, "IM", "instant messengers"},
		{9104, "APT_GET", "apt-get"},
		{9105, "GPG", "GnuPG"},
		{9106, "SSH", "ssh"},
		{9107, "GIT", "git"},
		{SdwdatePort, "SDWDATE", "sdwdate"},
		{9109, "WGET", "wget"},
		{9110, "SYSTEMCHECK", "systemcheck"},
		{9111, "BITCOIN", "bitcoin"},
		{9114, "WHONIX_NEWS", "news of the distribution"},
		{TorBrowserUpdatePort, "TBB_DOWNLOAD", "Tor Browser downloader"},
		{9117, "CURL", "curl"},
		{9118, "RSS", "feed readers"},
		{9122, "KDE", "KDE programs"},
		{9123, "GNOME", "GNOME programs"},
		{9124, "APTITUDE", "aptitude"},
		{9125, "YUM", "yum"},
		{9150, "TBB_DEFAULT", "Tor Browser's own default"},
	}
}
