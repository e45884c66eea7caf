// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"whonix-networking/pkg/relay"
)

// errLoop says that a connection would come back to the listener it came from,
// and so on until nothing is left (defect 36).
var errLoop = errors.New("leads to itself")

// listening is what a program listens on; it keeps what would lead there from
// being connected.
type listening []net.Addr

// leadsBack reports a destination that is one of the listeners: an address, or
// a name that has such an address now. A name that cannot be resolved now is
// looked at again with each connection.
func (l listening) leadsBack(ctx context.Context, network, address string) bool {
	if l.control(network, address, nil) != nil {
		return true
	}
	host, port, err := net.SplitHostPort(address)
	if _, ip := netip.ParseAddr(host); network == "unix" || err != nil || ip == nil {
		return false
	}
	const patience = 3 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	addresses, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, a := range addresses {
		if l.has(a, port) {
			return true
		}
	}
	return false
}

// circles are the relays of which each leads to the next one, and the last to
// the first. Names do not count.
func circles(relays []*relay.Socat) []bool {
	next := make([][]int, len(relays))
	for i, from := range relays {
		for j, to := range relays {
			if from != nil && to != nil && (listening{addressOf(to.Listen)}).control(from.Connect.Network, from.Connect.Address, nil) != nil {
				next[i] = append(next[i], j)
			}
		}
	}
	return comeBack(next)
}

// comeBack are those that lead, by way of others or not, to themselves; next are
// those to which each leads.
func comeBack(next [][]int) []bool {
	back := make([]bool, len(next))
	for i := range next {
		seen := make([]bool, len(next))
		for todo := slices.Clone(next[i]); len(todo) > 0 && !seen[i]; {
			j := todo[0]
			todo = todo[1:]
			if !seen[j] {
				seen[j] = true
				todo = append(todo, next[j]...)
			}
		}
		back[i] = seen[i]
	}
	return back
}

// control is for a net.Dialer: it refuses each address of a destination that
// is one of the listeners, whatever the name has become.
func (l listening) control(network, address string, _ syscall.RawConn) error {
	if strings.HasPrefix(network, "unix") {
		if l.hasPath(address) {
			return errLoop
		}
		return nil
	}
	if to, err := netip.ParseAddrPort(address); err == nil && l.has(to.Addr(), strconv.Itoa(int(to.Port()))) {
		return errLoop
	}
	return nil
}

func (l listening) has(to netip.Addr, port string) bool {
	to = to.Unmap().WithZone("")
	for _, a := range l {
		own, ok := a.(*net.TCPAddr)
		if !ok || port != strconv.Itoa(own.Port) {
			continue
		}
		at := own.AddrPort().Addr().Unmap().WithZone("")
		// To connect to no address is to connect to this machine.
		switch {
		case to == at, to.IsUnspecified() && at.IsLoopback():
			return true
		case !at.IsValid() || at.IsUnspecified(): // on all addresses, of IPv4 or both
			if (to.IsUnspecified() || isOwn(to)) && (!at.Is4() || to.Is4()) {
				return true
			}
		}
	}
	return false
}

// isOwn reports an address of this machine.
func isOwn(to netip.Addr) bool {
	if to.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return true // rather no relay than a loop
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == to {
				return true
			}
		}
	}
	return false
}

func (l listening) hasPath(path string) bool {
	for _, a := range l {
		own, ok := a.(*net.UnixAddr)
		if ok && (own.Name == path || !strings.HasPrefix(path, "@") && sameFile(own.Name, path)) {
			return true
		}
	}
	return false
}

func sameFile(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	one, err := os.Stat(a)
	two, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(one, two)
}
