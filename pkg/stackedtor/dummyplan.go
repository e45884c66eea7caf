// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"path/filepath"
	"strconv"
	"strings"

	"whonix-networking/pkg/torrc"
	"whonix-networking/pkg/whonix"
)

// kind is a kind of listener.
type kind struct {
	key  string // the option
	name string // in the log
	port string // where it leads to on the Gateway
}

// Ports of the redirections to the Gateway, on loopback and there.
const (
	socksPort   = whonix.DefaultPortText
	controlPort = whonix.ControlPortText
)

const (
	socksKey   = "SocksPort"
	tunnelKey  = "HTTPTunnelPort"
	controlKey = "ControlPort"
	socketKey  = "ControlSocket"
)

func listenerKinds() []kind {
	return []kind{{socksKey, "Socks", socksPort}, {tunnelKey, "HTTP tunnel", socksPort}, {controlKey, "Control", controlPort}, {socketKey, "Control", controlPort}}
}

// wanted is a listener that the configuration asks for.
type wanted struct {
	kind
	torrc.Listener
}

// plan is what the configuration asks for.
type plan struct {
	listeners []wanted
	sockets   []string // links to the control socket
	logs      []torrc.Log
	owner     int // the process without which this one ends; 0 is none
}

// plan reads the values that count, and returns what is wrong with them, in
// Tor's words.
func (d *dummy) plan() (p plan, problems []error) {
	for _, k := range listenerKinds() {
		for _, l := range d.config.All(k.key) {
			if k.key == socketKey {
				if path := d.controlSocket(l.Value); path != "" {
					p.sockets = append(p.sockets, path)
				}
				continue
			}
			v, err := torrc.ParseListener(l.Key, l.Value)
			if err != nil {
				return p, []error{complain("%v: %v", l.Origin, err), complain("Failed to parse/validate config: Invalid %s configuration", k.key)}
			}
			if v.Path != "" {
				v.Path = d.file(v.Path)
			}
			if !v.None {
				p.listeners = append(p.listeners, wanted{k, v})
			}
		}
	}
	for _, l := range d.config.All("Log") {
		v, err := torrc.ParseLog(l.Value)
		if err != nil {
			return p, []error{complain("%v: %v", l.Origin, err), complain("Failed to parse/validate config: Failed to validate Log options. See logs for details.")}
		}
		if v.Path != "" {
			v.Path = d.file(v.Path)
		}
		p.logs = append(p.logs, v)
	}
	if owner := d.config.Value("__OwningControllerProcess"); owner != "" {
		var ok bool
		if p.owner, ok = processID(owner); !ok {
			return p, []error{complain("Failed to parse/validate config: Bad OwningControllerProcess: invalid PID")}
		}
	}
	return p, nil
}

// processID is a number, after which Tor allows anything behind a blank or a
// colon.
func processID(text string) (int, bool) {
	if i := strings.IndexAny(text, " :"); i >= 0 {
		text = text[:i]
	}
	const bits = 31
	n, err := strconv.ParseUint(text, 10, bits)
	return int(n), err == nil && n > 0
}

// file is a path as Tor takes it: from the working directory, with ~ for the
// home directory.
func (d *dummy) file(path string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		if home, ok := d.env.Lookup("HOME"); ok && filepath.IsAbs(home) {
			path = filepath.Join(home, path[1:])
		}
	}
	return absolute(path)
}

// controlSocket is the path of a ControlSocket; empty for none. Flags behind it
// do not count here: the socket that it leads to is for everybody.
func (d *dummy) controlSocket(value string) string {
	path := strings.TrimSpace(value)
	for _, flag := range []string{"GroupWritable", "WorldWritable", "RelaxDirModeCheck", "GroupWritable"} {
		if i := len(path) - len(flag); i > 0 && strings.EqualFold(path[i:], flag) && strings.ContainsAny(path[i-1:i], " \t") {
			path = strings.TrimSpace(path[:i])
		}
	}
	path = strings.TrimPrefix(path, "unix:")
	if quoted, _, ok := torrc.Unquote(path); ok {
		path = quoted
	}
	if path == "" || path == "0" {
		return ""
	}
	return d.file(path)
}
