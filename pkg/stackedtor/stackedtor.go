// SPDX-License-Identifier: GPL-3.0-or-later

// Package stackedtor keeps a second Tor from joining the network behind the
// first one: on a Workstation every program that wants a Tor process, port,
// socket or cookie finds one, and all of them lead to the Gateway.
package stackedtor

import (
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// Names of the settings, in the environment and in drop-ins.
const (
	varGateway     = "GATEWAY_IP"
	varGateway6    = "GATEWAY_IP6"
	varControlPort = "gateway_control_port"
)

// Gateway is where redirections lead.
type Gateway struct {
	IP, IP6     string // address or host name
	ControlPort string // decimal
}

// String is what settings-echo prints: assignments that a shell may read.
func (g Gateway) String() string {
	return fmt.Sprintf("%s=\"%s\"\n%s=\"%s\"\n%s=\"%s\"\n", varGateway, g.IP, varGateway6, g.IP6, varControlPort, g.ControlPort)
}

// chain finds out the Gateway's settings: what the environment says, else what
// Qubes says, else what the machine's role says.
type chain struct {
	lookup  func(name string) string
	qubesdb func(key string) (string, bool) // nil where there is none
	warn    func(text string)

	workstation bool
}

// settings of a machine; warn gets complaints, one line each.
func settings(root fsx.Root, env cli.Env, warn func(string)) Gateway {
	c := chain{lookup: func(name string) string { v, _ := env.Lookup(name); return v }, workstation: root.Exists(whonix.WorkstationMarker), warn: warn}
	if asksQubes(root) {
		c.qubesdb = confd.QubesDB(root)
	}
	return c.gateway()
}

// asksQubes reports whether it is Qubes that says where the Gateway is.
func asksQubes(root fsx.Root) bool {
	_, err := execx.Find(root, "qubesdb-read")
	return err == nil && (whonix.Detect(root).Template || root.Exists(whonix.WorkstationMarker))
}

func (c chain) gateway() Gateway {
	ip, ip6 := "127.0.0.1", "::1"
	if c.workstation {
		ip, ip6 = whonix.GatewayIP, whonix.GatewayIP6
	}
	return Gateway{
		IP:          c.value(varGateway, validHost, "/qubes-gateway", "127.0.0.1", ip),
		IP6:         c.value(varGateway6, validHost, "/qubes-gateway6", "::1", ip6),
		ControlPort: c.value(varControlPort, validPort, "", "", strconv.Itoa(whonix.ControlPort)),
	}
}

// value is one setting. failed counts where Qubes should have said it, and did
// not; byRole where it has nothing to say.
func (c chain) value(name string, valid func(string) bool, key, failed, byRole string) string {
	if v := c.lookup(name); v != "" {
		if valid(v) {
			return v
		}
		c.warn(fmt.Sprintf("ERROR: %s in the environment is neither an address nor a name, or no port: ignored", name))
	}
	if key == "" || c.qubesdb == nil {
		return byRole
	}
	v, ok := c.qubesdb(key)
	switch {
	case !ok:
		c.warn("ERROR: qubesdb-read " + key + " failed: " + failed + " counts")
		return failed
	case v == "":
		return byRole
	case !valid(v):
		c.warn("ERROR: qubesdb-read " + key + " gave neither an address nor a name: " + failed + " counts")
		return failed
	}
	return v
}

// hostName is a name as in RFC 1123, with underscores.
const hostName = `^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`

// validHost takes an address, with or without brackets, or a host name.
func validHost(text string) bool {
	const nameMax = 253
	if _, err := netip.ParseAddr(unbracketed(text)); err == nil {
		return !strings.Contains(text, "%")
	}
	return len(text) <= nameMax && regexp.MustCompile(hostName).MatchString(text)
}

func unbracketed(text string) string {
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		return strings.TrimSuffix(inner, "]")
	}
	return text
}

// validPort takes 1 to 65535, each in one spelling.
func validPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0 && text[0] != '0'
}

// warner prints each complaint on its own line.
func warner(to io.Writer) func(string) {
	return func(text string) { fmt.Fprintln(to, text) }
}
