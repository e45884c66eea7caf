// SPDX-License-Identifier: GPL-3.0-or-later

package whonix

import (
	"errors"
	"net/netip"
	"strings"
)

// OwnAddress reads exactly one address that a machine can have in the place of
// like, and of the same family. A key of the other family once gave Tor the
// listener ::1:9300 (defect 34); an unspecified address would give it listeners
// on every interface.
func OwnAddress(text string, like netip.Addr) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	name := "IPv6"
	if like.Is4() {
		name = "IPv4"
	}
	switch {
	case err != nil || a.Zone() != "" || a.Is4In6() || a.Is4() != like.Is4():
		return netip.Addr{}, errors.New("not one " + name + " address")
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.Addr{}, errors.New("no machine's own " + name + " address")
	}
	return a, nil
}

// SavedAddress is OwnAddress of what a file holds, where a line may end.
func SavedAddress(data []byte, like netip.Addr) (netip.Addr, error) {
	return OwnAddress(strings.TrimSpace(string(data)), like)
}
