// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"slices"
	"strings"

	"whonix-networking/pkg/torctl"
)

// setEvents replaces the client's subscriptions. Tor gets the whole set at once,
// and only if it changes (defect 8).
func (s *session) setEvents(c torctl.Command) error {
	rules := map[string]EventRule{}
	var wanted, denied []string
	for name := range strings.FieldsSeq(c.Arguments) {
		name = upperASCII(name)
		rule, ok := s.filter.Event(name)
		switch {
		case s.p.o.complain:
			rule.Suppress = false
		case !ok:
			denied = append(denied, name)
			continue
		}
		s.logSubscription(name, rule)
		if _, twice := rules[name]; !twice && !rule.Suppress {
			wanted = append(wanted, name)
			rules[name] = rule
		}
	}
	if len(denied) > 0 {
		typed := c.Name + c.Separator + c.Arguments
		return s.refuse(typed, torctl.Command{Name: "SETEVENTS", Separator: " ", Arguments: strings.Join(denied, " ")})
	}
	slices.Sort(wanted)
	s.logUnsubscribed(rules)
	s.mu.Lock()
	same := slices.Equal(wanted, s.wanted)
	s.mu.Unlock()
	if same {
		return s.answer(okReply)
	}
	line := strings.TrimSpace("SETEVENTS " + strings.Join(wanted, " "))
	return s.ask(line, func(m torctl.Message) {
		if m.OK() {
			s.mu.Lock()
			s.wanted, s.rules = wanted, rules
			s.mu.Unlock()
		}
		s.deliver(m, Decision{})
	})
}

// subscribed is what Tor has to be asked for after a loss.
func (s *session) subscribed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted
}

func (s *session) logSubscription(name string, rule EventRule) {
	if !s.p.o.debug {
		return
	}
	name = loggable(name)
	switch {
	case rule.Suppress:
		s.say("suppressed subscription to event '" + name + "'")
	case slices.Contains(s.subscribed(), name):
		s.say("already subscribed to event '" + name + "'")
	default:
		s.say("subscribed to event '" + name + "'")
	}
}

func (s *session) logUnsubscribed(rules map[string]EventRule) {
	if !s.p.o.debug {
		return
	}
	for _, name := range s.subscribed() {
		if _, ok := rules[name]; !ok {
			s.say("unsubscribed from event '" + loggable(name) + "'")
		}
	}
}

// event delivers an event of Tor's, as far as the client may see it.
func (s *session) event(m torctl.Message) error {
	const code = 4 // and divider
	line, _, _ := strings.Cut(string(m.Raw), "\r\n")
	name, _, _ := strings.Cut(line[code:], " ")
	s.mu.Lock()
	rule, ok := s.rules[name]
	s.mu.Unlock()
	if !ok {
		return nil // an event that nobody asked for
	}
	raw := m.Raw
	if (name == "STREAM" && s.restrictsStreams()) || (name == "CIRC" && s.restrictsCircuits()) {
		if raw = s.own(name, line, m); raw == nil {
			return nil
		}
		line, _, _ = strings.Cut(string(raw), "\r\n")
	}
	if rule.Rewrites() {
		text, verdict := rule.Rewrite(line, s.values)
		switch verdict {
		case Replaced:
			s.logRewrite("received event", string(raw), text)
			raw = []byte(text + "\r\n")
		case Malformed:
			s.say("error: an event was not passed, because its rule makes it into none: " + loggable(text))
			return nil
		case Dropped:
			s.logRewrite("received event", string(raw), "")
			return nil
		}
	}
	s.logReply(string(raw))
	_ = s.out.sendEvent(raw) // a client that is gone ends the session
	return nil
}

// own is what a client may see of streams and circuits: nil is nothing.
func (s *session) own(name, line string, m torctl.Message) []byte {
	e := torctl.ParseEvent(m)
	if name == "STREAM" {
		s.mu.Lock()
		mine := line[3] == ' ' && s.streams.stream(e)
		s.mu.Unlock()
		if mine {
			return m.Raw
		}
		if s.p.o.debug {
			s.say("dropped restricted stream event: " + loggable(line))
		}
		return nil
	}
	if text, ok := s.streams.circuit(e); ok && line[3] == ' ' {
		s.logRewrite("received event", line, text)
		return []byte(text + "\r\n")
	}
	if s.p.o.debug {
		s.say("dropped restricted circuit event: " + loggable(line))
	}
	return nil
}
