// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// payload is what the original's packets carry.
const payload = "testing"

// attempt is how a test is done.
type attempt struct {
	target netip.Addr
	rate   int           // packets a second; 0 is as many as can be
	wait   time.Duration // for answers, after the last packet
}

// sourcePort is where segments and datagrams come from, below the ports that
// the kernel gives to others.
const sourcePort = 20779

// flood sends packets until each says there are no more, and counts answers.
func (a attempt) flood(ctx context.Context, name string, each func(s *sender) error) (r Result, err error) {
	r = Result{Test: name, Target: a.target.String()}
	begin := time.Now()
	answers, err := openCapture(0, incoming)
	if err != nil {
		return r, err
	}
	defer answers.Close()
	s, err := openSender(a.target, a.rate)
	if err != nil {
		return r, err
	}
	defer s.close()
	var listening sync.WaitGroup
	var heard error
	listening.Add(1)
	go func() {
		defer listening.Done()
		heard = r.listen(answers, a.target)
	}()
	if err = each(s); err == nil {
		err = pause(ctx, a.wait)
	}
	answers.interrupt()
	listening.Wait()
	lost, lostErr := answers.losses()
	if err = errors.Join(err, lostErr, heard); err == nil && lost > 0 {
		err = errLost
	}
	r.Sent, r.Refused, r.Seconds = s.sent, s.refused, time.Since(begin).Seconds()
	if s.refused > 0 {
		r.Reasons = s.reasons
	}
	r.judge()
	return r, err
}

var errLost = errors.New("answers came faster than they could be read; use a smaller --rate")

// listen counts answers until the capture is interrupted.
func (r *Result) listen(c *capture, target netip.Addr) error {
	for {
		f, err := c.next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case errors.Is(err, unix.ENETDOWN): // an interface went; others are left
		case err != nil:
			return err
		default:
			r.answer(f, target)
		}
	}
}

// protocols sends one packet for each IP protocol number.
func (a attempt) protocols(ctx context.Context) (Result, error) {
	return a.flood(ctx, "exhaustive_ip_send", func(s *sender) error {
		for proto := range 1 << 8 {
			if err := s.send(ctx, uint8(proto), []byte(payload)); err != nil {
				return err
			}
		}
		return nil
	})
}

// tcp sends one SYN to each port.
func (a attempt) tcp(ctx context.Context) (Result, error) {
	return a.flood(ctx, "tcp_test", func(s *sender) error {
		for port := range 1 << 16 {
			segment := syn(netip.AddrPortFrom(s.src, sourcePort), netip.AddrPortFrom(s.dst, uint16(port)))
			if err := s.send(ctx, unix.IPPROTO_TCP, segment); err != nil {
				return err
			}
		}
		return nil
	})
}

// udp sends one datagram to each port.
func (a attempt) udp(ctx context.Context) (Result, error) {
	return a.flood(ctx, "udp_test", func(s *sender) error {
		for port := range 1 << 16 {
			d := datagram(netip.AddrPortFrom(s.src, sourcePort), netip.AddrPortFrom(s.dst, uint16(port)), []byte(payload))
			if err := s.send(ctx, unix.IPPROTO_UDP, d); err != nil {
				return err
			}
		}
		return nil
	})
}

// ping sends an echo request. The Gateway may answer it, and whoever else is
// inside.
func (a attempt) ping(ctx context.Context) (Result, error) {
	r, err := a.flood(ctx, "simple_ping", func(s *sender) error {
		proto, message := echoRequest(s.src, s.dst, uint16(os.Getpid()), 1, []byte(payload))
		return s.send(ctx, proto, message)
	})
	if a.target.IsPrivate() {
		r.Leaks, r.Leak = 0, ""
		r.judge()
	}
	return r, err
}
