// SPDX-License-Identifier: GPL-3.0-or-later

package netlab

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/armon/go-socks5"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// PortRange is a range of local ports that are used in turn.
type PortRange struct {
	First, Last uint16
	counter     *atomic.Uint32
}

// NewPortRange is the range from first to last.
func NewPortRange(first, last uint16) PortRange {
	return PortRange{First: first, Last: last, counter: new(atomic.Uint32)}
}

func (r PortRange) next() int {
	return int(r.First) + int((r.counter.Add(1)-1)%uint32(r.Last-r.First+1))
}

// Contains reports whether port is in the range.
func (r PortRange) Contains(port uint16) bool { return port >= r.First && port <= r.Last }

// StandIn behaves towards the network as the Gateway's Tor does: SocksPorts,
// HTTPTunnelPorts, a TransPort and a DnsPort, and connections of its own to wherever it was
// asked to go. Nothing is anonymous about it.
type StandIn struct {
	Namespace *Namespace
	UID       int       // the account Tor runs as
	Ports     PortRange // local ports of its connections
	// Answer is what every name resolves to.
	Answer4, Answer6 netip.Addr

	mu       sync.Mutex
	accepted map[netip.AddrPort]Accepted
	serving  map[net.Conn]bool // connections that Stop has to end
	closers  []io.Closer
	wg       sync.WaitGroup
	ctx      context.Context // of the stand-in's own connections
	cancel   context.CancelFunc
}

// Accepted is how a connection reached the stand-in.
type Accepted struct {
	Port uint16         // of the stand-in
	To   netip.AddrPort // where the client meant to go, for the TransPort
}

// StandInPorts are the ports of a stand-in, by kind.
type StandInPorts struct{ Socks, Tunnel, Trans, DNS []uint16 }

// Start opens the ports; where is each one's listening address without port.
func (s *StandIn) Start(where []string, ports StandInPorts) error {
	s.accepted, s.serving = map[netip.AddrPort]Accepted{}, map[net.Conn]bool{}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	server, err := socks5.New(&socks5.Config{
		Dial:   func(_ context.Context, network, to string) (net.Conn, error) { return s.dial(network, to) },
		Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		return err
	}
	for _, host := range where {
		for _, port := range ports.Tunnel {
			if err := s.serve(host, port, s.tunnel, s.clientOnly); err != nil {
				return err
			}
		}
		for _, port := range ports.Socks {
			if err := s.serve(host, port, func(c net.Conn) { _ = server.ServeConn(c) }, s.clientOnly); err != nil {
				return err
			}
		}
		for _, port := range ports.Trans {
			if err := s.serve(host, port, s.transparent, s.withDestination); err != nil {
				return err
			}
		}
		for _, port := range ports.DNS {
			if err := s.serveDNS(host, port); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *StandIn) serve(host string, port uint16, handle func(net.Conn), describe func(net.Conn, uint16) Accepted) error {
	l, err := s.Namespace.Listen(s.UID, net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return fmt.Errorf("stand-in Tor: %w", err)
	}
	s.closers = append(s.closers, l)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			s.begin(c, describe(c, port))
			go func() {
				defer s.end(c)
				handle(c)
			}()
		}
	}()
	return nil
}

func (s *StandIn) begin(c net.Conn, how Accepted) {
	s.wg.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted[unmap(c.RemoteAddr().(*net.TCPAddr).AddrPort())] = how
	s.serving[c] = true
	if s.ctx.Err() != nil {
		c.Close() // Stop has come in between, and will not see it
	}
}

func (s *StandIn) end(c net.Conn) {
	c.Close()
	s.mu.Lock()
	delete(s.serving, c)
	s.mu.Unlock()
	s.wg.Done()
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func (s *StandIn) clientOnly(_ net.Conn, port uint16) Accepted { return Accepted{Port: port} }

func (s *StandIn) withDestination(c net.Conn, port uint16) Accepted {
	to, _ := originalDestination(c.(*net.TCPConn))
	return Accepted{Port: port, To: to}
}

// Reached tells how the connection from a client's address came in.
func (s *StandIn) Reached(client netip.AddrPort) (Accepted, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.accepted[unmap(client)]
	return a, ok
}

func (s *StandIn) dial(network, to string) (net.Conn, error) {
	const limit = 10 * time.Second
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	return s.Namespace.dialPorts(ctx, s.UID, network, to, s.Ports)
}

// transparent relays a redirected connection to where it was meant to go.
func (s *StandIn) transparent(c net.Conn) {
	to, err := originalDestination(c.(*net.TCPConn))
	if err != nil || to.Addr().IsPrivate() || to.Addr().IsLoopback() {
		return // as Tor, which refuses such destinations
	}
	s.relay(c, to.String())
}

// tunnel serves the request CONNECT, and no other.
func (s *StandIn) tunnel(c net.Conn) {
	const limit = 1 << 10
	request, err := http.ReadRequest(bufio.NewReader(io.LimitReader(c, limit)))
	if err != nil || request.Method != http.MethodConnect {
		return
	}
	if _, err := io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n"); err == nil {
		s.relay(c, request.Host)
	}
}

func (s *StandIn) relay(c net.Conn, to string) {
	out, err := s.dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(out, c)
		_ = out.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, out)
	c.Close()
	<-sent
}

// originalDestination is where a redirected connection was addressed to.
func originalDestination(c *net.TCPConn) (to netip.AddrPort, err error) {
	const originalDst = 80 // SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST
	raw, err := c.SyscallConn()
	if err != nil {
		return to, err
	}
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	ctlErr := raw.Control(func(fd uintptr) {
		if local.Addr().Unmap().Is4() {
			var m *unix.IPv6Mreq // 20 bytes, enough for a sockaddr_in
			m, err = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, originalDst)
			if err == nil {
				to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Multiaddr[4:8])), binary.BigEndian.Uint16(m.Multiaddr[2:4]))
			}
			return
		}
		var m *unix.IPv6MTUInfo // begins with a sockaddr_in6
		m, err = unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, originalDst)
		if err == nil {
			port := binary.NativeEndian.AppendUint16(nil, m.Addr.Port)
			to = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port))
		}
	})
	return to, errors.Join(ctlErr, err)
}

func (s *StandIn) serveDNS(host string, port uint16) error {
	pc, err := s.Namespace.ListenPacket(s.UID, net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return fmt.Errorf("stand-in Tor: %w", err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(s.resolve)}
	s.closers = append(s.closers, pc)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		_ = server.ActivateAndServe() // ends when the socket is closed
	}()
	return nil
}

func (s *StandIn) resolve(w dns.ResponseWriter, q *dns.Msg) {
	const ttl = 60
	m := new(dns.Msg).SetReply(q)
	for _, question := range q.Question {
		h := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: ttl}
		switch question.Qtype {
		case dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: s.Answer4.AsSlice()})
		case dns.TypeAAAA:
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: s.Answer6.AsSlice()})
		}
	}
	_ = w.WriteMsg(m)
}

// Stop closes the ports and waits until nothing of the stand-in runs.
func (s *StandIn) Stop() {
	for _, c := range s.closers {
		c.Close()
	}
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Lock()
	for c := range s.serving {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	s.closers = nil
}

// Query is a DNS question for name, ready to be sent, always the same bytes.
func Query(name string) []byte {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	m.Id = 0x4242
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}
