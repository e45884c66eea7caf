// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeLink creates an interface without a peer, see rtnetlink(7).
func makeLink(name, kind string) error {
	info := attribute(unix.IFLA_INFO_KIND, []byte(kind))
	payload := append(make([]byte, unix.SizeofIfInfomsg), attribute(unix.IFLA_IFNAME, append([]byte(name), 0))...)
	payload = append(payload, attribute(unix.IFLA_LINKINFO, info)...)
	return netlink(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, payload)
}

// linkUp sets an interface up.
func linkUp(index int) error {
	payload := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(payload[4:], uint32(index))
	binary.NativeEndian.PutUint32(payload[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(payload[12:], unix.IFF_UP)
	return netlink(unix.RTM_NEWLINK, 0, payload)
}

// addAddress gives an interface an address, if it does not have it. It can be
// used at once: nobody else can have it, so that nobody is asked.
func addAddress(index int, p netip.Prefix) error {
	payload := make([]byte, unix.SizeofIfAddrmsg)
	payload[0], payload[1] = unix.AF_INET, byte(p.Bits())
	if p.Addr().Is6() {
		payload[0], payload[2] = unix.AF_INET6, unix.IFA_F_NODAD
	}
	binary.NativeEndian.PutUint32(payload[4:], uint32(index))
	payload = append(payload, attribute(unix.IFA_LOCAL, p.Addr().AsSlice())...)
	payload = append(payload, attribute(unix.IFA_ADDRESS, p.Addr().AsSlice())...)
	err := netlink(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, payload)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// attribute is one of a message's, padded.
func attribute(kind uint16, value []byte) []byte {
	const align = 4
	a := make([]byte, unix.SizeofRtAttr, unix.SizeofRtAttr+len(value)+align)
	binary.NativeEndian.PutUint16(a, uint16(unix.SizeofRtAttr+len(value)))
	binary.NativeEndian.PutUint16(a[2:], kind)
	a = append(a, value...)
	for len(a)%align != 0 {
		a = append(a, 0)
	}
	return a
}

// netlink sends one request and returns what the kernel says to it.
func netlink(kind, flags uint16, payload []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer unix.Close(fd)
	message := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(payload))
	binary.NativeEndian.PutUint32(message, uint32(unix.SizeofNlMsghdr+len(payload)))
	binary.NativeEndian.PutUint16(message[4:], kind)
	binary.NativeEndian.PutUint16(message[6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := unix.Sendto(fd, append(message, payload...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	answer := make([]byte, unix.Getpagesize())
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	const code = unix.SizeofNlMsghdr // where an error's code is
	if n < code+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("netlink: an answer of another kind")
	}
	if errno := -int32(binary.NativeEndian.Uint32(answer[code:])); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}

// Settings of ethtool that are switched off; see linux/ethtool.h.
const (
	ethtoolTxChecksum    = 0x17
	ethtoolScatterGather = 0x19
)

// offloadOff switches an offload of an interface off.
func offloadOff(name string, command uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{command: command}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // an ifreq is longer
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
