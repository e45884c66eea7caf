// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// loopback is the only interface of the namespace, and its index there.
const (
	loopback      = "lo"
	loopbackIndex = 1
)

// The addresses the program sees itself have. They say nothing about the
// machine, and neither is a destination anywhere: 192.0.0.8 is the IPv4 dummy
// address of RFC 7600, and 100::/64 is for discarding, RFC 6666.
func ownAddresses() (v4, v6 netip.Addr) {
	return netip.AddrFrom4([4]byte{192, 0, 0, 8}), netip.AddrFrom16([16]byte{0: 1, 15: 1})
}

// raiseLoopback brings loopback up, with an address and the default route of
// each family on it: what a program sends anywhere comes to the firewall, and
// is lost on loopback otherwise.
func raiseLoopback(ipv6 bool) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(answerLimit.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return err
	}
	v4, v6 := ownAddresses()
	requests := []request{{"loopback", linkUp()}, {"IPv4 address", newAddress(v4)}, {"IPv4 route", defaultRoute(unix.AF_INET)}}
	if ipv6 {
		// Where the administrator turned IPv6 off by default it is on in here all
		// the same, so that IPv6 connections go by Tor; this may not be needed.
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("0"), 0)
		requests = append(requests, request{"IPv6 address", newAddress(v6)}, request{"IPv6 route", defaultRoute(unix.AF_INET6)})
	}
	for i, r := range requests {
		if err := r.ask(fd, uint32(i+1)); err != nil {
			return fmt.Errorf("set up %s in the namespace: %w", r.what, err)
		}
	}
	return nil
}

// hasIPv6 reports whether the kernel has IPv6 at all.
func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return !errors.Is(err, unix.EAFNOSUPPORT)
	}
	unix.Close(fd)
	return true
}

// request is a message of rtnetlink(7) without its length and number.
type request struct {
	what string
	body []byte // from the type of struct nlmsghdr on
}

// newRequest is a header, whose flags ask for an answer, and a payload.
func newRequest(kind, flags uint16, payload ...byte) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN, 64)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	return append(b, payload...)
}

// attribute appends an attribute, whose value must fill words of 4 bytes.
func attribute(b []byte, kind uint16, value []byte) []byte {
	const headerLen = 4
	b = binary.NativeEndian.AppendUint16(b, uint16(headerLen+len(value)))
	return append(binary.NativeEndian.AppendUint16(b, kind), value...)
}

// linkUp is struct ifinfomsg with the flag to be up.
func linkUp() []byte {
	b := newRequest(unix.RTM_NEWLINK, 0, unix.AF_UNSPEC, 0, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, loopbackIndex)
	b = binary.NativeEndian.AppendUint32(b, unix.IFF_UP)
	return binary.NativeEndian.AppendUint32(b, unix.IFF_UP)
}

// newAddress is struct ifaddrmsg for a host address that can be used at once.
func newAddress(addr netip.Addr) []byte {
	family, flags := byte(unix.AF_INET), byte(0)
	if addr.Is6() {
		family, flags = unix.AF_INET6, unix.IFA_F_NODAD
	}
	b := newRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, family, byte(addr.BitLen()), flags, unix.RT_SCOPE_UNIVERSE)
	b = binary.NativeEndian.AppendUint32(b, loopbackIndex)
	b = attribute(b, unix.IFA_LOCAL, addr.AsSlice())
	return attribute(b, unix.IFA_ADDRESS, addr.AsSlice())
}

// defaultRoute is struct rtmsg for a route of everything.
func defaultRoute(family byte) []byte {
	scope := byte(unix.RT_SCOPE_LINK)
	if family == unix.AF_INET6 {
		scope = unix.RT_SCOPE_UNIVERSE
	}
	b := newRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		family, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, scope, unix.RTN_UNICAST, 0, 0, 0, 0)
	return attribute(b, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, loopbackIndex))
}

// ask sends a request and returns what the kernel says.
func (r request) ask(fd int, number uint32) error {
	binary.NativeEndian.PutUint32(r.body, uint32(len(r.body)))
	binary.NativeEndian.PutUint32(r.body[8:], number)
	if err := retry(func() error { return unix.Sendto(fd, r.body, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) }); err != nil {
		return err
	}
	answer := make([]byte, os.Getpagesize())
	var n int
	err := retry(func() (err error) { n, _, err = unix.Recvfrom(fd, answer, 0); return err })
	if err != nil {
		return err
	}
	if n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR || binary.NativeEndian.Uint32(answer[8:]) != number {
		return errors.New("unexpected answer of the kernel")
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
