// SPDX-License-Identifier: GPL-3.0-or-later

package tornet

import (
	"net"
	"strings"

	"github.com/miekg/dns"

	"whonix-networking/pkg/netlab"
)

// nameServer answers the exits.
type nameServer struct {
	server *dns.Server
	done   chan struct{}
}

// serveNames answers A for the given names, and that all others do not exist.
func serveNames(n *netlab.Namespace, names map[string]string) (*nameServer, error) {
	conn, err := n.ListenPacket(0, dnsIP+":53")
	if err != nil {
		return nil, err
	}
	answer := func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Rcode = dns.RcodeNameError
		for _, question := range q.Question {
			name := strings.ToLower(question.Name)
			ip, ok := names[strings.TrimSuffix(name, ".")]
			if name == steadyName+"." {
				ip, ok = dnsIP, true
			}
			if !ok {
				continue
			}
			m.Rcode = dns.RcodeSuccess
			if question.Qtype == dns.TypeA {
				const ttl = 60
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: net.ParseIP(ip)})
			}
		}
		_ = w.WriteMsg(m)
	}
	s := &nameServer{&dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(answer)}, make(chan struct{})}
	go func() {
		defer close(s.done)
		_ = s.server.ActivateAndServe()
	}()
	return s, nil
}

func (s *nameServer) stop() {
	_ = s.server.Shutdown()
	s.server.PacketConn.Close()
	<-s.done
}
