// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// Modes of the variable firewall_mode.
const (
	ModeFull     = "full"
	ModeTimesync = "timesync-fail-closed"
)

// Facts are what the ruleset depends on besides the variables. They are
// gathered once, so that everything behind them is a pure function.
type Facts struct {
	Role        whonix.Role // of the role program
	Machine     whonix.Machine
	IPv6        bool   // the kernel has IPv6
	Info        bool   // --info
	ModeCLI     string // --mode, empty when not given
	ModeEnv     string // firewall_mode in the environment
	TimeSynced  string // the file that says the clock is right; empty if none
	SecureProxy bool   // whonix-secure-proxy was seen

	Account   func(name string) (uint32, bool)
	Service   func(name string) (uint16, bool)
	QubesDB   func(key string) (string, bool)
	Addresses func(i nft.Interface) []netip.Addr
}

// Configuration is the outcome of Configure.
type Configuration struct {
	Settings Settings
	Text     map[string]string // every variable's effective value
	Missing  []string          // accounts that do not exist, in lookup order
	Warnings []string
	Notes    []string // what the log says before the mode
}

// ModeError says that firewall_mode is none of the two modes.
type ModeError struct {
	Mode, Origin string
}

// Error names the assignment and what is allowed.
func (e *ModeError) Error() string {
	return fmt.Sprintf("%s: firewall_mode: %s is not a mode: write %s or %s", e.Origin, quote(e.Mode), ModeFull, ModeTimesync)
}

// Configure validates the variables for a role. An error names the first
// assignment at fault; nothing is half-applied.
func Configure(vars Variables, facts *Facts) (*Configuration, error) {
	r := &reader{vars: Variables{}, facts: facts, text: map[string]string{}}
	maps.Copy(r.vars, vars)
	c := &Configuration{Text: r.text}
	r.fillDefaults()
	r.aliases2020()
	tunnel := r.tunnel()
	c.Missing = r.fillAccounts()
	r.appendSocksPorts()
	if err := r.mode(c); err != nil {
		return nil, err
	}

	s := &c.Settings
	s.Role, s.Template, s.IPv6 = facts.Role, facts.Machine.Template, facts.IPv6
	s.Timesync = r.text["firewall_mode_detected"] == ModeTimesync
	s.Tunnel = tunnel
	r.shared(s)
	switch facts.Role {
	case whonix.Gateway:
		r.inbound(s)
		r.gateway(s, c)
	case whonix.Host:
		r.inbound(s)
		r.host(s)
	default:
		r.workstation(s)
	}
	r.logTexts(s)
	c.Warnings = r.warnings
	if r.err != nil {
		return nil, r.err
	}
	return c, nil
}

func (r *reader) fillDefaults() {
	for name, v := range r.vars {
		r.text[name] = v.Text
	}
	def := defaults(r.facts.Role, r.facts.Machine.Qubes)
	if r.facts.Role == whonix.Workstation && r.facts.Machine.Qubes {
		def["GATEWAY_IP"] = r.qubesAddr("/qubes-gateway", onlyIPv4, "127.0.0.1")
		def["GATEWAY_IP6"] = r.qubesAddr("/qubes-gateway6", onlyIPv6, "::1")
	}
	for name, text := range def {
		if r.text[name] == "" {
			r.text[name] = text
		}
	}
}

// qubesAddr asks qubesdb for an address; no answer, an empty or a malformed
// one yields the fallback (D27).
func (r *reader) qubesAddr(key, family, fallback string) string {
	text, ok := r.facts.QubesDB(key)
	n, err := r.net(text, family)
	if !ok || err != nil || n.First != n.Last {
		return fallback
	}
	return text
}

// aliases2020 accepts names that users' files have from before they were
// renamed.
func (r *reader) aliases2020() {
	for old, now := range map[string]string{
		"WHONIXCHECK_USER":                  "SYSTEMCHECK_USER",
		"TUNNEL_FIREWALL_ALLOW_WHONIXCHECK": "TUNNEL_FIREWALL_ALLOW_SYSTEMCHECK",
	} {
		if r.text[old] != "" && r.text[now] == "" {
			r.warn(old, "is an old name; taken as %s, write that instead", now)
			r.text[now] = r.text[old]
			r.vars[now] = r.vars[old]
		}
	}
	slices.Sort(r.warnings)
}

// tunnel reads the two switches for one thing; either switches both on.
func (r *reader) tunnel() bool {
	either := r.tunnelSwitch("TUNNEL_FIREWALL_ENABLE")
	if r.tunnelSwitch("VPN_FIREWALL") || either {
		r.text["TUNNEL_FIREWALL_ENABLE"], r.text["VPN_FIREWALL"] = "true", "1"
		return true
	}
	return false
}

func (r *reader) fillAccounts() (missing []string) {
	for _, a := range accounts() {
		if r.text[a.variable] != "" {
			continue
		}
		uid, ok := r.facts.Account(a.name)
		if ok {
			r.text[a.variable] = fmt.Sprint(uid)
			continue
		}
		missing = append(missing, a.name)
		if a.required {
			r.fail(a.variable, a.name, errors.New("is no account on this machine"))
		}
	}
	return missing
}

// appendSocksPorts completes INTERNAL_OPEN_PORTS: the user's words, the ports
// of 2020's variables, the built-in list.
func (r *reader) appendSocksPorts() {
	const name = "INTERNAL_OPEN_PORTS"
	const old = "SOCKS_PORT_"
	builtin := builtinSocksPorts()
	var olds []string
	for v := range r.vars {
		if strings.HasPrefix(v, old) && r.vars[v].Text != "" && r.vars[v].Parts[0].Origin != environment {
			olds = append(olds, v)
		}
	}
	slices.Sort(olds)
	merged := r.vars[name]
	for _, v := range olds {
		r.warn(v, "is an old way to open a SocksPort; taken as %s+=%q, write that instead", name, " "+r.vars[v].Text+" ")
		if !slices.Contains(words(builtin), r.vars[v].Text) {
			r.text[name] += " " + r.vars[v].Text
			merged.Parts = append(slices.Clone(merged.Parts), r.vars[v].Parts...)
		}
	}
	r.vars[name] = merged
	r.text[name] += " " + builtin
}

// environment is the origin of values that no file has set.
const environment = "environment"

// mode decides between the modes: --mode counts first, then a request of the
// environment to shut (D9), then the files; the clock being right opens.
func (r *reader) mode(c *Configuration) error {
	const name = "firewall_mode"
	f := r.facts
	mode, origin := r.text[name], r.vars[name].where("")
	if f.ModeEnv != "" && f.ModeEnv != ModeFull {
		mode, origin = f.ModeEnv, environment
	}
	switch {
	case f.ModeCLI != "":
		mode = f.ModeCLI
	case mode == "":
		mode = ModeFull
	}
	r.text[name], r.text["firewall_mode_detected"] = mode, mode
	r.text["info_enabled"], r.text["source_only"] = "", ""
	if f.Info {
		r.text["info_enabled"] = "1"
	}
	switch {
	case mode != ModeFull && mode != ModeTimesync:
		return &ModeError{Mode: mode, Origin: origin}
	case mode == ModeTimesync && f.TimeSynced != "":
		c.Notes = append(c.Notes, "OK: ("+f.TimeSynced+" exists.)")
		r.text["firewall_mode_detected"] = ModeFull
	}
	return nil
}

// shared reads what every role uses.
func (r *reader) shared(s *Settings) {
	s.TunnelInterface = r.oneInterface("VPN_INTERFACE")
	s.External = r.interfaces("EXT_IF")
	s.ExternalTCP = r.ports("EXTERNAL_OPEN_PORTS")
	s.ExternalUDP = r.ports("EXTERNAL_UDP_OPEN_PORTS")
	s.ExternalAll = r.is("EXTERNAL_OPEN_ALL", "true")
	s.SocksPorts = r.ports("INTERNAL_OPEN_PORTS")
	s.ControlPort = r.port("CONTROL_PORT_FILTER_PROXY_PORT")
	s.UpdatesProxyPort = r.port("qubes_updates_proxy_port")
	s.KeepInvalid = r.is("NO_REJECT_INVALID_OUTGOING_PACKAGES", "1")
	s.Clearnet = r.user("CLEARNET_USER")
	s.TunnelUser = r.user("TUNNEL_USER")
	s.Sdwdate = r.user("SDWDATE_USER")
	s.Systemcheck = r.user("SYSTEMCHECK_USER")
	s.NoTunnel = r.user("NOTUNNEL_USER")
	s.UpdatesCheck = r.user("UPDATESPROXYCHECK_USER")
	s.LocalNet = append(r.nets("LOCAL_NET", onlyIPv4), r.nets("LOCAL_NET_IP6", onlyIPv6)...)
	s.SecureProxySeen = r.facts.SecureProxy
	s.RouterAdvert = r.interfaces("IPV6_RA_IF")
}

// inbound reads what the gateway and the host share.
func (r *reader) inbound(s *Settings) {
	s.Inbound = Inbound{
		SSH:            r.is("GATEWAY_ALLOW_INCOMING_SSH", "1"),
		FlashProxy:     r.is("GATEWAY_ALLOW_INCOMING_FLASHPROXY", "1"),
		DirPort:        r.is("GATEWAY_ALLOW_INCOMING_DIR_PORT", "1"),
		ORPort:         r.is("GATEWAY_ALLOW_INCOMING_OR_PORT", "1"),
		FlashProxyPort: r.port("FLASHPROXY_PORT"),
		DirPortNumber:  r.port("DIR_PORT"),
		ORPortNumber:   r.port("OR_PORT"),
		Related:        r.is("GATEWAY_ALLOW_INCOMING_RELATED_STATE", "1"),
		ICMP:           r.is("GATEWAY_ALLOW_INCOMING_ICMP", "1"),
		FragNeeded:     r.is("GATEWAY_ALLOW_INCOMING_ICMP_FRAG_NEEDED", "1"),
	}
	g := &s.Gateway
	g.Internal = r.interfaces("INT_IF")
	g.InternalTunnel = r.interfaces("INT_TIF")
	g.TransparentTCP = r.is("WORKSTATION_TRANSPARENT_TCP", "1")
	g.TransparentDNS = r.is("WORKSTATION_TRANSPARENT_DNS", "1")
	g.Socksified = r.is("WORKSTATION_ALLOW_SOCKSIFIED", "1")
	g.ControlFilter = r.is("CONTROL_PORT_FILTER_PROXY_ENABLE", "1")
	g.TransWorkstation, g.DNSWorkstation = r.port("TRANS_PORT_WORKSTATION"), r.port("DNS_PORT_WORKSTATION")
	g.TransGateway, g.DNSGateway = r.port("TRANS_PORT_GATEWAY"), r.port("DNS_PORT_GATEWAY")
	g.Destinations = append(r.nets("WORKSTATION_DEST_SOCKSIFIED", onlyIPv4), r.nets("WORKSTATION_DEST_SOCKSIFIED_IPV6", onlyIPv6)...)
	g.NonTor = append(r.nets("NON_TOR_GATEWAY", onlyIPv4), r.nets("NON_TOR_GATEWAY_IP6", onlyIPv6)...)
	if uid, ok := r.facts.Account("vm-updates"); ok && r.facts.Machine.NetVM {
		g.VMUpdates = &nft.User{Text: "vm-updates", UID: uid}
	}
	if r.text["IPV6_RA_IF"] == "" {
		s.RouterAdvert = s.External
	}
}

func (r *reader) gateway(s *Settings, c *Configuration) {
	g := &s.Gateway
	g.OwnTCP = r.is("GATEWAY_TRANSPARENT_TCP", "1")
	g.OwnDNS = r.is("GATEWAY_TRANSPARENT_DNS", "1")
	g.RejectLANDNS = r.is("GATEWAY_REJECT_LAN_DNS", "true")
	r.is("WORKSTATION_TRANSPARENT_UDP", "1") // without effect, but a wrong value is told
	r.is("GATEWAY_TRANSPARENT_UDP", "1")
	g.Exempt = r.exemptUsers(s, c)
	g.OwnAddresses = map[nft.Interface][]netip.Addr{}
	for _, i := range g.internal() {
		g.OwnAddresses[i] = r.facts.Addresses(i)
	}
	r.keepApart(s)
}

// exemptUsers completes NO_NAT_USERS behind the user's words.
func (r *reader) exemptUsers(s *Settings, c *Configuration) []nft.User {
	const name = "NO_NAT_USERS"
	exempt := r.users(name)
	for range exempt {
		s.Gateway.ExemptBy = append(s.Gateway.ExemptBy, name)
	}
	add := func(u *nft.User, by string) {
		if u != nil {
			exempt = append(exempt, *u)
			s.Gateway.ExemptBy = append(s.Gateway.ExemptBy, by)
			r.text[name] += " " + u.Text
		}
	}
	add(s.Clearnet, "CLEARNET_USER")
	add(s.TunnelUser, "TUNNEL_USER")
	user, root, tor := r.user("USER_USER"), r.user("ROOT_USER"), r.user("TOR_USER")
	if r.is("ALLOW_GATEWAY_USER_USER", "1") {
		if user == nil {
			c.Notes = append([]string{"INFO: USER_USER is empty. Not adding USER_USER to NO_NAT_USERS."}, c.Notes...)
		}
		add(user, "ALLOW_GATEWAY_USER_USER")
	}
	if r.is("ALLOW_GATEWAY_ROOT_USER", "1") {
		add(root, "ALLOW_GATEWAY_ROOT_USER")
	}
	if !s.Tunnel { // with a VPN Tor itself must use that
		add(tor, "TOR_USER")
	}
	return exempt
}

// keepApart deals with an interface that is both inside and outside: what the
// Workstation sends there cannot be told from what the Internet sends.
func (r *reader) keepApart(s *Settings) {
	for _, i := range s.Gateway.internal() {
		for _, e := range s.External {
			if i.Overlaps(e) {
				r.warn("INT_IF", "%s is also an external interface (EXT_IF has %s): the Gateway cannot keep inside and outside apart there", i, e)
			}
		}
		if k := slices.IndexFunc(s.RouterAdvert, i.Overlaps); k >= 0 {
			if r.text["IPV6_RA_IF"] != "" {
				r.fail("IPV6_RA_IF", s.RouterAdvert[k].String(), errors.New("is an internal interface: a Workstation could set the Gateway's routes"))
			}
			s.RouterAdvert = slices.DeleteFunc(slices.Clone(s.RouterAdvert), i.Overlaps)
		}
	}
}

func (r *reader) host(s *Settings) {
	s.Host.ForwardIf = r.interfaces("HOST_FORWARD_IF")
	s.Host.AllowOutgoing = r.is("HOST_ALLOW_OUTGOING", "true")
	s.Host.VPNServers = r.nets("VPN_SERVERS", anyFamily)
	if s.Tunnel && len(s.Host.VPNServers) == 0 { // D18
		r.fail("VPN_SERVERS", "", errors.New("is empty: name the addresses of the VPN's servers, or the VPN cannot be reached"))
	}
	if s.Timesync {
		r.warnings = append(r.warnings, "firewall_mode: "+ModeTimesync+" does nothing on a host, its rules are those of "+ModeFull)
	}
}

func (r *reader) workstation(s *Settings) {
	w := &s.Workstation
	w.Qubes = r.facts.Machine.Qubes
	w.GatewayAddrs = []nft.Net{
		r.addr("GATEWAY_IP", onlyIPv4), r.addr("GATEWAY_IP6", onlyIPv6),
		r.addr("GATEWAY_IP_HARDCODED", onlyIPv4), r.addr("GATEWAY_IP6_HARDCODED", onlyIPv6),
	}
	w.AllowUDP = r.is("firewall_allow_udp", "true")
	w.AllowList = r.nets("outgoing_allow_ip_list", anyFamily)
	w.AllowSdwdate = r.is("TUNNEL_FIREWALL_ALLOW_SDWDATE_USER", "true")
	w.AllowNoTunnel = r.is("TUNNEL_FIREWALL_ALLOW_NOTUNNEL_USER", "true")
	w.AllowLocalNet = r.is("TUNNEL_FIREWALL_ALLOW_LOCAL_NET", "true")
	w.AllowControlFilter = r.is("TUNNEL_FIREWALL_ALLOW_CONTROL_PORT_FILTER_PROXY", "true")
	w.AllowTBUpdater = r.is("TUNNEL_FIREWALL_ALLOW_TB_UPDATER", "true")
	w.AllowSystemcheck = r.is("TUNNEL_FIREWALL_ALLOW_SYSTEMCHECK", "true")
	if w.Qubes && !s.Template && !s.Tunnel && !s.Timesync {
		r.qubesDNS(w)
	}
}

// qubesDNS reads the resolvers; a missing one is left out, never replaced by
// all of the Internet (D10).
func (r *reader) qubesDNS(w *Workstation) {
	for _, key := range []string{"/qubes-primary-dns", "/qubes-secondary-dns"} {
		text, ok := r.facts.QubesDB(key)
		n, err := r.net(text, anyFamily)
		if !ok || err != nil || n.First != n.Last {
			r.warnings = append(r.warnings, "qubesdb-read "+key+" gave no address: DNS to that server stays shut")
			continue
		}
		w.QubesDNS = append(w.QubesDNS, n)
	}
}

func (r *reader) logTexts(s *Settings) {
	s.SocksPortsText = squeeze(r.text["INTERNAL_OPEN_PORTS"])
	s.ExternalTCPText = squeeze(r.text["EXTERNAL_OPEN_PORTS"])
	s.ExternalUDPText = squeeze(r.text["EXTERNAL_UDP_OPEN_PORTS"])
	s.SocksifiedText = r.text["WORKSTATION_ALLOW_SOCKSIFIED"]
}

// squeeze shows a value on one line: runs of newlines and blanks become one
// blank, one at each end is cut.
func squeeze(text string) string {
	var b strings.Builder
	blank := false
	for _, c := range text {
		if c == '\n' {
			c = ' '
		}
		if c != ' ' || !blank {
			b.WriteRune(c)
		}
		blank = c == ' '
	}
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), " "), " ")
}
