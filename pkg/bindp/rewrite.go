// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Layout of struct sockaddr_in and sockaddr_in6, see ip(7) and ipv6(7).
const (
	offsetFamily = 0
	offsetPort   = 2
	offsetAddr4  = 4
	offsetAddr6  = 8
	offsetScope  = 24

	sizeFamily = 2
	sizeInet4  = 16
	sizeInet6  = 28
	minInet6   = 24 // the kernel takes a sockaddr_in6 without its scope, as of RFC 2133
)

// Family is a socket's address family, and for AF_INET6 the zone of its
// settings' address as an interface number.
type Family struct {
	Domain int    // AF_INET, AF_INET6, …
	Scope  uint32 // for Settings.Addr6
}

// Bind returns the address that is bound in the place of the one asked for: a
// struct sockaddr as the kernel takes it. What is not an address of the
// socket's family is left as it is, for the kernel to refuse. The argument is
// not changed.
//
// A socket of AF_INET6 that asks for an IPv6 address, also for "any", gets
// BIND_ADDR6. One that asks for an IPv4-mapped address gets BIND_ADDR in that
// form, but only with BIND_ADDR6 set: without it these sockets are not ours.
func (s Settings) Bind(f Family, asked []byte) []byte {
	switch {
	case f.Domain == unix.AF_INET && isInet4(asked, true):
		return s.inet4(append([]byte(nil), asked...))
	case f.Domain == unix.AF_INET6 && s.Addr6.IsValid() && isInet6(asked):
		return s.inet6(f, append([]byte(nil), asked...))
	}
	return asked
}

func (s Settings) inet4(a []byte) []byte {
	if s.Addr.IsValid() {
		copy(a[offsetAddr4:], s.Addr.AsSlice())
	}
	s.setPort(a)
	return a
}

func (s Settings) inet6(f Family, a []byte) []byte {
	s.setPort(a)
	if netip.AddrFrom16([16]byte(a[offsetAddr6:])).Is4In6() {
		if s.Addr.IsValid() {
			copy(a[offsetAddr6+12:], s.Addr.AsSlice())
		}
		return a
	}
	for len(a) < sizeInet6 {
		a = append(a, 0)
	}
	copy(a[offsetAddr6:], s.Addr6.AsSlice())
	binary.NativeEndian.PutUint32(a[offsetScope:], f.Scope)
	return a
}

func (s Settings) setPort(a []byte) {
	if s.Port != 0 {
		binary.BigEndian.PutUint16(a[offsetPort:], s.Port)
	}
}

// Connect returns the address to which a socket that is not bound is bound
// before it connects to the address asked for; nil: to none.
func (s Settings) Connect(f Family, asked []byte) []byte {
	switch f.Domain {
	case unix.AF_INET:
		if (s.Addr.IsValid() || s.Port != 0) && isInet4(asked, false) {
			return s.inet4(newInet4())
		}
	case unix.AF_INET6:
		if s.Addr6.IsValid() {
			return s.connect6(f, asked)
		}
	}
	return nil
}

// connect6 is Connect for a socket of AF_INET6, from which IPv4 addresses are
// reached too: as mapped ones, and by UDP as they are.
func (s Settings) connect6(f Family, asked []byte) []byte {
	mapped := isInet4(asked, false)
	if isInet6(asked) {
		mapped = netip.AddrFrom16([16]byte(asked[offsetAddr6:])).Is4In6()
	} else if !mapped {
		return nil
	}
	any := newInet6()
	if !mapped {
		return s.inet6(f, any)
	}
	if s.Addr.IsValid() {
		to := netip.AddrFrom16(s.Addr.As16())
		copy(any[offsetAddr6:], to.AsSlice())
	} else if s.Port == 0 {
		return nil
	}
	s.setPort(any)
	return any
}

// WithoutPort is the address with port 0: any free one.
func WithoutPort(a []byte) []byte {
	a = append([]byte(nil), a...)
	binary.BigEndian.PutUint16(a[offsetPort:], 0)
	return a
}

func newInet4() []byte {
	a := make([]byte, sizeInet4)
	binary.NativeEndian.PutUint16(a[offsetFamily:], unix.AF_INET)
	return a
}

func newInet6() []byte {
	a := make([]byte, sizeInet6)
	binary.NativeEndian.PutUint16(a[offsetFamily:], unix.AF_INET6)
	return a
}

func family(a []byte) int {
	if len(a) < sizeFamily {
		return -1
	}
	return int(binary.NativeEndian.Uint16(a[offsetFamily:]))
}

func port(a []byte) uint16 {
	if len(a) < offsetPort+2 {
		return 0
	}
	return binary.BigEndian.Uint16(a[offsetPort:])
}

// isInet4 reports whether a is an IPv4 address. With loose, so is one without
// a family when it is "any": bind(2) of Linux takes that for old programs'
// sake.
func isInet4(a []byte, loose bool) bool {
	if len(a) < sizeInet4 {
		return false
	}
	return family(a) == unix.AF_INET ||
		loose && family(a) == unix.AF_UNSPEC && binary.NativeEndian.Uint32(a[offsetAddr4:]) == 0
}

func isInet6(a []byte) bool { return len(a) >= minInet6 && family(a) == unix.AF_INET6 }

// isAny reports whether the address of a is "any", in its family.
func isAny(a []byte) bool {
	switch {
	case isInet4(a, false):
		return binary.NativeEndian.Uint32(a[offsetAddr4:]) == 0
	case isInet6(a):
		return netip.AddrFrom16([16]byte(a[offsetAddr6:])).IsUnspecified()
	}
	return true
}
