// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long an interface may be late, as at boot (defect 30).
const (
	interfaceTime  = 30 * time.Second
	interfaceEvery = 200 * time.Millisecond
	interfaceName  = 15 // bytes of it that the kernel knows
)

// interfaceAddresses are the primary IPv4 address of an interface, and its first
// lasting IPv6 address if it has one. The unit allows no netlink, hence ioctl.
func interfaceAddresses(name string) ([]netip.Addr, error) {
	four, err := interfaceIPv4(name)
	if err != nil {
		return nil, err
	}
	out := []netip.Addr{four}
	if six, ok := interfaceIPv6(name); ok {
		out = append(out, six)
	}
	return out, nil
}

func interfaceIPv4(name string) (netip.Addr, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return netip.Addr{}, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFADDR, request); err != nil {
		return netip.Addr{}, err
	}
	raw, err := request.Inet4Addr()
	if err != nil {
		return netip.Addr{}, err
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr, nil
}

// interfaceIPv6 reads /proc/net/if_inet6: address, index, prefix length, scope,
// flags, name.
func interfaceIPv6(name string) (netip.Addr, bool) {
	data, err := os.ReadFile("/proc/thread-self/net/if_inet6")
	if err != nil {
		return netip.Addr{}, false // a kernel without IPv6
	}
	return firstIPv6(string(data), name)
}

func firstIPv6(list, name string) (netip.Addr, bool) {
	const fields, scopeField, flagsField, nameField = 6, 3, 4, 5
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if len(f) != fields || f[nameField] != name {
			continue
		}
		raw, err1 := hex.DecodeString(f[0])
		scope, err2 := strconv.ParseUint(f[scopeField], 16, 32)
		flags, err3 := strconv.ParseUint(f[flagsField], 16, 32)
		addr, ok := netip.AddrFromSlice(raw)
		if err1 != nil || err2 != nil || err3 != nil || !ok || scope != 0 || flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_DADFAILED|unix.IFA_F_DEPRECATED) != 0 {
			continue
		}
		return addr, true
	}
	return netip.Addr{}, false
}

// awaitInterface waits until the interface has an address.
func awaitInterface(ctx context.Context, name string, limit time.Duration, waiting func()) ([]netip.Addr, error) {
	name = name[:min(len(name), interfaceName)]
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for told := false; ; told = true {
		addrs, err := interfaceAddresses(name)
		if err == nil {
			return addrs, nil
		}
		if !told {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("argument --listen-interface: %q has no IPv4 address: %w", name, err)
		case <-time.After(interfaceEvery):
		}
	}
}

// resolveListen is the address of --listen-address.
func resolveListen(ctx context.Context, name string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return a, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("argument --listen-address: %q: %w", name, err)
	}
	return addrs[0].Unmap(), nil
}

// listen opens a port with the given backlog. An IPv6 address may still be on
// trial (duplicate address detection) and can be bound all the same.
func listen(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	const backlog = 128
	config := net.ListenConfig{KeepAlive: keepAlive, Control: func(network, _ string, c syscall.RawConn) error {
		if at.Addr().Is4() {
			return nil
		}
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1))
		}), err)
	}}
	config.SetMultipathTCP(false) // a client is the address that it connects from, and no other may join
	l, err := config.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	tcp := l.(*net.TCPListener)
	raw, err := tcp.SyscallConn()
	if err == nil {
		var inner error
		err = errors.Join(raw.Control(func(fd uintptr) { inner = unix.Listen(int(fd), backlog) }), inner)
	}
	if err != nil {
		tcp.Close()
		return nil, err
	}
	return tcp, nil
}
