// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"fmt"
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
		r.head(o), r.listen())}
	to, after, before := r.Destination(o.Gateway), "", ""
	if strings.HasPrefix(to, "$") {
		after, before = "After=qubes-db.service\n", late
	}
	service = Unit{name + ".service", fmt.Sprintf("%sAfter=%[2]s.socket\nRequires=%[2]s.socket\n%s\n[Service]\n%s\n%sExecStart=%s %s\nPrivateTmp=yes\n",
		r.head(o), name, after, hint, before, o.Relay, to)}
	return socket, service
}

// hint tells who reads a service what to do with it.
const hint = `# To lead elsewhere, set GATEWAY_IP or GATEWAY_IP6 in a file of
# /etc/anon-ws-disable-stacked-tor.d, then run
#     sudo /usr/libexec/anon-ws-disable-stacked-tor/systemd-unit-files-generator`

// late finds out where the Gateway is when a service starts: systemd reads the
// file after the first command has written it, see systemd.exec(5). The command
// does not run as the service's account. The dash is for the first time;
// without env(1) what the file had said before would count as the environment.
const late = "EnvironmentFile=-" + environmentFile + "\nExecStartPre=+/usr/bin/env --ignore-environment " + settingsPath + "\n"

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
%s`, o.Comment, r.listen(), r.Port, documentation, condition)
}

// Destination is where the redirection leads. An IPv6 address has no brackets:
// systemd-socket-proxyd does not know them.
func (r Redirection) Destination(g Gateway) string {
	return unbracketed(g.of(r)) + ":" + r.Port
}

// listen is the listener as units have it, see SPECIFIERS in systemd.unit(5).
func (r Redirection) listen() string { return strings.ReplaceAll(r.Listen, "%", "%%") }

// Loops finds redirections that lead, by way of others or not, to their own
// listeners. They would connect to themselves until nothing is left (defect 36).
func Loops(all []Redirection, g Gateway) []bool {
	byListener := map[string]int{}
	for i, r := range all {
		byListener[r.Listen] = i
	}
	next := make([][]int, len(all))
	for i, r := range all {
		v4, v6 := here(g.of(r))
		if j, ok := byListener["127.0.0.1:"+r.Port]; ok && v4 {
			next[i] = append(next[i], j)
		}
		if j, ok := byListener["[::1]:"+r.Port]; ok && v6 {
			next[i] = append(next[i], j)
		}
	}
	return comeBack(next)
}

// of is where a redirection leads.
func (g Gateway) of(r Redirection) string {
	if r.IPv6 {
		return g.IP6
	}
	return g.IP
}

// here reports whether a host is this machine, and in which family.
func here(host string) (v4, v6 bool) {
	host = strings.ToLower(unbracketed(host))
	a, err := netip.ParseAddr(host)
	if err != nil {
		name := strings.TrimSuffix(host, ".")
		local := name == "localhost" || strings.HasSuffix(name, ".localhost")
		return local, local
	}
	local := a.Unmap().IsLoopback() || a.IsUnspecified()
	return local && a.Unmap().Is4(), local && !a.Unmap().Is4()
}
