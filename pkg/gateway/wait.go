// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// What the kernel says about IPv6; see proc(5). Of the calling thread, for the
// network namespace belongs to it.
const (
	ipv6Disabled  = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
	ipv6Addresses = "/proc/thread-self/net/if_inet6"
)

// waiter waits until an interface's IPv6 addresses can be bound.
type waiter struct {
	root     fsx.Root
	env      cli.Env
	bindable func(netip.Addr) bool
	device   string
	seen     map[netip.Addr]string // what was reported last
}

// internalDevice is the interface to Workstations.
const internalDevice = "eth1"

const waitHelp = `usage: %s [INTERFACE]
Waits up to 10 seconds until the IPv6 addresses of an interface, eth1 if none is
named, can be bound. See tor-config-sane(8).
`

// Wait is the program tor-wait-for-network.
func Wait(ctx context.Context, env cli.Env) error {
	w := &waiter{root: fsx.Host, env: env, bindable: bindable, device: internalDevice}
	switch args := env.Args[1:]; {
	case len(args) > 0 && (args[0] == "-h" || args[0] == "--help"):
		_, err := fmt.Fprintf(env.Stdout, waitHelp, env.Name())
		return err
	case len(args) > 1 || len(args) == 1 && !validDevice(args[0]):
		return cli.Usagef("at most one argument, the name of an interface")
	case len(args) == 1:
		w.device = args[0]
	}
	if os.Geteuid() != 0 {
		w.say("ERROR: Must be run as root!")
		return &cli.Exit{Code: cli.CodeFailed}
	}
	w.run(ctx)
	return nil
}

// validDevice takes what the kernel takes for a name of an interface.
func validDevice(name string) bool {
	const nameMax = 15
	return name != "" && len(name) <= nameMax && !strings.ContainsAny(name, "/ \t\n:") && !strings.HasPrefix(name, "-") && name != "." && name != ".."
}

func (w *waiter) say(format string, args ...any) {
	fmt.Fprintf(w.env.Stderr, "tor-wait-for-network: %s\n", fmt.Sprintf(format, args...))
}

// run waits. That nothing came is no failure: Tor then starts without IPv6.
func (w *waiter) run(ctx context.Context) {
	const limit, interval = 10 * time.Second, 200 * time.Millisecond
	const flagMax = 16
	flag, err := w.root.ReadFile(ipv6Disabled, flagMax)
	switch {
	case err != nil:
		w.say("WARNING: %v", err)
	case strings.TrimSpace(string(flag)) == "1":
		w.say("INFO: IPv6 is disabled, not waiting.")
		return
	}
	w.seen = map[netip.Addr]string{}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		ready, err := w.ready()
		if err != nil {
			w.say("INFO: no IPv6 in this kernel, not waiting: %v", err)
			return
		}
		if ready {
			return
		}
		select {
		case <-ctx.Done():
			w.say("INFO: no global IPv6 address of '%s' became bindable in time.", w.device)
			return
		case <-tick.C:
		}
	}
}

// ready reports that the interface has a global address, and that all its
// addresses can be bound. A link-local address alone is not enough (defect 6).
func (w *waiter) ready() (bool, error) {
	f, err := os.Open(w.root.Path(ipv6Addresses))
	if err != nil {
		return false, err
	}
	defer f.Close()
	addresses, err := parseAddresses(f, w.device)
	if err != nil {
		return false, err
	}
	global, all := false, true
	for _, a := range addresses {
		global = global || a.global
		text := "present, but not yet bindable"
		if w.bindable(a.address) {
			text = "bindable"
		} else {
			all = false
		}
		if w.seen[a.address] != text {
			w.seen[a.address] = text
			w.say("INFO: Non-loopback IPv6 address '%s' dev '%s' is %s.", a.address.WithZone(""), w.device, text)
		}
	}
	return global && all, nil
}

// deviceAddress is an IPv6 address; that of a link has its interface's index
// as the zone.
type deviceAddress struct {
	address netip.Addr
	global  bool
}

// parseAddresses reads /proc/net/if_inet6: address, index, length of prefix,
// scope, flags, interface.
func parseAddresses(r io.Reader, device string) ([]deviceAddress, error) {
	const fields, linesMax = 6, 10000
	var out []deviceAddress
	scanner := bufio.NewScanner(r)
	for n := 0; scanner.Scan() && n < linesMax; n++ {
		f := strings.Fields(scanner.Text())
		if len(f) != fields || f[5] != device {
			continue
		}
		raw, err := hex.DecodeString(f[0])
		a, ok := netip.AddrFromSlice(raw)
		if err != nil || !ok || !a.Is6() {
			return nil, errors.New("if_inet6 cannot be understood: " + f[0])
		}
		const globalScope = "00"
		if a.IsLinkLocalUnicast() {
			var index int
			if _, err := fmt.Sscanf(f[1], "%x", &index); err != nil {
				return nil, errors.New("if_inet6 cannot be understood: " + f[1])
			}
			a = a.WithZone(fmt.Sprint(index))
		}
		out = append(out, deviceAddress{a, f[3] == globalScope})
	}
	return out, scanner.Err()
}
