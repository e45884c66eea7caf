// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// settings is what the supervisor has to know.
type settings struct {
	// SocksPort is Tor's, where everything goes.
	SocksPort netip.AddrPort `json:"socksPort"`
	// Loopback lets connections to loopback addresses reach this machine's own.
	Loopback bool `json:"loopback"`
	// Password is what all streams share; empty gives each process one.
	Password string `json:"password,omitempty"`
}

const (
	torsocksConf    = "/etc/tor/torsocks.conf"
	torsocksConfMax = 64 << 10
)

// readSettings reads what torsocks.conf(5) says about the SocksPort. Without
// the file torsocks' own defaults hold. TORSOCKS_CONF_FILE names another one,
// but not for root, who would let the environment choose where to go.
func readSettings(env cli.Env, root fsx.Root) (settings, error) {
	path := torsocksConf
	if other, ok := env.Lookup("TORSOCKS_CONF_FILE"); ok && other != "" && os.Geteuid() != 0 {
		path = other
	}
	data, err := root.ReadFile(path, torsocksConfMax)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = nil, nil
	}
	if err != nil {
		return settings{}, err
	}
	return parseSettings(path, string(data))
}

// parseSettings reads the file's text; path is for complaints.
func parseSettings(path, text string) (settings, error) {
	addr, port := netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(whonix.DefaultPort)
	var s settings
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var err error
		switch value := strings.Join(words[1:], " "); words[0] {
		case "TorAddress":
			addr, err = netip.ParseAddr(value)
		case "TorPort":
			port, err = parsePort(value)
		case "AllowOutboundLocalhost":
			s.Loopback, err = parseLoopback(value)
		}
		if err != nil {
			return settings{}, fmt.Errorf("%s:%d: %s: %w", path, number, words[0], err)
		}
	}
	s.SocksPort = netip.AddrPortFrom(addr.Unmap(), port)
	return s, nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port: ports are numbers from 1 to 65535", text)
	}
	return uint16(n), nil
}

// parseLoopback reads 0, 1 or 2. What 2 permits beyond 1, UDP, cannot be
// relayed and stays refused.
func parseLoopback(text string) (bool, error) {
	switch text {
	case "0":
		return false, nil
	case "1", "2":
		return true, nil
	}
	return false, fmt.Errorf("%q is none of 0, 1 and 2", text)
}
