// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fdd"
	"whonix-networking/pkg/leakproof"
	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// proved has the Gateway's ruleset proved, and replays what is claimed: a leak
// that the proof shows on paper is shown as a packet.
func proved() []attempt {
	return []attempt{{"The Gateway's ruleset, for all packets (--prove)", "no leak", func(ctx context.Context, l *Lab) (string, bool) {
		proof, err := l.prove(ctx)
		if err != nil {
			return err.Error(), false
		}
		var names, leaks []string
		for _, r := range proof.Results {
			names = append(names, r.Property)
			if r.Status == leakproof.Violated && r.Witness != nil {
				seen, err := l.replay(ctx, r.Property, r.Witness)
				if err != nil {
					return err.Error(), false
				}
				leaks = append(leaks, fmt.Sprintf("%s: %s: %s", r.Property, r.Witness.Words, seen))
			} else if r.Status == leakproof.Violated || r.Status == leakproof.NotProved {
				leaks = append(leaks, fmt.Sprintf("%s: %s", r.Property, r.Status))
			}
		}
		if leaks != nil {
			return strings.Join(leaks, "; "), false
		}
		return "proved: " + strings.Join(names, " "), true
	}}}
}

// prove asks the Gateway's program.
func (l *Lab) prove(ctx context.Context) (*leakproof.Proof, error) {
	argv, script := []string{"/usr/bin/whonix_firewall", "--prove"}, []byte(nil)
	if l.opts.Gateway != "" {
		text, err := os.ReadFile(l.opts.Gateway)
		if err != nil {
			return nil, err
		}
		argv, script = append(argv, "-"), text
	}
	said, _, err := l.gateway.run(ctx, bytes.NewReader(script), append(argv, "--json", "--mode", modeFull)...)
	if err != nil {
		return nil, err
	}
	start := strings.Index(said, "{\n") // behind what the log says
	if start < 0 {
		return nil, fmt.Errorf("no proof: %s", said)
	}
	proof := &leakproof.Proof{}
	return proof, json.NewDecoder(strings.NewReader(said[start:])).Decode(proof)
}

// replay sends a witness through the Gateway's kernel and tells what was seen
// of it where it should not be.
func (l *Lab) replay(ctx context.Context, property string, w *leakproof.Witness) (string, error) {
	p, err := leakproof.ParsePacket(w.Words)
	if err != nil {
		return "", err
	}
	if property == "P9" {
		return l.replaySpoofed(ctx, p)
	}
	family := families()[0]
	if p[fdd.Family] == fdd.IPv6 {
		family = families()[1]
	}
	from := l.internet.Count()
	switch {
	case p[fdd.In] == (fdd.Value{}): // sent by the Gateway itself
		p[fdd.Src] = fdd.Addr(family.external)
		err = l.sendAs(p)
	case p[fdd.Route].Lo != fdd.Unicast:
		p[fdd.Dst] = fdd.Addr(family.inside)
		return l.replayTaken(ctx, p)
	default:
		err = l.frameFrom(p)
	}
	if err == nil {
		err = l.settle(ctx)
	}
	if err != nil {
		return "", err
	}
	frames, err := l.internet.Frames()
	for _, f := range frames[from:] {
		if f.Proto == uint8(p[fdd.Proto].Lo) && f.Dst == p[fdd.Dst].IP(p[fdd.Family]) {
			return fmt.Sprintf("captured on the Internet side: %v", f), err
		}
	}
	return "not seen on the Internet side", err
}

// replaySpoofed sends what is answered with the witness: a packet whose source
// is the attacker's address.
func (l *Lab) replaySpoofed(ctx context.Context, answer fdd.Packet) (string, error) {
	attacker := answer[fdd.Dst].IP(answer[fdd.Family])
	to := families()[0]
	if attacker.Is6() {
		to = families()[1]
	}
	from := l.internet.Count()
	s := l.sender()
	for _, dst := range []netip.Addr{to.external, to.server} {
		s.tcp(at(attacker, 4450), at(dst, 80), netlab.SYN)
		s.udp(at(attacker, 4450), at(dst, 53), netlab.Query("example.com"))
		s.ping(attacker, dst)
	}
	if err := errors.Join(s.err, l.settle(ctx)); err != nil {
		return "", err
	}
	frames, err := l.internet.Frames()
	for _, f := range frames[from:] {
		if f.Dst == attacker {
			return fmt.Sprintf("captured on the Internet side: %v", f), err
		}
	}
	return "not seen on the Internet side", err
}

// packetBytes is a packet from its IP header on.
func packetBytes(p fdd.Packet) (kind uint16, packet []byte) {
	src, dst := p[fdd.Src].IP(p[fdd.Family]), p[fdd.Dst].IP(p[fdd.Family])
	sport, dport := uint16(p[fdd.SrcPort].Lo), uint16(p[fdd.DstPort].Lo)
	var body []byte
	switch p[fdd.Proto].Lo {
	case fdd.TCP:
		body = netlab.TCP(at(src, sport), at(dst, dport), uint8(p[fdd.Flags].Lo))
	case fdd.UDP:
		body = netlab.UDP(at(src, sport), at(dst, dport), netlab.Query("example.com"))
	case fdd.ICMP, fdd.ICMPv6:
		body = netlab.ICMP(src, dst, uint8(p[fdd.Type].Lo), uint8(p[fdd.Code].Lo), make([]byte, 28))
	default:
		body = make([]byte, 32)
	}
	return netlab.Packet(src, dst, uint8(p[fdd.Proto].Lo), body)
}

// frameFrom sends a packet from the Workstation, or from the Internet.
func (l *Lab) frameFrom(p fdd.Packet) error {
	kind, packet := packetBytes(p)
	if p[fdd.In].Text() == l.topo.Inside.Interface {
		s := l.sender()
		s.frame(kind, packet)
		return s.err
	}
	socket, err := l.topo.Internet.OpenSocket()
	if err != nil {
		return err
	}
	defer socket.Close()
	to, err := l.topo.Gateway.HardwareAddr()
	if err == nil {
		err = socket.Send(netlab.Ethernet(to, net.HardwareAddr{2, 0, 0, 0, 0, 2}, kind, packet))
	}
	return err
}

// sendAs sends a packet from the Gateway, as the account that it has.
func (l *Lab) sendAs(p fdd.Packet) error {
	_, packet := packetBytes(p)
	uid := 0
	if n := p[fdd.UID].Lo; n < fdd.NoUID {
		uid = int(n)
	}
	return l.topo.Gateway.Namespace.As(uid, func() error {
		dst := p[fdd.Dst].IP(p[fdd.Family])
		domain, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: dst.As16()})
		if dst.Is4() {
			domain, to = unix.AF_INET, &unix.SockaddrInet4{Addr: dst.As4()}
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err = unix.Sendto(fd, packet, 0, to); errors.Is(err, unix.EPERM) {
			err = nil // which is seen as well
		}
		return err
	})
}

// replayTaken sends a packet that the Gateway takes in, and looks whether it
// did: by a socket that sees whatever passes the input rules.
func (l *Lab) replayTaken(ctx context.Context, p fdd.Packet) (string, error) {
	fd := -1
	err := l.topo.Gateway.Namespace.Do(func() (err error) {
		domain := unix.AF_INET6
		if p[fdd.Family] == fdd.IPv4 {
			domain = unix.AF_INET
		}
		fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(p[fdd.Proto].Lo))
		return err
	})
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := errors.Join(l.frameFrom(p), l.settle(ctx)); err != nil {
		return "", err
	}
	_, packet := packetBytes(p)
	transport := packet[20:]
	if p[fdd.Family] == fdd.IPv6 {
		transport = packet[40:]
	}
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			return "not taken in at " + whonix.GatewayIP, nil
		}
		const identity = 2 // the source port, or type and code: a translation leaves them
		if i := bytes.Index(buf[:n], transport[:identity]); i == 0 || i == 20 {
			return "taken in by the Gateway", nil
		}
	}
}
