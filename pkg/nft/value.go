// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Interface is an interface name, or the beginning of one followed by `*`.
type Interface struct {
	Name     string // without the `*`
	Wildcard bool
}

// ifNameMax is the longest interface name: IFNAMSIZ of <net/if.h>, less the
// terminating NUL.
const ifNameMax = 15

// ParseInterface reads an interface name. The suffix `+` of iptables(8) counts
// as `*`.
func ParseInterface(text string) (Interface, error) {
	name, wild := text, false
	if n := len(text); n > 0 && (text[n-1] == '*' || text[n-1] == '+') {
		name, wild = text[:n-1], true
	}
	switch {
	case name == "":
		return Interface{}, errors.New("is no interface name")
	case len(name) > ifNameMax:
		return Interface{}, fmt.Errorf("is too long for an interface name (at most %d bytes)", ifNameMax)
	case name == "." || name == "..":
		return Interface{}, errors.New("is no interface name")
	}
	for i := range len(name) {
		c := name[i]
		if !isAlnum(c) && (i == 0 && c != '_' && c != '.' || !strings.ContainsRune("_.-", rune(c))) {
			return Interface{}, fmt.Errorf("is no interface name: character %q", c)
		}
	}
	if name[0] >= '0' && name[0] <= '9' {
		return Interface{}, errors.New("is no interface name that nft takes: it begins with a digit")
	}
	return Interface{Name: name, Wildcard: wild}, nil
}

// Overlaps reports whether some interface name matches both.
func (i Interface) Overlaps(o Interface) bool {
	switch {
	case i.Wildcard && o.Wildcard:
		return strings.HasPrefix(i.Name, o.Name) || strings.HasPrefix(o.Name, i.Name)
	case i.Wildcard:
		return strings.HasPrefix(o.Name, i.Name)
	case o.Wildcard:
		return strings.HasPrefix(i.Name, o.Name)
	}
	return i.Name == o.Name
}

// Matches reports whether the interface called name is meant.
func (i Interface) Matches(name string) bool { return i.Overlaps(Interface{Name: name}) }

func (i Interface) nft() string { return i.String() }

// String is the name as nft(8) reads it.
func (i Interface) String() string {
	if i.Wildcard {
		return i.Name + "*"
	}
	return i.Name
}

// Ports is a port, a range of ports, or a service name with its port.
type Ports struct {
	Text        string
	First, Last uint16
}

// PortRange is the ports from first to last.
func PortRange(first, last uint16) Ports {
	text := strconv.Itoa(int(first))
	if last != first {
		text += "-" + strconv.Itoa(int(last))
	}
	return Ports{Text: text, First: first, Last: last}
}

// Port is a single port.
func Port(port uint16) Ports { return PortRange(port, port) }

// ParsePorts reads a port number from 1 to 65535, a range `a-b` or `a:b`, or a
// name that service knows.
func ParsePorts(text string, service func(name string) (uint16, bool)) (Ports, error) {
	if text != "" && text[0] >= '0' && text[0] <= '9' {
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			first, last, isRange = strings.Cut(text, ":")
		}
		lo, err := parsePort(first)
		if err != nil || !isRange {
			return Port(lo), err
		}
		hi, err := parsePort(last)
		if err != nil {
			return Ports{}, err
		}
		if hi < lo {
			return Ports{}, fmt.Errorf("is an empty range: %d is below %d", hi, lo)
		}
		return PortRange(lo, hi), nil
	}
	port, ok := service(text)
	if !ok || !isWord(text) {
		return Ports{}, errors.New("is neither a port (1 to 65535), a range of ports (a-b), nor a name in /etc/services")
	}
	return Ports{Text: text, First: port, Last: port}, nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("is not a port: ports are numbers from 1 to 65535")
	}
	return uint16(n), nil
}

// Net is an address, a network in CIDR form (host bits allowed), or a range
// of addresses.
type Net struct {
	Text        string
	First, Last netip.Addr
}

// ParseNet reads an address, a network or a range `a-b`. Host names and zones
// are refused: nft(8) would resolve a name through the clear.
func ParseNet(text string) (Net, error) {
	if from, to, ok := strings.Cut(text, "-"); ok {
		return parseRange(text, from, to)
	}
	if strings.Contains(text, "/") {
		return parsePrefix(text)
	}
	a, err := parseAddr(text)
	return Net{Text: text, First: a, Last: a}, err
}

// NetOf is the network that holds just addr.
func NetOf(addr netip.Addr) Net { return Net{Text: addr.String(), First: addr, Last: addr} }

func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errors.New("is not a numeric address, network (CIDR) or range of addresses (a-b)")
	}
	return a, nil
}

func parseRange(text, from, to string) (Net, error) {
	first, err := parseAddr(from)
	if err != nil {
		return Net{}, err
	}
	last, err := parseAddr(to)
	if err != nil {
		return Net{}, err
	}
	if first.Is4() != last.Is4() {
		return Net{}, errors.New("is a range from one address family to the other")
	}
	if last.Less(first) {
		return Net{}, fmt.Errorf("is an empty range: %s is below %s", last, first)
	}
	return Net{Text: text, First: first, Last: last}, nil
}

func parsePrefix(text string) (Net, error) {
	addr, bits, _ := strings.Cut(text, "/")
	a, err := parseAddr(addr)
	if err != nil {
		return Net{}, err
	}
	n, err := strconv.ParseUint(bits, 10, 8)
	if err != nil || int(n) > a.BitLen() || len(bits) > 1 && bits[0] == '0' {
		return Net{}, fmt.Errorf("has no valid prefix length: 0 to %d", a.BitLen())
	}
	first := a.AsSlice()
	last := a.AsSlice()
	for i := range first {
		host := byte(0xff) >> min(8, max(0, int(n)-8*i))
		first[i] &^= host
		last[i] |= host
	}
	lo, _ := netip.AddrFromSlice(first)
	hi, _ := netip.AddrFromSlice(last)
	return Net{Text: text, First: lo, Last: hi}, nil
}

// Family is ip or ip6.
func (n Net) Family() string {
	if n.First.Is4() {
		return "ip"
	}
	return "ip6"
}

// Everything reports whether the network is a whole address family.
func (n Net) Everything() bool {
	return n.First == netip.IPv4Unspecified() && n.Last == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
		n.First == netip.IPv6Unspecified() && !n.Last.Next().IsValid()
}

// Contains reports whether addr is in the network.
func (n Net) Contains(addr netip.Addr) bool {
	return n.First.Is4() == addr.Is4() && !addr.Less(n.First) && !n.Last.Less(addr)
}

// User is an account by number or name.
type User struct {
	Text string
	UID  uint32
}

// UIDMax is the largest account number; the one above is the kernel's "none".
const UIDMax = 1<<32 - 2

// ParseUser reads an account number, or a name that account knows.
func ParseUser(text string, account func(name string) (uint32, bool)) (User, error) {
	if n, err := strconv.ParseUint(text, 10, 32); err == nil && n <= UIDMax {
		return User{Text: strconv.FormatUint(n, 10), UID: uint32(n)}, nil
	}
	if uid, ok := account(text); ok && isWord(text) {
		return User{Text: text, UID: uid}, nil
	}
	return User{}, errors.New("is neither an account number nor an existing account's name")
}

// isWord reports whether nft(8) reads text as one plain string.
func isWord(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !isAlnum(c) && (i == 0 && c != '_' || !strings.ContainsRune("_.-", rune(c))) {
			return false
		}
	}
	return text != "" && (text[0] < '0' || text[0] > '9')
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
