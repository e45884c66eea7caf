// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// nobodys is the owner of a frame that comes from no socket that can be told.
const nobodys = -1

// flow is a connection as its frames show it.
type flow struct {
	proto    uint8
	src, dst netip.AddrPort
}

func (f frame) flow() flow {
	return flow{f.Proto, netip.AddrPortFrom(f.Src, f.SrcPort), netip.AddrPortFrom(f.Dst, f.DstPort)}
}

// owners finds out whose sockets frames come from.
type owners struct {
	fd    int // sock_diag(7)
	known map[flow]known
	buf   []byte
	local func() ([]net.Addr, error)
}

// known is whose a TCP connection was when it was begun, or first seen: what is
// sent after its end has no owner any more.
type known struct {
	uid  int
	seen time.Time
}

func newOwners() (*owners, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	const patience, room = 5, 1 << 16
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patience}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	return &owners{fd: fd, known: map[flow]known{}, buf: make([]byte, room), local: net.InterfaceAddrs}, nil
}

func (o *owners) close() { unix.Close(o.fd) }

// of is the account whose socket sent a frame of TCP or UDP.
func (o *owners) of(f frame, now time.Time) (int, error) {
	const flagSYN, flagACK = 0x02, 0x10
	key := f.flow()
	begins := f.Proto == unix.IPPROTO_UDP || f.Flags&(flagSYN|flagACK) == flagSYN
	if k, ok := o.known[key]; ok && !begins {
		k.seen = now
		o.known[key] = k
		return k.uid, nil
	}
	delete(o.known, key)
	uid, err := o.ask(key)
	if err == nil && uid != nobodys && f.Proto == unix.IPPROTO_TCP {
		o.forget(now)
		o.known[key] = known{uid, now}
	}
	return uid, err
}

// forget keeps the table small.
func (o *owners) forget(now time.Time) {
	const most, idle = 1 << 12, 5 * time.Minute
	if len(o.known) < most {
		return
	}
	for key, k := range o.known {
		if now.Sub(k.seen) > idle {
			delete(o.known, key)
		}
	}
	if len(o.known) >= most { // they are asked for again
		clear(o.known)
	}
}

// Sizes of linux/inet_diag.h and linux/netlink.h.
const (
	netlinkHeader = 16
	diagRequest   = 56
	diagMessage   = 72
	diagByFamily  = 20 // SOCK_DIAG_BY_FAMILY
)

// ask asks the kernel for the sockets with the flow's local port. A socket of
// IPv6 may speak IPv4.
func (o *owners) ask(f flow) (int, error) {
	families := []byte{unix.AF_INET6}
	if f.src.Addr().Is4() {
		families = []byte{unix.AF_INET, unix.AF_INET6}
	}
	best := socket{uid: nobodys}
	for _, family := range families {
		sockets, err := o.dump(family, f)
		if err != nil {
			return nobodys, err
		}
		for _, s := range sockets {
			if s.rank > best.rank {
				best = s
			}
		}
	}
	return best.uid, nil
}

// socket is one that may have sent a frame, and how certain that is.
type socket struct {
	uid, rank int
}

func (o *owners) dump(family byte, f flow) ([]socket, error) {
	const allStates = 0xffffffff
	b := make([]byte, netlinkHeader+diagRequest)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], diagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	r := b[netlinkHeader:]
	r[0], r[1] = family, f.proto
	binary.NativeEndian.PutUint32(r[4:], allStates)
	binary.BigEndian.PutUint16(r[8:], f.src.Port())
	if err := unix.Sendto(o.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	var out []socket
	for {
		n, _, err := unix.Recvfrom(o.fd, o.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
		more, done, err := o.messages(o.buf[:n], f)
		if out = append(out, more...); err != nil || done {
			return out, err
		}
	}
}

// messages reads what the kernel says.
func (o *owners) messages(b []byte, f flow) (out []socket, done bool, err error) {
	for len(b) >= netlinkHeader {
		n := int(binary.NativeEndian.Uint32(b))
		if n < netlinkHeader || n > len(b) {
			break
		}
		body := b[netlinkHeader:n]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return out, true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return out, true, errors.New("sock_diag: an error without a number")
			}
			return out, true, fmt.Errorf("sock_diag: %w", unix.Errno(-int32(binary.NativeEndian.Uint32(body))))
		case diagByFamily:
			if len(body) >= diagMessage {
				if s, ok := o.match(body, f); ok {
					out = append(out, s)
				}
			}
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return out, false, nil
}

// match says whether a socket, a struct inet_diag_msg, can have sent the flow.
// One that its program has closed has no owner in older kernels: it says root.
func (o *owners) match(b []byte, f flow) (s socket, ok bool) {
	if binary.NativeEndian.Uint32(b[68:]) == 0 { // no inode
		return s, false
	}
	address := func(a []byte) netip.Addr {
		if b[0] == unix.AF_INET {
			return netip.AddrFrom4([4]byte(a))
		}
		return netip.AddrFrom16([16]byte(a)).Unmap()
	}
	local := netip.AddrPortFrom(address(b[8:24]), binary.BigEndian.Uint16(b[4:]))
	remote := netip.AddrPortFrom(address(b[24:40]), binary.BigEndian.Uint16(b[6:]))
	s = socket{uid: int(binary.NativeEndian.Uint32(b[64:])), rank: 1}
	switch {
	case local.Port() != f.src.Port():
		return s, false
	case local.Addr() == f.src.Addr():
		s.rank += 1
	case !local.Addr().IsUnspecified() || !o.ours(f.src.Addr()):
		return s, false
	}
	switch {
	case remote == f.dst:
		s.rank += 2
	case remote.Port() != 0:
		return s, false
	}
	return s, true
}

// ours reports an address of this machine: a socket without one speaks for
// these, and not for what is forwarded.
func (o *owners) ours(a netip.Addr) bool {
	list, err := o.local()
	return err == nil && slices.ContainsFunc(list, func(l net.Addr) bool {
		n, ok := l.(*net.IPNet)
		if !ok {
			return false
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		return ip.Unmap() == a
	})
}
