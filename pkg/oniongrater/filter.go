// SPDX-License-Identifier: GPL-3.0-or-later

// Package oniongrater decides what a Workstation may ask the Gateway's Tor:
// filters made from profiles, the merger that unites the profiles, and the
// tools that enable them.
package oniongrater

import (
	"slices"
	"strings"
)

// Values are what the named fields of a replacement stand for. An IPv6 address
// is in brackets, because it is put before a colon and a port.
type Values struct {
	ClientAddress, ClientPort string // the peer
	ServerAddress, ServerPort string // where it connected to
}

// Filter is one compiled filter. It is immutable, and safe for concurrent use.
// The empty Filter allows nothing.
type Filter struct {
	Name string // for logs: the file less `.yml`, or `file/name` if the file holds several

	// Hosts are addresses of clients elsewhere; Programs (AppArmor profile, or
	// executable if unconfined) and Users are of clients on this machine. `*`
	// is any; an empty list matches nobody.
	Hosts, Users, Programs []string

	TorBrowserMode bool // streams and circuits of the client's own address only
	StreamsOnly    bool // the STREAM half of it
	Combine        bool // may be united with the other filters that match

	OnionServices limit // of one address
	NewNyms       limit // in a minute

	commands map[string]*command  // by upper-case name
	confs    map[string]*conf     // by lower-case name
	events   map[string]EventRule // by upper-case name
}

// command is what one command may be called with.
type command struct {
	rules    []rule
	disabled bool // a rule of it is bad: none counts, lest a wider one take its place
}

// rule allows a command with the arguments that match.
type rule struct {
	where          string // file:line
	pattern        *pattern
	replacement    *format
	response       []rewrite
	reply          []*format
	strict         bool
	allowAnyTarget bool
}

// rewrite replaces a line of a reply, or an event.
type rewrite struct {
	pattern     *pattern
	replacement *format
}

// Decision is how an allowed command is treated.
type Decision struct {
	Where string // file and line of what allows it
	// Arguments go to Tor after the separator. Rewritten tells that they are not
	// the client's own, and that the command's name goes in upper case.
	Arguments      string
	Rewritten      bool
	AllowAnyTarget bool     // no guard over the targets of onion services
	Reply          []string // answered without asking Tor, if not nil
	Strict         bool     // a line of the reply that no response matches is not passed

	response []rewrite
}

// Match decides one command. The name is in upper case, the arguments are as
// typed, without the separator before them. Other bytes than printable ASCII
// are never allowed: `.` and \S match some at which Tor splits or ends a line
// (defect 2).
func (f *Filter) Match(name, arguments string, values Values) (Decision, bool) {
	for i := range len(arguments) {
		if arguments[i] < ' ' || arguments[i] > '~' {
			return Decision{}, false
		}
	}
	if c := f.commands[name]; c != nil {
		if c.disabled {
			return Decision{}, false
		}
		for i := range c.rules {
			if groups := c.rules[i].pattern.match(arguments); groups != nil {
				return c.rules[i].decide(arguments, groups, values), true
			}
		}
	}
	switch name {
	case "GETCONF":
		return f.getConf(arguments)
	case "SETCONF":
		return f.setConf(arguments)
	}
	return Decision{}, false
}

func (r *rule) decide(arguments string, groups []string, values Values) Decision {
	d := Decision{
		Where: r.where, Arguments: strings.TrimRight(arguments, " \t"),
		AllowAnyTarget: r.allowAnyTarget, Strict: r.strict, response: r.response,
	}
	if r.replacement != nil {
		d.Arguments, d.Rewritten = r.replacement.expand(groups, values), true
	}
	for _, line := range r.reply {
		d.Reply = append(d.Reply, line.expand(groups, values))
	}
	return d
}

// Responds tells whether lines of the reply have to go through RewriteLine.
func (d Decision) Responds() bool { return len(d.response) > 0 || d.Strict }

// RewriteLine applies the rule's responses to one line of Tor's reply, without
// its line end: the first pattern that matches gives the text. Without a match
// the line is as it was.
func (d Decision) RewriteLine(line string, values Values) (text string, matched bool) {
	return rewriteFirst(d.response, line, values)
}

func rewriteFirst(list []rewrite, line string, values Values) (string, bool) {
	for _, r := range list {
		if groups := r.pattern.match(line); groups != nil {
			return r.replacement.expand(groups, values), true
		}
	}
	return line, false
}

// EventRule is how an allowed event is treated.
type EventRule struct {
	Where    string // file and line of what allows it
	Suppress bool   // acknowledged and never delivered
	Strict   bool   // delivered only if a response matches

	response []rewrite
}

// Event tells how the event, named in upper case, is treated, and whether it
// is allowed at all.
func (f *Filter) Event(name string) (EventRule, bool) {
	e, ok := f.events[name]
	return e, ok
}

// Events are the names of the allowed events, sorted.
func (f *Filter) Events() []string { return sortedKeys(f.events) }

// Verdict is what becomes of an event.
type Verdict int

// The verdicts.
const (
	Unchanged Verdict = iota // delivered as it came, all lines of it
	Replaced                 // one line is delivered in its place
	Dropped                  // nothing is delivered, as the rule says
	Malformed                // nothing is delivered: what the rule makes of it is no event
)

// Rewrite decides about an event of which line is the first line, without its
// line end. The divider after the code is taken as a blank, so that a pattern
// for `650 NAME …` also holds for an event of several lines (defect 4).
func (e EventRule) Rewrite(line string, values Values) (text string, verdict Verdict) {
	const divider = 3 // after the code
	if len(line) > divider && (line[divider] == '-' || line[divider] == '+') {
		line = line[:divider] + " " + line[divider+1:]
	}
	text, matched := rewriteFirst(e.response, line, values)
	switch {
	case !matched && e.Strict, matched && text == "":
		return "", Dropped
	case !matched:
		return "", Unchanged
	case !strings.HasPrefix(text, "650 "):
		// One line cannot begin or continue an event of several (defect 39).
		return text, Malformed
	}
	return text, Replaced
}

// Rewrites tells whether events have to go through Rewrite.
func (e EventRule) Rewrites() bool { return len(e.response) > 0 || e.Strict }

// Unite makes one filter of several that match the same client: all but at
// most one of them have to agree to it by `combine: true`. Rules keep the order
// of the filters. What is disabled or restricted in one is so in the whole.
func Unite(filters []*Filter) (*Filter, bool) {
	if len(filters) == 1 {
		return filters[0], true
	}
	alone := 0
	var names []string
	u := &Filter{commands: map[string]*command{}, confs: map[string]*conf{}, events: map[string]EventRule{}}
	for _, f := range filters {
		if !f.Combine {
			alone++
		}
		names = append(names, f.Name)
		u.TorBrowserMode = u.TorBrowserMode || f.TorBrowserMode
		u.StreamsOnly = u.StreamsOnly || f.StreamsOnly
		u.OnionServices = u.OnionServices.and(f.OnionServices)
		u.NewNyms = u.NewNyms.and(f.NewNyms)
		u.take(f)
	}
	u.Name = strings.Join(names, "+")
	return u, alone <= 1 && len(filters) > 0
}

// take adds f's rules after those that are there.
func (f *Filter) take(from *Filter) {
	for name, c := range from.commands {
		have := f.commands[name]
		if have == nil {
			have = &command{}
			f.commands[name] = have
		}
		have.rules = append(have.rules, c.rules...)
		have.disabled = have.disabled || c.disabled
	}
	for name, c := range from.confs {
		have := f.confs[name]
		if have == nil {
			have = &conf{where: c.where}
			f.confs[name] = have
		}
		have.values = append(have.values, c.values...)
		have.reset = have.reset || c.reset
		have.disabled = have.disabled || c.disabled
	}
	for name, e := range from.events {
		have, ok := f.events[name]
		if !ok {
			f.events[name] = e
			continue
		}
		have.Suppress = have.Suppress || e.Suppress
		have.Strict = have.Strict || e.Strict
		have.response = slices.Concat(have.response, e.response)
		f.events[name] = have
	}
}
