// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Names of the variables that say what is rewritten.
const (
	variableAddr        = "BIND_ADDR"
	variableAddr6       = "BIND_ADDR6"
	variablePort        = "BIND_PORT"
	variableReuseAddr   = "REUSE_ADDR"
	variableReusePort   = "REUSE_PORT"
	variableTransparent = "IP_TRANSPARENT"
)

// Settings says what is rewritten. The zero value rewrites nothing.
type Settings struct {
	Addr        netip.Addr // IPv4, or invalid: as the program asks
	Addr6       netip.Addr // IPv6 with its zone, or invalid: as the program asks
	Port        uint16     // 0: as the program asks
	ReuseAddr   bool       // set SO_REUSEADDR before each bind
	ReusePort   bool       // set SO_REUSEPORT before each bind
	Transparent bool       // set IP_TRANSPARENT or IPV6_TRANSPARENT before each bind
}

// InvalidValue is a variable whose value is none of those it can have.
type InvalidValue struct{ Value, Variable string }

// Error is the line that the library of this name has printed since long.
func (e InvalidValue) Error() string {
	return fmt.Sprintf("invalid value '%s' for variable '%s'", e.Value, e.Variable)
}

// ParseSettings reads the variables; lookup returns the empty text for those
// that are not set, and the two count alike. Switches with an invalid value
// are off, and reported. An invalid address or port is an error: the program
// is not to run without what was asked for (B4).
func ParseSettings(lookup func(string) string) (s Settings, ignored []InvalidValue, err error) {
	invalid := func(variable string) error { return InvalidValue{lookup(variable), variable} }
	var ok bool
	if text := lookup(variableAddr); text != "" {
		if s.Addr, ok = parseIPv4(text); !ok {
			return Settings{}, nil, invalid(variableAddr)
		}
	}
	if text := lookup(variableAddr6); text != "" {
		s.Addr6, err = netip.ParseAddr(text)
		if err != nil || !s.Addr6.Is6() || s.Addr6.Is4In6() {
			return Settings{}, nil, invalid(variableAddr6)
		}
	}
	if text := lookup(variablePort); text != "" {
		if s.Port, ok = parsePort(text); !ok {
			return Settings{}, nil, invalid(variablePort)
		}
	}
	for variable, flag := range map[string]*bool{
		variableReuseAddr: &s.ReuseAddr, variableReusePort: &s.ReusePort, variableTransparent: &s.Transparent,
	} {
		switch lookup(variable) {
		case "", "0":
		case "1":
			*flag = true
		default:
			ignored = append(ignored, InvalidValue{lookup(variable), variable})
		}
	}
	return s, ignored, nil
}

// Nothing reports whether the settings change nothing.
func (s Settings) Nothing() bool { return s == Settings{} }

// Environ is the variables that ParseSettings reads the settings from.
func (s Settings) Environ() []string {
	var env []string
	set := func(variable, value string) { env = append(env, variable+"="+value) }
	if s.Addr.IsValid() {
		set(variableAddr, s.Addr.String())
	}
	if s.Addr6.IsValid() {
		set(variableAddr6, s.Addr6.String())
	}
	if s.Port != 0 {
		set(variablePort, strconv.Itoa(int(s.Port)))
	}
	if s.ReuseAddr {
		set(variableReuseAddr, "1")
	}
	if s.ReusePort {
		set(variableReusePort, "1")
	}
	if s.Transparent {
		set(variableTransparent, "1")
	}
	return env
}

// String is the settings in one line.
func (s Settings) String() string { return strings.Join(s.Environ(), " ") }

// parsePort takes decimal digits only.
func parsePort(text string) (uint16, bool) {
	if strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil
}

// parseIPv4 takes what inet_aton(3) takes: up to four numbers, decimal, octal
// or hexadecimal, of which the last fills the bytes that are left; what stands
// behind white space does not count.
func parseIPv4(text string) (netip.Addr, bool) {
	if end := strings.IndexAny(text, " \t\n\v\f\r"); end >= 0 {
		text = text[:end]
	}
	const partsMax = 4
	parts := strings.Split(text, ".")
	if len(parts) > partsMax {
		return netip.Addr{}, false
	}
	var bytes [partsMax]byte
	last := len(parts) - 1
	for i, part := range parts {
		bits := 8
		if i == last {
			bits = 8 * (partsMax - last)
		}
		n, ok := parseNumber(part, bits)
		if !ok {
			return netip.Addr{}, false
		}
		if i < last {
			bytes[i] = byte(n)
			continue
		}
		for j := partsMax - 1; j >= last; j-- {
			bytes[j] = byte(n)
			n >>= 8
		}
	}
	return netip.AddrFrom4(bytes), true
}

// parseNumber takes a number in C's notation that fits into bits.
func parseNumber(text string, bits int) (uint64, bool) {
	base := 10
	if rest, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		text, base = rest, 16
	} else if len(text) > 1 && text[0] == '0' {
		base = 8
	}
	if strings.ContainsAny(text, "+-_") {
		return 0, false
	}
	n, err := strconv.ParseUint(text, base, bits)
	return n, err == nil
}
