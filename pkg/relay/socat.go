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
	Connect Destination
	Linger  time.Duration // -t; the default if not given
	Idle    time.Duration // -T; 0 is for ever
	Fork    bool          // more than one connection
	Backlog int           // 0 is the kernel's
	Max     int           // max-children; 0 is no limit
	Range   netip.Prefix  // the clients that may connect; the zero value is all

	Mode        string // octal, of a unix socket; empty is by the umask
	User, Group string
	Unlink      bool // unlink-early
	Keep        bool // unlink-close=0
}

// Endpoint is an address of one side.
type Endpoint struct {
	Network string // as for net.Dial: tcp, tcp4, tcp6, unix
	Address string
}

// Destination is where connections lead.
type Destination struct {
	Endpoint        // a proxy's, if there is one
	Proxy    string // socks4a or socks5; empty is none
	Behind   string // HOST:PORT, which the proxy is asked for
	User     string // for the proxy
	From     string // local address; empty is the kernel's choice
	Timeout  time.Duration
}

// defaultLinger is longer than socat's half second, with which slow replies are
// lost.
const defaultLinger = 60 * time.Second

// ParseSocat reads a command line without the name. An error that is no
// ErrForeign says what is wrong with it.
func ParseSocat(args []string) (*Socat, error) {
	s := &Socat{Linger: defaultLinger}
	rest, family, err := s.options(args)
	if err != nil {
		return nil, err
	}
	if len(rest) != 2 {
		return nil, fmt.Errorf("%d addresses, not 2: %w", len(rest), ErrForeign)
	}
	for _, text := range rest {
		// To socat these join and quote.
		if strings.ContainsAny(text, `\"'(){}`) || strings.Contains(text, "!!") {
			return nil, fmt.Errorf("%s: quotes or two addresses in one: %w", text, ErrForeign)
		}
	}
	if err := s.listener(rest[0], family); err != nil {
		return nil, fmt.Errorf("%s: %w", rest[0], err)
	}
	if err := s.connector(rest[1]); err != nil {
		return nil, fmt.Errorf("%s: %w", rest[1], err)
	}
	return s, nil
}

// options reads what stands before the addresses; family is that of listeners
// that do not say.
func (s *Socat) options(args []string) (rest []string, family string, err error) {
	family = "tcp4"
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "-4" || arg == "-6":
			family = "tcp" + arg[1:]
		case strings.HasPrefix(arg, "-d") && strings.Trim(arg[2:], "d01234") == "":
		case len(arg) >= 2 && strings.IndexByte("tTb", arg[1]) >= 0:
			value := arg[2:]
			if value == "" {
				if len(args) == 0 {
					return nil, "", fmt.Errorf("%s: its value is missing", arg)
				}
				value, args = args[0], args[1:]
			}
			if err := s.number(arg[1], value); err != nil {
				return nil, "", fmt.Errorf("%s: %w", arg, err)
			}
		default:
			return nil, "", fmt.Errorf("option %s: %w", arg, ErrForeign)
		}
	}
	return args, family, nil
}

func (s *Socat) number(option byte, value string) error {
	if option == 'b' { // how much at a time: nobody's business here
		_, err := parseCount(value)
		return err
	}
	d, err := parseSeconds(value)
	if err != nil {
		return err
	}
	switch option {
	case 't':
		s.Linger = max(d, time.Nanosecond) // 0 would be for ever
	case 'T':
		s.Idle = d
	}
	return nil
}

// parseSeconds reads a decimal number of them.
func parseSeconds(text string) (time.Duration, error) {
	const most = 1e9
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.Trim(text, "0123456789.") != "" || n > most {
		return 0, fmt.Errorf("%q is no number of seconds", text)
	}
	return time.Duration(n * float64(time.Second)), nil
}

func parseCount(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", text)
	}
	return int(n), nil
}

// split separates TYPE:ADDRESS and its options.
func split(text string) (kind, address string, options []string) {
	parts := strings.Split(text, ",")
	kind, address, _ = strings.Cut(parts[0], ":")
	return strings.ToUpper(kind), address, parts[1:]
}

func (s *Socat) listener(text, family string) error {
	kind, address, options := split(text)
	networks := map[string]string{"TCP-LISTEN": family, "TCP-L": family, "TCP4-LISTEN": "tcp4", "TCP4-L": "tcp4", "TCP6-LISTEN": "tcp6", "TCP6-L": "tcp6",
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
		return pathFits(address)
	}
	port, err := lookupPort(address)
	if err != nil {
		return err
	}
	said := strings.HasPrefix(kind, "TCP4") || strings.HasPrefix(kind, "TCP6")
	s.Listen, err = listenAt(network, bind, port, said)
	return err
}

// pathFits sun_path of unix(7).
func pathFits(path string) error {
	const most = 107
	if len(path) > most {
		return fmt.Errorf("%q is longer than %d bytes", path, most)
	}
	return nil
}

func lookupPort(text string) (string, error) {
	port, err := net.LookupPort("tcp", text)
	if err != nil || port == 0 {
		return "", fmt.Errorf("%q is no port", text)
	}
	return strconv.Itoa(port), nil
}

// listenAt is a port at an address of either form; the family is its own if
// the listener has not said one.
func listenAt(network, bind, port string, said bool) (Endpoint, error) {
	if bind == "" {
		bind = map[string]string{"tcp4": "0.0.0.0", "tcp6": "::"}[network]
	}
	bind, err := hostOf(bind)
	if err != nil {
		return Endpoint{}, err
	}
	if a, err := netip.ParseAddr(bind); err == nil {
		own := familyOf(a)
		if said && own != network {
			return Endpoint{}, fmt.Errorf("bind=%s is of the other family", bind)
		}
		network = own
	}
	if bind == "::" {
		network = "tcp" // both families, as socat has it
	}
	return Endpoint{network, net.JoinHostPort(bind, port)}, nil
}

func familyOf(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// hostOf is an address, with or without brackets, or a name.
func hostOf(text string) (string, error) {
	host := text
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		host = strings.TrimSuffix(inner, "]")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return host, nil
	}
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	}
	if host != text || host == "" || strings.ContainsFunc(host, odd) {
		return "", fmt.Errorf("%q is no host", text)
	}
	return host, nil
}

func (s *Socat) listenerOption(name, value string, network *string) (err error) {
	switch name {
	case "fork":
		s.Fork = value != "0"
	case "reuseaddr", "nodelay", "keepalive":
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
	case "unlink-close":
		s.Keep = value == "0"
	case "backlog":
		s.Backlog, err = parseCount(value)
	case "max-children":
		s.Max, err = parseCount(value)
	case "range":
		s.Range, err = parseRange(value)
	case "pf":
		family, ok := map[string]string{"ip4": "tcp4", "ip6": "tcp6"}[value]
		if !ok {
			return ErrForeign
		}
		if *network != "unix" {
			*network = family
		}
	default:
		return fmt.Errorf("option %s: %w", name, ErrForeign)
	}
	return err
}

// parseRange reads ADDRESS/BITS, ADDRESS:MASK and [ADDRESS]/BITS; in older
// releases the bits stand within the brackets.
func parseRange(text string) (netip.Prefix, error) {
	plain := strings.NewReplacer("[", "", "]", "").Replace(text)
	if p, err := netip.ParsePrefix(plain); err == nil {
		return p.Masked(), nil
	}
	address, mask, _ := strings.Cut(text, ":")
	a, err := netip.ParseAddr(address)
	m, err2 := netip.ParseAddr(mask)
	if err != nil || err2 != nil || !a.Is4() || !m.Is4() {
		return netip.Prefix{}, fmt.Errorf("range=%q: want ADDRESS/BITS", text)
	}
	bits := 0
	if ones, size := net.IPMask(m.AsSlice()).Size(); size > 0 {
		bits = ones
	} else {
		return netip.Prefix{}, fmt.Errorf("range=%q: the mask has holes: %w", text, ErrForeign)
	}
	return netip.PrefixFrom(a, bits).Masked(), nil
}

// Allows reports whether a client is in the range.
func (s *Socat) Allows(client net.Addr) bool {
	if !s.Range.IsValid() {
		return true
	}
	a, ok := client.(*net.TCPAddr)
	return ok && s.Range.Contains(a.AddrPort().Addr().Unmap().WithZone(""))
}
