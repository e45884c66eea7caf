// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// sender sends packets with headers of our own, on the way that the machine's
// routes and firewall have for them.
type sender struct {
	fd       int
	src, dst netip.Addr
	to       unix.Sockaddr

	interval time.Duration // between two packets; 0 is none
	next     time.Time

	sent, refused int
	reasons       map[string]int // why packets were refused, and how many
}

// openSender opens a raw(7) socket towards dst. rate is packets a second, 0 as
// many as can be.
func openSender(dst netip.Addr, rate int) (*sender, error) {
	src, err := sourceFor(dst)
	if err != nil {
		return nil, err
	}
	family, to := unix.AF_INET, socketAddress(dst, 0)
	if dst.Is6() {
		family = unix.AF_INET6
	}
	// IPPROTO_RAW: the headers come from us, in both families.
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	const patience = 5
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: patience}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	s := &sender{fd: fd, src: src, dst: dst, to: to, reasons: map[string]int{}, next: time.Now()}
	if rate > 0 {
		s.interval = time.Second / time.Duration(rate)
	}
	return s, nil
}

func socketAddress(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}

// sourceFor is the address the kernel would send from. Without a route it is
// the unspecified one: then the kernel refuses every packet, which is counted.
func sourceFor(dst netip.Addr) (netip.Addr, error) {
	family, none := unix.AF_INET, netip.IPv4Unspecified()
	if dst.Is6() {
		family, none = unix.AF_INET6, netip.IPv6Unspecified()
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return none, fmt.Errorf("the kernel has no %s", familyName(dst))
	}
	if err != nil {
		return none, err
	}
	defer unix.Close(fd)
	const anyPort = 9
	if err := unix.Connect(fd, socketAddress(dst, anyPort)); err != nil { // sends nothing
		return none, nil
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return none, err
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr), nil
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr), nil
	}
	return none, nil
}

func familyName(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// send sends a packet when its turn has come. What the machine refuses is
// counted (defect 23); an error is what keeps the test from going on.
func (s *sender) send(ctx context.Context, proto uint8, payload []byte) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	p := packet(s.src, s.dst, proto, payload)
	for {
		err := unix.Sendto(s.fd, p, 0, s.to)
		switch {
		case err == nil:
			s.sent++
			return nil
		case refusal(err):
			s.refused++
			s.reasons[err.Error()]++
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS): // the link's queue is full
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		default:
			return fmt.Errorf("send protocol %d to %v: %w", proto, s.dst, err)
		}
	}
}

// refusal reports that the firewall, or the lack of a way, kept a packet in.
func refusal(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.EADDRNOTAVAIL, unix.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wait keeps the rate; what was late is caught up with.
func (s *sender) wait(ctx context.Context) error {
	const grain = 2 * time.Millisecond // timers are no finer
	s.next = s.next.Add(s.interval)
	if ahead := time.Until(s.next); ahead > grain {
		return pause(ctx, ahead)
	}
	return ctx.Err()
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *sender) close() { unix.Close(s.fd) }
