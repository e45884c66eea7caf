// SPDX-License-Identifier: GPL-3.0-or-later

package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/checksum"
)

// Outcome is what became of an attempt to communicate.
type Outcome struct {
	Verdict string // one of the constants below
	Text    string // what the peer sent, if anything
	Local   netip.AddrPort
	Remote  netip.AddrPort // where it was addressed to
}

// Verdicts of attempts.
const (
	Answered  = "answered"
	Connected = "connected, no answer"
	Refused   = "refused"            // a reset or an ICMP error came back
	Forbidden = "not let out"        // the machine's own firewall said no
	Silent    = "no answer"          // nothing came back
	NoRoute   = "no route from here" // the machine has no way there
)

func (o Outcome) String() string { return o.Verdict }

// verdictOf maps an error of the socket calls to a verdict.
func verdictOf(err error) string {
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return Forbidden
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EHOSTUNREACH):
		return Refused
	case errors.Is(err, syscall.ENETUNREACH):
		return NoRoute
	}
	return Silent
}

// TCP connects as the account uid and reads one line of what the peer sends.
func (n *Namespace) TCP(uid int, to string, within time.Duration) Outcome {
	return n.stream(uid, to, nil, within)
}

// SOCKS asks the SOCKS5 server at proxy for a connection to the address `to`,
// and reads one line of what the peer sends.
func (n *Namespace) SOCKS(uid int, proxy, to string, within time.Duration) Outcome {
	dst, err := netip.ParseAddrPort(to)
	if err != nil {
		return Outcome{Verdict: err.Error()}
	}
	kind := byte(1)
	if dst.Addr().Is6() {
		kind = 4
	}
	request := append([]byte{5, 1, 0, 5, 1, 0, kind}, dst.Addr().AsSlice()...)
	return n.stream(uid, proxy, append(request, byte(dst.Port()>>8), byte(dst.Port())), within)
}

// HTTPConnect asks the HTTP proxy for a connection to the address `to`, and
// reads what the peer sends.
func (n *Namespace) HTTPConnect(uid int, proxy, to string, within time.Duration) Outcome {
	return n.stream(uid, proxy, fmt.Appendf(nil, "CONNECT %s HTTP/1.0\r\n\r\n", to), within)
}

func (n *Namespace) stream(uid int, to string, request []byte, within time.Duration) (o Outcome) {
	var conn net.Conn
	err := n.As(uid, func() (err error) {
		d := net.Dialer{Timeout: within}
		conn, err = d.Dial("tcp", to)
		return err
	})
	if err != nil {
		o.Verdict = verdictOf(err)
		return o
	}
	defer conn.Close()
	o.Local, o.Remote = unmap(conn.LocalAddr().(*net.TCPAddr).AddrPort()), unmap(conn.RemoteAddr().(*net.TCPAddr).AddrPort())
	_ = conn.SetDeadline(time.Now().Add(within))
	if _, err := conn.Write(request); err != nil {
		o.Verdict = verdictOf(err)
		return o
	}
	text, err := io.ReadAll(io.LimitReader(conn, 512))
	o.Text = string(text)
	switch {
	case len(text) > 0:
		o.Verdict = Answered
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
		o.Verdict = Connected
	default:
		o.Verdict = verdictOf(err)
	}
	return o
}

// send opens a socket as the account uid and sends data.
func (n *Namespace) send(uid int, network, to string, data []byte) (conn net.Conn, err error) {
	err = n.As(uid, func() (err error) {
		conn, err = net.Dial(network, to)
		if err == nil {
			_, err = conn.Write(data)
		}
		return err
	})
	if err != nil && conn != nil {
		conn.Close()
		conn = nil
	}
	return conn, err
}

// UDP sends a datagram as the account uid and waits for an answer.
func (n *Namespace) UDP(uid int, to string, data []byte, within time.Duration) (o Outcome) {
	conn, err := n.send(uid, "udp", to, data)
	if err != nil {
		o.Verdict = verdictOf(err)
		return o
	}
	defer conn.Close()
	o.Local = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	_ = conn.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, 2048)
	k, err := conn.Read(buf)
	if err != nil {
		o.Verdict = verdictOf(err)
		return o
	}
	o.Verdict, o.Text = Answered, string(buf[:k])
	return o
}

// Ping sends an ICMP echo request in the address's family, as root over a raw
// socket, and waits for the reply.
func (n *Namespace) Ping(to string, within time.Duration) (o Outcome) {
	addr, err := netip.ParseAddr(to)
	if err != nil {
		return Outcome{Verdict: err.Error()}
	}
	network, kind := "ip4:icmp", byte(8)
	if addr.Is6() {
		network, kind = "ip6:ipv6-icmp", 128
	}
	message := []byte{kind, 0, 0, 0, 0x42, 0x42, 0, 1}
	if addr.Is4() {
		sum := checksum.Of(message)
		message[2], message[3] = byte(sum>>8), byte(sum)
	}
	conn, err := n.send(0, network, to, message)
	if err != nil {
		o.Verdict = verdictOf(err)
		return o
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, 2048)
	for {
		k, _, err := conn.(*net.IPConn).ReadFrom(buf) // without the IPv4 header
		if err != nil {
			o.Verdict = verdictOf(err)
			return o
		}
		if isEchoReply(buf[:k], addr.Is4()) {
			o.Verdict = Answered
			return o
		}
	}
}

func isEchoReply(b []byte, v4 bool) bool {
	const echoReply, echoReply6 = 0, 129
	if v4 {
		return len(b) > 0 && b[0] == echoReply
	}
	return len(b) > 0 && b[0] == echoReply6
}

// Listen opens a TCP listener in the namespace.
func (n *Namespace) Listen(uid int, addr string) (l net.Listener, err error) {
	err = n.As(uid, func() (err error) {
		l, err = net.Listen("tcp"+familyOf(addr), addr)
		return err
	})
	return l, err
}

// ListenPacket opens a UDP socket in the namespace.
func (n *Namespace) ListenPacket(uid int, addr string) (c net.PacketConn, err error) {
	err = n.As(uid, func() (err error) {
		c, err = net.ListenPacket("udp"+familyOf(addr), addr)
		return err
	})
	return c, err
}

// familyOf is the suffix by which package net keeps to the address's family.
func familyOf(addr string) string {
	if strings.HasPrefix(addr, "[") {
		return "6"
	}
	return "4"
}

// dialPorts connects as uid from the first free local port of a range, so that
// whoever captures the packets can tell whose they are.
func (n *Namespace) dialPorts(ctx context.Context, uid int, network, to string, ports PortRange) (conn net.Conn, err error) {
	for range ports.Last - ports.First + 1 {
		local := &net.TCPAddr{Port: ports.next()}
		err = n.As(uid, func() (err error) {
			d := net.Dialer{LocalAddr: local, Control: reuse}
			conn, err = d.DialContext(ctx, network, to)
			return err
		})
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return conn, err
		}
	}
	return nil, fmt.Errorf("no free port: %w", err)
}

func reuse(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	return errors.Join(err, failed)
}

// TCPFrom is TCP from a local port of the range.
func (n *Namespace) TCPFrom(uid int, to string, ports PortRange, within time.Duration) (o Outcome) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	conn, err := n.dialPorts(ctx, uid, "tcp", to, ports)
	if err != nil {
		o.Verdict = verdictOf(err)
		return o
	}
	defer conn.Close()
	o.Local, o.Remote = unmap(conn.LocalAddr().(*net.TCPAddr).AddrPort()), unmap(conn.RemoteAddr().(*net.TCPAddr).AddrPort())
	_ = conn.SetReadDeadline(time.Now().Add(within))
	text, _ := io.ReadAll(io.LimitReader(conn, 512))
	o.Verdict, o.Text = Connected, string(text)
	if len(text) > 0 {
		o.Verdict = Answered
	}
	return o
}
