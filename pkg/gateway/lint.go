// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torrc"
	"whonix-networking/pkg/whonix"
)

// finding is what Tor does not see when it only checks its configuration.
type finding struct {
	Error bool   `json:"error"` // Tor would not start
	Place string `json:"place"`
	Text  string `json:"text"`
}

// lint looks for what keeps Tor from starting, and for settings that do not
// count.
func lint(root fsx.Root, l *listing, bindable func(netip.Addr) bool) []finding {
	var sources [][]torrc.Line
	for i, from := range l.sources {
		to := len(l.lines)
		if i+1 < len(l.sources) {
			to = l.sources[i+1]
		}
		sources = append(sources, l.lines[from:to])
	}
	config := torrc.Merge(sources...)
	out := lintListeners(config, bindable)
	for _, line := range l.lines {
		if strings.EqualFold(line.Key, "ClientTransportPlugin") {
			out = append(out, lintPlugin(root, line)...)
		}
	}
	if len(sources) > 0 {
		out = append(out, lintTwice(sources[len(sources)-1])...)
	}
	return append(out, lintAuthDir(root, config)...)
}

// lintListeners finds listeners at one address, and addresses that this machine
// does not have.
func lintListeners(config *torrc.Config, bindable func(netip.Addr) bool) (out []finding) {
	taken := map[string]torrc.Line{}
	known := map[netip.Addr]bool{}
	for _, key := range []string{"SocksPort", "HTTPTunnelPort", "TransPort", "DNSPort", "ControlPort", "ControlSocket"} {
		for _, line := range config.All(key) {
			value, transport := line.Value, "tcp "
			if key == "ControlSocket" {
				path, _, _ := strings.Cut(value, " ")
				value = "unix:" + strings.TrimPrefix(path, "unix:")
			}
			if key == "DNSPort" {
				transport = "udp "
			}
			p, err := torrc.ParseListener(key, value)
			if err != nil || p.None || p.Path == "" && p.Port == 0 {
				continue // Tor says what is wrong, or it is none, or any port
			}
			where := "unix:" + p.Path
			if p.Path == "" {
				host := p.Host
				if host == "" {
					host = whonix.LoopbackIP
				}
				if a, err := netip.ParseAddr(host); err == nil {
					host = a.String()
					if _, asked := known[a]; !asked {
						known[a] = bindable(a)
					}
					if !known[a] {
						out = append(out, finding{true, line.Origin.String(), fmt.Sprintf("%s %s: this machine does not have that address", line.Key, line.Value)})
					}
				}
				where = transport + whonix.HostPort(host, p.Port)
			}
			if first, twice := taken[where]; twice {
				out = append(out, finding{true, line.Origin.String(), fmt.Sprintf("%s %s: there already, at %s", line.Key, line.Value, first.Origin)})
				continue
			}
			taken[where] = line
		}
	}
	return out
}

// lintPlugin finds pluggable transports whose program is missing.
func lintPlugin(root fsx.Root, line torrc.Line) []finding {
	words := strings.Fields(line.Value)
	const least = 3 // NAME exec PATH
	if len(words) < least || words[1] != "exec" {
		return nil
	}
	fi, err := os.Stat(root.Path(words[2]))
	if err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0 {
		return nil
	}
	return []finding{{false, line.Origin.String(), fmt.Sprintf("%s: %s is no program that is there: bridges of %s cannot be reached", line.Key, words[2], words[0])}}
}

// lintTwice finds settings that a later line takes back.
func lintTwice(lines []torrc.Line) (out []finding) {
	once := []string{"DisableNetwork", "UseBridges", "ClientOnionAuthDir", "DormantTimeoutEnabled", "VirtualAddrNetworkIPv4", "VirtualAddrNetworkIPv6",
		"AutomapHostsOnResolve", "ClientUseIPv4", "ClientUseIPv6", "HTTPSProxy", "Socks4Proxy", "Socks5Proxy", "DataDirectory", "User"}
	last := map[string]torrc.Line{}
	for _, line := range slices.Backward(lines) {
		name, _ := torrc.Name(line.Key)
		if !slices.Contains(once, name) {
			continue
		}
		later, twice := last[name]
		if twice && later.Value != line.Value {
			out = append(out, finding{false, line.Origin.String(), fmt.Sprintf("%s %s: does not count, for %s says %s", line.Key, line.Value, later.Origin, later.Value)})
		}
		if !twice {
			last[name] = line
		}
	}
	slices.Reverse(out)
	return out
}

// lintAuthDir finds a directory of keys that Tor would not take.
func lintAuthDir(root fsx.Root, config *torrc.Config) []finding {
	all := config.All("ClientOnionAuthDir")
	if len(all) == 0 {
		return nil
	}
	line := all[len(all)-1]
	uid, err := root.Number("/etc/passwd", torAccount)
	if err != nil {
		return nil // no such account: nothing to compare with
	}
	fi, err := os.Stat(root.Path(line.Value))
	st := &syscall.Stat_t{}
	if err == nil {
		st, _ = fi.Sys().(*syscall.Stat_t)
	}
	switch {
	case err != nil && os.IsPermission(err):
		return nil // not for everybody to see
	case err != nil:
		return []finding{{true, line.Origin.String(), fmt.Sprintf("%s %s: is not there: repair-torrc makes it", line.Key, line.Value)}}
	case !fi.IsDir() || st == nil || int(st.Uid) != uid:
		return []finding{{true, line.Origin.String(), fmt.Sprintf("%s %s: is no directory of %s: repair-torrc makes it one", line.Key, line.Value, torAccount)}}
	}
	return nil
}

// findings prints what was found, if anything was.
func (v *verifier) findings(list []finding) {
	if len(list) == 0 {
		return
	}
	heading(v.env.Stdout, "Further Findings")
	for _, f := range list {
		kind := "warning"
		if f.Error {
			kind = "error"
		}
		fmt.Fprintf(v.env.Stdout, "%s: %s: %s\n", f.Place, kind, strings.Map(printable, f.Text))
	}
}

// json is the report for programs.
func (v *verifier) json(said verdict, l *listing, findings []finding, wrong bool) error {
	if findings == nil {
		findings = []finding{} // not null
	}
	encoder := json.NewEncoder(v.env.Stdout)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(struct {
		Valid    bool      `json:"valid"`
		TorCode  int       `json:"tor_exit_code"`
		TorSaid  []string  `json:"tor_output"`
		Files    []string  `json:"files"`
		Missing  []string  `json:"missing"`
		Findings []finding `json:"findings"`
	}{!wrong, said.code, strings.Split(strings.TrimRight(said.output, "\n"), "\n"), l.used, append([]string{}, l.missing...), findings})
	if err == nil && wrong {
		return &cli.Exit{Code: codeInvalid}
	}
	return err
}
