// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// targetName is what the questions are about.
const targetName = "scanme.nmap.org."

// question is one for a name server, and whether Tor can have answered it.
type question struct {
	name        string
	kind, class uint16
	carried     bool
}

func questions() []question {
	return []question{
		{targetName, dns.TypeA, dns.ClassINET, true},
		{targetName, dns.TypeAAAA, dns.ClassINET, true},
		{targetName, dns.TypeMX, dns.ClassINET, false},
		{targetName, dns.TypeTXT, dns.ClassINET, false},
		{"version.bind.", dns.TypeTXT, dns.ClassCHAOS, false},
	}
}

// dns asks the target as a name server. A DnsPort of Tor answers for any
// address, but only for names and addresses; to all other questions it says
// that it does not implement them. Another answer came past Tor.
func (a attempt) dns(ctx context.Context) (r Result, err error) {
	r = Result{Test: "dns_test", Target: a.target.String(), Reasons: map[string]int{}}
	begin := time.Now()
	const dnsPort = 53
	for _, q := range questions() {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.target, dnsPort)))
		if err != nil {
			if err := r.refuse(err); err != nil {
				return r, err
			}
			continue
		}
		defer conn.Close()
		if err := r.ask(ctx, &dns.Conn{Conn: conn}, q, a.wait); err != nil {
			return r, err
		}
	}
	if r.Refused == 0 {
		r.Reasons = nil
	}
	r.Seconds = time.Since(begin).Seconds()
	r.judge()
	return r, nil
}

// refuse counts what the machine did not let out.
func (r *Result) refuse(err error) error {
	if !refusal(err) {
		return err
	}
	r.Refused++
	var op *net.OpError
	if errors.As(err, &op) {
		err = errors.Unwrap(op.Err)
	}
	r.Reasons[fmt.Sprint(err)]++
	return nil
}

// ask asks one question, and waits for the answer.
func (r *Result) ask(ctx context.Context, c *dns.Conn, q question, wait time.Duration) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.kind)
	m.Question[0].Qclass = q.class
	if err := c.WriteMsg(m); err != nil {
		return r.refuse(err)
	}
	r.Sent++
	_ = c.SetReadDeadline(time.Now().Add(wait)) // closed: the read says so
	in, err := c.ReadMsg()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || in.Id != m.Id {
		return nil // none, an ICMP error, or somebody else's
	}
	what := fmt.Sprintf("%s %s: %s", dns.ClassToString[q.class], dns.TypeToString[q.kind], dns.RcodeToString[in.Rcode])
	r.note(what)
	r.Answered++
	if !q.carried && in.Rcode != dns.RcodeNotImplemented {
		r.leak("DNS " + what)
	}
	return nil
}
