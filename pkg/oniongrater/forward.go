// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"errors"
	"strings"

	"whonix-networking/pkg/torctl"
)

// forward asks Tor what a rule allows.
func (s *session) forward(c torctl.Command, name string, d Decision, allowed bool) error {
	typed := c.Name + c.Separator + c.Arguments
	if !allowed {
		if !s.p.o.complain {
			return s.refuse(typed, c)
		}
		d = Decision{Arguments: strings.TrimRight(c.Arguments, " \t")}
	}
	out := outgoingLine(c, name, d)
	s.logRewrite("command", typed, out)
	problem := s.outgoing(name, out, d)
	if problem == "" {
		problem = s.overCap(name, out)
	}
	if problem != "" {
		s.warn(problem + ": " + loggable(out))
		s.p.counters.refused(name, redact(typed))
		return s.answer(filteredReply)
	}
	if name == "GETINFO" && s.restrictsCircuits() && d.Arguments == "circuit-status" {
		return s.circuitStatus(out, d)
	}
	made := false
	err := s.ask(out, func(m torctl.Message) {
		made = s.account(name, out, m)
		s.deliver(m, d)
	})
	if name == "ADD_ONION" && !made && !s.p.o.complain {
		s.p.caps.free(s.from, 1) // what was reserved for it
	}
	return err
}

// outgoingLine is what goes to Tor: as typed but for blanks at its end, or the
// command in upper case with the arguments that a rule has made.
func outgoingLine(c torctl.Command, name string, d Decision) string {
	if !d.Rewritten {
		name = c.Name
	}
	return strings.TrimRight(name+c.Separator+d.Arguments, " \t")
}

// outgoing is the last check of what goes to Tor; it names what is wrong.
func (s *session) outgoing(name, line string, d Decision) string {
	c, ok := torctl.Split([]byte(line))
	if !ok || len(line) > outgoingMax || strings.HasPrefix(line, "+") {
		return "refused to send a line that is not one command"
	}
	if s.p.o.complain {
		return ""
	}
	if name == "ADD_ONION" && s.remote && !d.AllowAnyTarget && foreignTarget(c.Arguments, s.values.ClientAddress) {
		return "onion service target refused"
	}
	if name != "GETINFO" {
		return ""
	}
	if s.restrictsStreams() && namesStatus(c.Arguments, "stream-status") ||
		s.restrictsCircuits() && c.Arguments != "circuit-status" && namesStatus(c.Arguments, "circuit-status") {
		return "refused what would show streams of others"
	}
	return ""
}

func (s *session) restrictsCircuits() bool { return s.filter.TorBrowserMode && !s.p.o.complain }

func (s *session) restrictsStreams() bool {
	return (s.filter.TorBrowserMode || s.filter.StreamsOnly) && !s.p.o.complain
}

// ask sends a line to Tor; deliver writes the reply. A loss of Tor that could
// not be overcome ends the session.
func (s *session) ask(line string, deliver func(torctl.Message)) error {
	err := s.link.do(s.ctx, line, deliver)
	if err != nil && s.ctx.Err() != nil {
		return errGone
	}
	return err
}

// account keeps the list of onion services that end with the connection to Tor, and
// the count of the address's. It tells whether a service was made.
func (s *session) account(name, line string, m torctl.Message) (made bool) {
	if name != "ADD_ONION" && name != "DEL_ONION" || !m.OK() {
		return false
	}
	c, _ := torctl.Split([]byte(line))
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "DEL_ONION" {
		s.deleted(strings.ToLower(strings.TrimSpace(c.Arguments)))
		return false
	}
	for l := range m.Lines() {
		id, ok := strings.CutPrefix(string(l.Text), "ServiceID=")
		switch {
		case !ok:
			continue
		case detached(c.Arguments):
			s.p.caps.detach(s.from, id)
		case s.services == nil:
			s.services = map[string]struct{}{id: {}}
		default:
			s.services[id] = struct{}{}
		}
		return true // a reply tells of one
	}
	return false
}

// deleted forgets an onion service.
func (s *session) deleted(id string) {
	if _, own := s.services[id]; !own {
		s.p.caps.deleted(id)
		return
	}
	delete(s.services, id)
	s.p.caps.free(s.from, 1)
}

// forgetServices gives back what has ended with the connection.
func (s *session) forgetServices() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.p.caps.free(s.from, len(s.services))
	s.services = nil
}

// detached tells whether a service outlives the connection that asks for it.
func detached(arguments string) bool {
	for word := range strings.FieldsSeq(arguments) {
		key, value, _ := strings.Cut(word, "=")
		if strings.EqualFold(key, "Flags") && strings.Contains(","+strings.ToLower(value)+",", ",detach,") {
			return true
		}
	}
	return false
}

// lost tells whether the session can go on after Tor has gone. A program whose
// onion services are gone has to know: they would be silently unreachable
// (defect 25).
func (s *session) lost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams.clear()
	if len(s.services) > 0 {
		return errServices
	}
	return nil
}

// circuitStatus answers with the circuits that carry the client's own streams.
func (s *session) circuitStatus(out string, d Decision) error {
	var circuits map[string]struct{}
	if err := s.ask("GETINFO stream-status", func(m torctl.Message) { circuits = s.streams.circuits(m) }); err != nil {
		return err
	}
	return s.ask(out, func(m torctl.Message) {
		if m.OK() {
			m = circuitStatus(m, circuits)
		}
		s.deliver(m, d)
	})
}

// deliver writes Tor's reply, as the rule changes it.
func (s *session) deliver(m torctl.Message, d Decision) {
	raw := m.Raw
	if d.Responds() {
		if s.holding.take(len(raw)) != nil {
			return // the session ends
		}
		defer func() { _ = s.holding.take(-len(m.Raw)) }()
		changed, err := rewriteReply(m, d, s.values)
		if err != nil {
			s.say("error: the reply was not passed: " + err.Error())
			changed = []byte(filteredReply)
		}
		s.logRewrite("response", string(raw), string(changed))
		raw = changed
	}
	s.logReply(string(raw))
	_ = s.out.sendReply(raw) // the client's goroutine asks why
}

// Why a reply is not passed.
var (
	errNoMatch  = errors.New("it is strict, and no response matches a line")
	errFraming  = errors.New("a response makes a status line into something else")
	errControls = errors.New("a response made a line end")
)

// rewriteReply applies the rule's responses to every line of a reply.
func rewriteReply(m torctl.Message, d Decision, values Values) ([]byte, error) {
	var out []byte
	for l := range m.Lines() {
		status := l.Code + string(l.Divider)
		text, matched := d.RewriteLine(status+string(l.Text), values)
		final := l.Divider == ' '
		switch {
		case d.Strict && !matched && !(final && l.Code == "250"):
			return nil, errNoMatch
		case strings.ContainsAny(text, "\r\n") && matched:
			return nil, errControls
		case text == "" && final:
			text = status
		case text == "":
			continue // with the data that it opens
		case !strings.HasPrefix(text, status) && !sameShape(text, l.Divider):
			return nil, errFraming
		}
		out = append(append(out, text...), "\r\n"...)
		if l.Divider != '+' {
			continue
		}
		var err error
		if out, err = rewriteData(out, string(l.Data), d, values); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sameShape reports three digits and the divider, and no event.
func sameShape(text string, divider byte) bool {
	const code = 3
	if len(text) <= code || text[code] != divider || strings.HasPrefix(text, "650") {
		return false
	}
	return strings.Trim(text[:code], "0123456789") == ""
}

// rewriteData applies the responses to a data block, and keeps it one.
func rewriteData(out []byte, data string, d Decision, values Values) ([]byte, error) {
	for line := range strings.Lines(data) {
		line = strings.TrimSuffix(line, "\r\n")
		text, matched := d.RewriteLine(line, values)
		switch {
		case d.Strict && !matched:
			return nil, errNoMatch
		case strings.ContainsAny(text, "\r\n") && matched:
			return nil, errControls
		case text == "" && matched:
			continue
		case strings.HasPrefix(text, ".") && !strings.HasPrefix(text, ".."):
			text = "." + text
		}
		out = append(append(out, text...), "\r\n"...)
	}
	return append(out, ".\r\n"...), nil
}
