// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// unitPrefix begins the name of every generated unit.
const unitPrefix = "anon-ws-disable-stacked-tor_autogen_"

// documentation is in every unit.
const documentation = "https://www.whonix.org/wiki/Dev/anon-ws-disable-stacked-tor"

// UnitOptions are what units have in common.
type UnitOptions struct {
	Gateway Gateway
	Relay   string // ExecStart= without the destination
	Comment string // what the file says about its origin
}

// Unit is a unit file.
type Unit struct{ Name, Text string }

// Units are the two units of a redirection.
func (r Redirection) Units(o UnitOptions) (socket, service Unit) {
	name := unitPrefix + r.Stem
	socket = Unit{name + ".socket", fmt.Sprintf("%s\n[Socket]\nListenStream=%s\nSocketUser=debian-tor\nSocketMode=666\nDirectoryMode=2755\n\n[Install]\nWantedBy=sockets.target\n",
		r.head(o), r.Listen)}
	service = Unit{name + ".service", fmt.Sprintf("%sAfter=%[2]s.socket\nRequires=%[2]s.socket\n\n[Service]\n%s\nExecStart=%s %s\nPrivateTmp=yes\n",
		r.head(o), name, hint, o.Relay, r.Destination(o.Gateway))}
	return socket, service
}

// hint tells who reads a service what to do with it.
const hint = `# To lead elsewhere, set GATEWAY_IP or GATEWAY_IP6 in a file of
# /etc/anon-ws-disable-stacked-tor.d, then run
#     sudo /usr/libexec/anon-ws-disable-stacked-tor/systemd-unit-files-generator`

func (r Redirection) head(o UnitOptions) string {
	condition := ""
	if r.IPv6 {
		condition = "ConditionPathExists=" + ipv6Flag + "\n"
	}
	return fmt.Sprintf(`# SPDX-License-Identifier: GPL-3.0-or-later

# %s

[Unit]
Description=redirect %s to Whonix-Gateway port %s
Documentation=%s
ConditionPathExists=!/run/qubes/this-is-templatevm
After=detect-ipv6-enabled-in-kernel.service
%s`, o.Comment, r.Listen, r.Port, documentation, condition)
}

// Destination is where the redirection leads. An IPv6 address has no brackets:
// systemd-socket-proxyd does not know them.
func (r Redirection) Destination(g Gateway) string {
	host := g.IP
	if r.IPv6 {
		host = g.IP6
	}
	return unbracketed(host) + ":" + r.Port
}

// Loops reports whether a redirection leads to its own listener, which would
// connect to itself until nothing is left (defect 36).
func (r Redirection) Loops(g Gateway) bool {
	host, port, err := net.SplitHostPort(r.Listen)
	if err != nil || port != r.Port {
		return false
	}
	to := g.IP
	if r.IPv6 {
		to = g.IP6
	}
	to = strings.ToLower(unbracketed(to))
	local := to == "localhost"
	if a, err := netip.ParseAddr(to); err == nil {
		local = a.Unmap().IsLoopback() || a.IsUnspecified()
	}
	return local && host != ""
}
