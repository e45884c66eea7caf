// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// timeSyncedFiles are the files by which sdwdate says that the clock is right.
func timeSyncedFiles() []string {
	return []string{"/run/sdwdate/first_success", "/run/sdwdate/success"}
}

// facts gathers what the ruleset depends on besides the variables.
func (r *run) facts() (*Facts, error) {
	f := &Facts{
		Role:        r.role,
		Machine:     whonix.Detect(r.root),
		IPv6:        r.root.Exists(ipv6Dir),
		Info:        r.opts.info,
		ModeCLI:     r.opts.mode,
		SecureProxy: r.root.Exists(secureProxyFile),
		Account:     r.account,
		Service:     services(r.root),
		QubesDB:     r.qubesDB,
	}
	f.ModeEnv, _ = r.env.Lookup("firewall_mode")
	for _, p := range timeSyncedFiles() {
		if f.TimeSynced == "" && r.root.Exists(p) {
			f.TimeSynced = p
		}
	}
	byName, err := r.addresses()
	if err != nil {
		return nil, err
	}
	f.Addresses = func(i nft.Interface) (out []netip.Addr) {
		for _, name := range slices.Sorted(maps.Keys(byName)) {
			if i.Matches(name) {
				out = append(out, byName[name]...)
			}
		}
		return out
	}
	return f, nil
}

// hostAddresses are the addresses of the existing interfaces.
func hostAddresses() (map[string][]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	out := map[string][]netip.Addr{}
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out[i.Name] = append(out[i.Name], p.Addr().Unmap())
			}
		}
	}
	return out, nil
}

// services looks names up in /etc/services, see services(5). The file is read
// at the first look-up: few configurations name a service.
func services(root fsx.Root) func(string) (uint16, bool) {
	const sizeMax = 1 << 20
	var known map[string]uint16
	return func(name string) (uint16, bool) {
		if known == nil {
			known = map[string]uint16{}
			data, _ := root.ReadFile("/etc/services", sizeMax)
			for line := range strings.Lines(string(data)) {
				line, _, _ = strings.Cut(line, "#")
				fields := strings.Fields(line)
				if len(fields) < 2 {
					continue
				}
				number, _, _ := strings.Cut(fields[1], "/")
				port, err := strconv.ParseUint(number, 10, 16)
				if err != nil || port == 0 {
					continue
				}
				for _, alias := range append(fields[2:], fields[0]) {
					known[alias] = uint16(port)
				}
			}
		}
		port, ok := known[name]
		return port, ok
	}
}
