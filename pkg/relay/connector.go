// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// connector reads the destination.
func (s *Socat) connector(text string) error {
	kind, address, options := split(text)
	proxyPort, err := s.connectorOptions(options)
	if err != nil {
		return err
	}
	proxied := strings.HasPrefix(kind, "SOCKS")
	if !proxied && (proxyPort != "" || s.Connect.User != "") {
		return fmt.Errorf("an option of socks: %w", ErrForeign)
	}
	if strings.HasPrefix(kind, "SOCKS5") && s.Connect.User != "" {
		return fmt.Errorf("a user for SOCKS 5: %w", ErrForeign)
	}
	switch kind {
	case "UNIX-CONNECT", "UNIX", "UNIX-CLIENT", "ABSTRACT-CONNECT", "ABSTRACT-CLIENT":
		if address == "" {
			return errors.New("the path is missing")
		}
		if strings.HasPrefix(kind, "ABSTRACT") {
			address = "@" + address
		}
		s.Connect.Endpoint = Endpoint{"unix", address}
		return pathFits(address)
	case "TCP", "TCP-CONNECT", "TCP4", "TCP4-CONNECT", "TCP6", "TCP6-CONNECT":
		s.Connect.Endpoint, err = hostPort(kind, address)
		return err
	case "SOCKS4A":
		return s.proxied("socks4a", address, proxyPort)
	case "SOCKS5", "SOCKS5-CONNECT":
		return s.proxied("socks5", address, proxyPort)
	}
	return ErrForeign
}

func (s *Socat) connectorOptions(options []string) (proxyPort string, err error) {
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		switch name = strings.ToLower(name); name {
		case "nodelay", "keepalive":
		case "connect-timeout":
			if s.Connect.Timeout, err = parseSeconds(value); err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
		case "bind":
			if s.Connect.From, err = hostOf(value); err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
			if _, err := netip.ParseAddr(s.Connect.From); err != nil {
				return "", fmt.Errorf("bind to a name: %w", ErrForeign)
			}
		case "socksport":
			if proxyPort, err = lookupPort(value); err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
		case "socksuser":
			s.Connect.User = value
		default:
			return "", fmt.Errorf("option %s: %w", name, ErrForeign)
		}
	}
	return proxyPort, nil
}

// hostPort reads HOST:PORT, split at the last colon: an IPv6 address may stand
// without brackets.
func hostPort(kind, address string) (e Endpoint, err error) {
	i := strings.LastIndexByte(address, ':')
	if i <= 0 {
		return e, errors.New("want HOST:PORT")
	}
	host, err := hostOf(address[:i])
	if err != nil {
		return e, err
	}
	port, err := lookupPort(address[i+1:])
	if err != nil {
		return e, err
	}
	e = Endpoint{"tcp", net.JoinHostPort(host, port)}
	if strings.HasPrefix(kind, "TCP4") || strings.HasPrefix(kind, "TCP6") {
		e.Network = strings.ToLower(kind[:4])
		if a, err := netip.ParseAddr(host); err == nil && familyOf(a) != e.Network {
			return e, fmt.Errorf("%s is of the other family", host)
		}
	}
	return e, nil
}

// proxied reads PROXY[:PORT]:HOST:PORT. The proxy resolves the host's name.
func (s *Socat) proxied(proxy, address, port string) error {
	const defaultPort = "1080"
	parts := colons(address)
	if len(parts) == 4 && port == "" {
		port = parts[1]
		parts = append(parts[:1:1], parts[2:]...)
	}
	if len(parts) != 3 {
		return errors.New("want PROXY:HOST:PORT or PROXY:PORT:HOST:PORT")
	}
	if port == "" {
		port = defaultPort
	}
	var err error
	if s.Connect.Endpoint, err = hostPort("TCP", parts[0]+":"+port); err != nil {
		return err
	}
	behind, err := hostPort("TCP", parts[1]+":"+parts[2])
	s.Connect.Proxy, s.Connect.Behind = proxy, behind.Address
	return err
}

// colons splits at those that are not within brackets.
func colons(text string) (parts []string) {
	depth, begin := 0, 0
	for i := range len(text) {
		switch {
		case text[i] == '[':
			depth++
		case text[i] == ']':
			depth--
		case text[i] == ':' && depth == 0:
			parts = append(parts, text[begin:i])
			begin = i + 1
		}
	}
	return append(parts, text[begin:])
}
