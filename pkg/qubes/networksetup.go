// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const networkHelp = `usage: network-proxy-setup
Gives a Gateway in Qubes its internal interface before there is a client. See
network-proxy-setup(8).
`

const keyNetVMNetmask = "/qubes-netvm-netmask"

// SetUpNetwork is the program network-proxy-setup.
func SetUpNetwork(ctx context.Context, env cli.Env) error {
	if done, err := alone(env, networkHelp); done {
		return err
	}
	if err := asRoot(); err != nil {
		return err
	}
	return setUpNetwork(ctx, fsx.Host, env, "dummy")
}

// setUpNetwork makes an interface of the given kind, so that Tor can bind to
// the Gateway's internal addresses while no client is connected. One that is
// there is completed: without addresses it would be of no use (defect 37).
func setUpNetwork(ctx context.Context, root fsx.Root, env cli.Env, kind string) error {
	const external, internal = "eth0", "eth1"
	m := whonix.Detect(root)
	if m.Role != whonix.Gateway || m.Template || !m.Qubes {
		return nil
	}
	_ = offloadOff(external, ethtoolScatterGather) // not every driver can
	addresses, err := internalAddresses(ctx, root, env)
	if err != nil || len(addresses) == 0 {
		return err
	}
	link, err := net.InterfaceByName(internal)
	if err != nil {
		if err := makeLink(internal, kind); err != nil {
			return fmt.Errorf("make the interface %s (%s): %w", internal, kind, err)
		}
		if link, err = net.InterfaceByName(internal); err != nil {
			return err
		}
	}
	// Before it is up: a client must not give the Gateway a route (defect 1).
	for _, setting := range []string{"accept_ra", "autoconf"} {
		file := "/proc/sys/net/ipv6/conf/" + internal + "/" + setting
		if err := os.WriteFile(file, []byte("0\n"), 0); err != nil && !os.IsNotExist(err) { // no IPv6 in this kernel
			return err
		}
	}
	for _, offload := range []uint32{ethtoolScatterGather, ethtoolTxChecksum} {
		_ = offloadOff(internal, offload) // not every driver can
	}
	if err := linkUp(link.Index); err != nil {
		return fmt.Errorf("set %s up: %w", internal, err)
	}
	for _, a := range addresses {
		if err := addAddress(link.Index, a); err != nil {
			return fmt.Errorf("give %s the address %s: %w", internal, a, err)
		}
	}
	return nil
}

// internalAddresses are what Qubes says that the Gateway's are. A machine that
// gives no others network has none. Without a good IPv4 address nothing is set
// up; a missing or bad IPv6 one costs IPv6 only.
func internalAddresses(ctx context.Context, root fsx.Root, env cli.Env) ([]netip.Prefix, error) {
	value, ok := database(ctx, root, keyNetVMGateway)
	if !ok {
		fmt.Fprintf(env.Stderr, "%s: INFO: QubesDB has no %s: this machine gives no others network\n", env.Name(), keyNetVMGateway)
		return nil, nil
	}
	ip, err := ipv4.parse(value)
	if err != nil {
		return nil, fmt.Errorf("QubesDB's %s is '%s': %w", keyNetVMGateway, shown(value), err)
	}
	bits := ip.BitLen()
	if mask, ok := database(ctx, root, keyNetVMNetmask); ok && mask != "" {
		if bits, err = maskBits(mask); err != nil {
			bits = ip.BitLen()
			env.Warnf("QubesDB's %s is '%s': %v; /%d is taken", keyNetVMNetmask, shown(mask), err, bits)
		}
	}
	list := []netip.Prefix{netip.PrefixFrom(ip, bits)}
	if value, ok := database(ctx, root, keyNetVMGateway6); ok && value != "" {
		ip6, err := ipv6.parse(value)
		if err != nil {
			env.Warnf("QubesDB's %s is '%s': %v; there is no IPv6 inside", keyNetVMGateway6, shown(value), err)
			return list, nil
		}
		list = append(list, netip.PrefixFrom(ip6, ip6.BitLen()))
	}
	return list, nil
}

// maskBits is how many bits a dotted netmask has.
func maskBits(text string) (int, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return 0, fmt.Errorf("no netmask")
	}
	ones, size := net.IPMask(a.AsSlice()).Size()
	if size == 0 || ones == 0 {
		return 0, fmt.Errorf("no netmask")
	}
	return ones, nil
}
