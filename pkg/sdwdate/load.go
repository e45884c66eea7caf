// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// The folders of the configuration; the second persists in Qubes app machines.
const (
	confDir      = "/etc/sdwdate.d"
	confDirLocal = "/usr/local/etc/sdwdate.d"
)

// confMax bounds a fragment: some ten thousand servers.
const confMax = 1 << 20

// loadConf reads the configuration. Whatever cannot be read is left out with a
// Notice; there is always a configuration.
func loadConf(root fsx.Root) (conf, []Notice) {
	var fragments []fragment
	var notices []Notice
	for _, dir := range []string{confDir, confDirLocal} {
		files, err := root.ConfFiles(dir, ".conf")
		if err != nil {
			notices = append(notices, Notice{File: dir, Text: err.Error()})
		}
		if dir == confDir && !root.Exists(dir) {
			notices = append(notices, Notice{File: dir, Text: fmt.Sprintf("User configuration folder %q does not exist.", dir)})
		}
		for _, path := range files {
			data, err := root.ReadFile(path, confMax)
			if err != nil {
				notices = append(notices, Notice{File: path, Text: cause(err) + ": this file is left out"})
				continue
			}
			fragments = append(fragments, fragment{path, data})
		}
	}
	c, more := parseConf(fragments)
	return c, append(notices, more...)
}

// cause is the error without the path that the message names already.
func cause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// Ports of Tor without Whonix.
const (
	torSocksPort  = whonix.DefaultPort
	whonixFolder  = "/usr/share/whonix"
	qubesdbRead   = "/usr/bin/qubesdb-read"
	qubesdbMaxLen = 256
	qubesdbLimit  = 5 * time.Second
)

// qubesdb reads a value of the Qubes database; not ok where there is none.
type qubesdb func(key string) (value string, ok bool)

// hostQubesdb asks qubesdb-read below root.
func hostQubesdb(root fsx.Root) qubesdb {
	return func(key string) (string, bool) {
		ctx, cancel := context.WithTimeout(context.Background(), qubesdbLimit)
		defer cancel()
		out, err := exec.CommandContext(ctx, root.Path(qubesdbRead), key).Output()
		if err != nil || len(out) > qubesdbMaxLen {
			return "", false
		}
		return strings.TrimSpace(string(out)), true
	}
}

// gateway is the address of the machine that runs Tor, as settings_echo finds
// it, which is never run.
func gateway(root fsx.Root, db qubesdb) netip.Addr {
	machine := whonix.Detect(root)
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	switch {
	case root.Exists(qubesdbRead) && (machine.Template || machine.Role == whonix.Workstation):
		if value, ok := db("/qubes-gateway"); ok {
			if a, err := netip.ParseAddr(value); err == nil {
				return a
			}
		}
		return local
	case machine.Role == whonix.Workstation:
		return netip.MustParseAddr(whonix.GatewayIP)
	default:
		return local
	}
}

// proxyAddress is where Tor's SocksPort is.
func proxyAddress(root fsx.Root, c conf, db qubesdb) netip.AddrPort {
	ip, port := c.ProxyIP, c.ProxyPort
	if !ip.IsValid() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if root.Exists(whonixFolder) {
			ip = gateway(root, db)
		}
	}
	if port == 0 {
		port = torSocksPort
		if root.Exists(whonixFolder) {
			port = whonix.SdwdatePort
		}
	}
	return netip.AddrPortFrom(ip, port)
}

// hasNetVM reports whether the machine has a network at all: every one but a
// Qubes machine without a network machine.
func hasNetVM(root fsx.Root, db qubesdb) bool {
	if !root.Exists(qubesdbRead) || !root.Exists(whonix.QubesMarker) {
		return true
	}
	for _, key := range []string{"/qubes-netvm-gateway", "/qubes-gateway"} {
		if _, ok := db(key); ok {
			return true
		}
	}
	return false
}
