// SPDX-License-Identifier: GPL-3.0-or-later

// Package firewall computes and loads the Whonix firewall: the role programs
// (gateway, workstation, host), their service entry, the watcher that reloads
// them, and the desktop starters.
//
// The way is: configuration fragments -> Variables -> Settings -> nft.Script
// -> kernel. Everything up to the script is a pure function.
package firewall

import (
	"net/netip"

	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// Settings is a validated configuration: what the ruleset is computed from.
type Settings struct {
	Role     whonix.Role
	Template bool // Qubes template: loopback and the updates proxy only
	Timesync bool // timesync-fail-closed in force: shut until the clock is right
	IPv6     bool // the kernel has IPv6

	Tunnel          bool // a VPN or other tunnel carries everything
	TunnelInterface nft.Interface

	External         []nft.Interface // EXT_IF
	RouterAdvert     []nft.Interface // IPV6_RA_IF
	ExternalTCP      []nft.Ports     // EXTERNAL_OPEN_PORTS
	ExternalUDP      []nft.Ports     // EXTERNAL_UDP_OPEN_PORTS
	ExternalAll      bool            // EXTERNAL_OPEN_ALL
	SocksPorts       []nft.Ports     // INTERNAL_OPEN_PORTS
	ControlPort      uint16
	KeepInvalid      bool // no output rules against malformed packets
	Clearnet         *nft.User
	TunnelUser       *nft.User
	Sdwdate          *nft.User
	Systemcheck      *nft.User
	NoTunnel         *nft.User
	UpdatesCheck     *nft.User
	LocalNet         []nft.Net // LOCAL_NET, LOCAL_NET_IP6
	Inbound          Inbound
	Gateway          Gateway
	Workstation      Workstation
	Host             Host
	UpdatesProxyPort uint16 // where a template reaches the updates proxy
	SecureProxySeen  bool   // a torified updates proxy was seen

	// Values as configured, one blank between words, for the log.
	SocksPortsText, ExternalTCPText, ExternalUDPText, SocksifiedText string
}

// Inbound is what a gateway or host accepts from outside.
type Inbound struct {
	SSH, FlashProxy, DirPort, ORPort bool
	FlashProxyPort                   uint16
	DirPortNumber, ORPortNumber      uint16
	Related                          bool // also connections related to known ones
	ICMP                             bool // echo requests
	FragNeeded                       bool // path MTU messages
}

// Gateway is what only the gateway's ruleset (and the parts of it that the
// host role shares) depends on.
type Gateway struct {
	Internal         []nft.Interface // INT_IF
	InternalTunnel   []nft.Interface // INT_TIF
	TransparentTCP   bool
	TransparentDNS   bool
	Socksified       bool
	ControlFilter    bool
	TransWorkstation uint16
	DNSWorkstation   uint16
	TransGateway     uint16
	DNSGateway       uint16
	Destinations     []nft.Net // WORKSTATION_DEST_SOCKSIFIED, then _IPV6
	NonTor           []nft.Net // NON_TOR_GATEWAY, then _IP6
	Exempt           []nft.User
	ExemptBy         []string // the option behind each
	OwnTCP, OwnDNS   bool     // GATEWAY_TRANSPARENT_TCP, _DNS
	RejectLANDNS     bool
	VMUpdates        *nft.User // Qubes: account of the updates cache
	// OwnAddresses are the addresses that existing internal interfaces have.
	OwnAddresses map[nft.Interface][]netip.Addr
}

// Workstation is what only the workstation's ruleset depends on.
type Workstation struct {
	GatewayAddrs       []nft.Net // GATEWAY_IP, _IP6, and the hardcoded two
	QubesDNS           []nft.Net
	Qubes              bool
	AllowUDP           bool
	AllowList          []nft.Net
	AllowSdwdate       bool
	AllowNoTunnel      bool
	AllowLocalNet      bool
	AllowControlFilter bool
	AllowTBUpdater     bool
	AllowSystemcheck   bool
}

// Host is what only the host's ruleset depends on.
type Host struct {
	VPNServers    []nft.Net
	ForwardIf     []nft.Interface
	AllowOutgoing bool
}

// serves reports whether anything is offered to the outside, so that replies
// may leave through an external interface.
func (s *Settings) serves() bool {
	in := s.Inbound
	return s.opensExternal() || in.SSH || in.FlashProxy || in.DirPort || in.ORPort || in.ICMP
}

// opensExternal reports whether one of the EXTERNAL_* openings is set.
func (s *Settings) opensExternal() bool {
	return len(s.ExternalTCP) > 0 || len(s.ExternalUDP) > 0 || s.ExternalAll
}
