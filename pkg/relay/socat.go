// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ErrForeign says that a command line is for the real socat: it has an address,
// an option or an order that is not served here.
var ErrForeign = errors.New("not served here")

// Socat is a command line of socat(1) that is served here: one listener, one
// destination.
type Socat struct {
	Listen  Endpoint
	Connect Endpoint
	Linger  time.Duration // -t; the default if not given
	Idle    time.Duration // -T; 0 is for ever
	Fork    bool          // more than one connection
	Backlog int           // 0 is the kernel's
	Max     int           // max-children; 0 is no limit

	Mode        string // octal, of a unix socket; empty is by the umask
	User, Group string
	Unlink      bool // unlink-early
}

// Endpoint is an address of one side.
type Endpoint struct {
	Network string // as for net.Dial: tcp, tcp4, tcp6, unix
	Address string
}

// defaultLinger is longer than socat's half second, with which slow replies are
// lost.
const defaultLinger = 60 * time.Second

// ParseSocat reads a command line without the name. An error that is no
// ErrForeign says what is wrong with it.
func ParseSocat(args []string) (*Socat, error) {
	s := &Socat{Linger: defaultLinger}
	rest, err := s.options(args)
	if err != nil {
		return nil, err
	}
	if len(rest) != 2 {
		return nil, fmt.Errorf("%d addresses, not 2: %w", len(rest), ErrForeign)
	}
	if err := s.listener(rest[0]); err != nil {
		return nil, fmt.Errorf("%s: %w", rest[0], err)
	}
	if err := s.connector(rest[1]); err != nil {
		return nil, fmt.Errorf("%s: %w", rest[1], err)
	}
	return s, nil
}

func (s *Socat) options(args []string) (rest []string, err error) {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "-4" || arg == "-6" || strings.Trim(arg, "-d") == "":
			continue
		case len(arg) >= 2 && strings.IndexByte("tTb", arg[1]) >= 0:
			value := arg[2:]
			if value == "" {
				if len(args) == 0 {
					return nil, fmt.Errorf("%s: its value is missing", arg)
				}
				value, args = args[0], args[1:]
			}
			if err := s.number(arg[1], value); err != nil {
				return nil, fmt.Errorf("%s: %w", arg, err)
			}
		default:
			return nil, fmt.Errorf("option %s: %w", arg, ErrForeign)
		}
	}
	return args, nil
}

func (s *Socat) number(option byte, value string) error {
	const most = 1e9
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || n < 0 || n > most {
		return fmt.Errorf("%q is no number of seconds", value)
	}
	d := time.Duration(n * float64(time.Second))
	switch option {
	case 't':
		s.Linger = max(d, time.Nanosecond) // 0 would be for ever
	case 'T':
		s.Idle = d
	}
	return nil
}

// split separates TYPE:ADDRESS and its options.
func split(text string) (kind, address string, options []string) {
	parts := strings.Split(text, ",")
	kind, address, _ = strings.Cut(parts[0], ":")
	return strings.ToUpper(kind), address, parts[1:]
}

func (s *Socat) listener(text string) error {
	kind, address, options := split(text)
	networks := map[string]string{"TCP-LISTEN": "tcp4", "TCP-L": "tcp4", "TCP4-LISTEN": "tcp4", "TCP4-L": "tcp4", "TCP6-LISTEN": "tcp6", "TCP6-L": "tcp6",
		"UNIX-LISTEN": "unix", "UNIX-L": "unix", "ABSTRACT-LISTEN": "unix"}
	network, ok := networks[kind]
	if !ok {
		return ErrForeign
	}
	bind := ""
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		if name = strings.ToLower(name); name == "bind" {
			bind = value
			continue
		}
		if err := s.listenerOption(name, value, &network); err != nil {
			return err
		}
	}
	if address == "" {
		return errors.New("the port or path is missing")
	}
	if network == "unix" {
		if kind == "ABSTRACT-LISTEN" {
			address = "@" + address
		}
		s.Listen = Endpoint{"unix", address}
		return nil
	}
	port, err := net.LookupPort("tcp", address)
	if err != nil || port == 0 {
		return fmt.Errorf("%q is no port", address)
	}
	if bind = strings.Trim(bind, "[]"); bind == "" {
		bind = map[string]string{"tcp4": "0.0.0.0", "tcp6": "::"}[network]
	}
	if a, err := netip.ParseAddr(bind); err == nil {
		network = map[bool]string{true: "tcp4", false: "tcp6"}[a.Is4()]
	}
	if bind == "::" {
		network = "tcp" // both families, as socat has it
	}
	s.Listen = Endpoint{network, net.JoinHostPort(bind, strconv.Itoa(port))}
	return nil
}

func (s *Socat) listenerOption(name, value string, network *string) error {
	number := func(to *int) error {
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return fmt.Errorf("%s=%q is no number", name, value)
		}
		*to = int(n)
		return nil
	}
	switch name {
	case "fork":
		s.Fork = value != "0"
	case "reuseaddr", "nodelay", "keepalive", "unlink-close":
	case "mode", "perm":
		if _, err := strconv.ParseUint(value, 8, 12); err != nil {
			return fmt.Errorf("%s=%q is no octal mode", name, value)
		}
		s.Mode = value
	case "user":
		s.User = value
	case "group":
		s.Group = value
	case "unlink-early":
		s.Unlink = value != "0"
	case "backlog":
		return number(&s.Backlog)
	case "max-children":
		return number(&s.Max)
	case "pf":
		family, ok := map[string]string{"ip4": "tcp4", "ip6": "tcp6"}[value]
		if !ok {
			return ErrForeign
		}
		*network = family
	default:
		return fmt.Errorf("option %s: %w", name, ErrForeign)
	}
	return nil
}

func (s *Socat) connector(text string) error {
	kind, address, options := split(text)
	for _, o := range options {
		switch name, _, _ := strings.Cut(strings.ToLower(o), "="); name {
		case "nodelay", "keepalive":
		default:
			return fmt.Errorf("option %s: %w", name, ErrForeign)
		}
	}
	switch kind {
	case "UNIX-CONNECT", "UNIX", "UNIX-CLIENT":
		if address == "" {
			return errors.New("the path is missing")
		}
		s.Connect = Endpoint{"unix", address}
		return nil
	case "TCP", "TCP-CONNECT", "TCP4", "TCP4-CONNECT", "TCP6", "TCP6-CONNECT":
	default:
		return ErrForeign
	}
	// At the last colon: an IPv6 address may stand without brackets.
	i := strings.LastIndexByte(address, ':')
	if i <= 0 {
		return errors.New("want HOST:PORT")
	}
	host := address[:i]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, ":[]") {
		return fmt.Errorf("%q is no host", host)
	}
	port, err := net.LookupPort("tcp", address[i+1:])
	if err != nil || port == 0 {
		return fmt.Errorf("%q is no port", address[i+1:])
	}
	network := "tcp"
	if strings.HasPrefix(kind, "TCP4") || strings.HasPrefix(kind, "TCP6") {
		network = strings.ToLower(kind[:4])
	}
	s.Connect = Endpoint{network, net.JoinHostPort(host, strconv.Itoa(port))}
	return nil
}
