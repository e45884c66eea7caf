// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// Limits of the responder.
const (
	datagramMax   = 4096
	questionsMax  = 64               // answered at the same time, of those that take time
	questionLimit = 30 * time.Second // for one answer of Tor's
	dnsIdle       = 30 * time.Second // between questions of one TCP connection
)

// serveDatagrams answers queries that come by UDP until the socket is closed.
// Few take time, those for the names of real addresses; when there are too
// many of them, the next ones wait in the socket.
func (s *supervisor) serveDatagrams(conn *net.UDPConn) {
	busy := make(chan struct{}, questionsMax)
	query := make([]byte, datagramMax)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(query)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		busy <- struct{}{}
		question := append([]byte(nil), query[:n]...)
		s.goes.Add(1)
		go func() {
			defer s.goes.Done()
			s.reply(conn, from, question)
			<-busy
		}()
	}
}

func (s *supervisor) reply(conn *net.UDPConn, to netip.AddrPort, question []byte) {
	ctx, cancel := context.WithTimeout(s.ctx, questionLimit)
	defer cancel()
	if answer := s.responder.answer(ctx, question); answer != nil {
		_, _ = conn.WriteToUDPAddrPort(answer, to) // the asker may be gone
	}
}

// serveQueries answers queries that come by one TCP connection, each after its
// length, RFC 1035 section 4.2.2.
func (s *supervisor) serveQueries(conn *net.TCPConn) {
	for {
		_ = conn.SetDeadline(time.Now().Add(dnsIdle)) // fails on a closed connection only
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		answer := s.timely(query)
		if answer == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

func (s *supervisor) timely(query []byte) []byte {
	ctx, cancel := context.WithTimeout(s.ctx, questionLimit)
	defer cancel()
	return s.responder.answer(ctx, query)
}
