// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"whonix-networking/pkg/socks5"
)

// answerTTL is for how many seconds a program may remember an answer; longer
// than that the table remembers it too, unless it overflows.
const answerTTL = 60

// responder answers questions for names.
type responder struct {
	names *names
	// reverse asks Tor for an address' name.
	reverse func(context.Context, netip.Addr) (string, error)
}

// answer returns the answer to a query, or nil where there is none to give.
// Whatever is not a question for an address or a name is not implemented: it
// could not be asked of Tor.
func (s *responder) answer(ctx context.Context, query []byte) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil || head.Response {
		return nil
	}
	reply := dnsmessage.Message{Header: dnsmessage.Header{
		ID: head.ID, Response: true, OpCode: head.OpCode, RecursionDesired: head.RecursionDesired, RecursionAvailable: true,
	}}
	questions, err := p.AllQuestions()
	switch {
	case err != nil || len(questions) != 1:
		reply.RCode = dnsmessage.RCodeFormatError
	case head.OpCode != 0 || questions[0].Class != dnsmessage.ClassINET:
		reply.RCode = dnsmessage.RCodeNotImplemented
		reply.Questions = questions
	default:
		reply.Questions = questions
		s.resolve(ctx, questions[0], &reply)
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil
	}
	return packed
}

func (s *responder) resolve(ctx context.Context, q dnsmessage.Question, reply *dnsmessage.Message) {
	switch q.Type {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		s.forward(q, reply)
	case dnsmessage.TypePTR:
		s.backward(ctx, q, reply)
	default:
		reply.RCode = dnsmessage.RCodeNotImplemented
	}
}

// forward answers with an address that stands for the name. No name has an
// IPv6 address: Tor chooses the family when it connects.
func (s *responder) forward(q dnsmessage.Question, reply *dnsmessage.Message) {
	var body dnsmessage.ResourceBody
	name, ok := cleanName(q.Name.String())
	switch local := isLocalhost(q.Name.String()); {
	case local && q.Type == dnsmessage.TypeA:
		body = &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}
	case local:
		body = &dnsmessage.AAAAResource{AAAA: netip.IPv6Loopback().As16()}
	case !ok:
		reply.RCode = dnsmessage.RCodeNameError
		return
	case q.Type == dnsmessage.TypeAAAA:
		return
	default:
		body = &dnsmessage.AResource{A: s.names.address(name).As4()}
	}
	reply.Answers = []dnsmessage.Resource{{Header: header(q), Body: body}}
}

func header(q dnsmessage.Question) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: answerTTL}
}

// backward answers with the name of an address.
func (s *responder) backward(ctx context.Context, q dnsmessage.Question, reply *dnsmessage.Message) {
	addr, ok := reverseAddress(q.Name.String())
	if !ok {
		reply.RCode = dnsmessage.RCodeNameError
		return
	}
	name, err := s.nameOf(ctx, addr)
	var refused *socks5.Error
	switch {
	case errors.As(err, &refused), errors.Is(err, errNoName):
		reply.RCode = dnsmessage.RCodeNameError
		return
	case err != nil:
		reply.RCode = dnsmessage.RCodeServerFailure
		return
	}
	target, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		reply.RCode = dnsmessage.RCodeServerFailure
		return
	}
	reply.Answers = []dnsmessage.Resource{{Header: header(q), Body: &dnsmessage.PTRResource{PTR: target}}}
}

var errNoName = errors.New("the address has no name")

// nameOf is an address' name: what it stands for, or what Tor says.
func (s *responder) nameOf(ctx context.Context, addr netip.Addr) (string, error) {
	own4, own6 := ownAddresses()
	switch {
	case addr.IsLoopback():
		return "localhost", nil
	case addr == own4, addr == own6:
		return "", errNoName
	case inPool(addr):
		name, ok := s.names.name(addr)
		if !ok {
			return "", errNoName
		}
		return name, nil
	}
	return s.reverse(ctx, addr)
}

// reverseAddress reads the address out of a name below in-addr.arpa or
// ip6.arpa, RFC 1035 and RFC 3596.
func reverseAddress(question string) (netip.Addr, bool) {
	const octets, nibbles = 4, 32
	name := strings.ToLower(question)
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		labels := strings.Split(rest, ".")
		if len(labels) != octets {
			return netip.Addr{}, false
		}
		var b [octets]byte
		for i, l := range labels {
			n, err := strconv.ParseUint(l, 10, 8)
			if err != nil || strconv.FormatUint(n, 10) != l {
				return netip.Addr{}, false
			}
			b[octets-1-i] = byte(n)
		}
		return netip.AddrFrom4(b), true
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	labels := strings.Split(rest, ".")
	if !ok || len(labels) != nibbles {
		return netip.Addr{}, false
	}
	var b [nibbles / 2]byte
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 16, 4)
		if err != nil || len(l) != 1 {
			return netip.Addr{}, false
		}
		at := nibbles - 1 - i
		b[at/2] |= byte(n) << (4 * (1 - at%2))
	}
	return netip.AddrFrom16(b).Unmap(), true
}
