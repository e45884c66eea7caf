// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// compiler makes filters out of values, and gathers what is wrong with them.
type compiler struct {
	file     string
	filterID string // the filter it is at, for messages
	problems []Problem
	known    patterns
}

// patterns are those that were compiled before: profiles share many, and to
// compile them is most of the work.
type patterns map[string]*pattern

func (known patterns) compile(text string) (*pattern, error) {
	if p := known[text]; p != nil {
		return p, nil
	}
	p, err := compilePattern(text)
	if err == nil {
		known[text] = p
	}
	return p, err
}

func (c *compiler) warn(at *value, format string, args ...any) { c.report(at, true, format, args...) }
func (c *compiler) fail(at *value, format string, args ...any) { c.report(at, false, format, args...) }

func (c *compiler) report(at *value, warning bool, format string, args ...any) {
	text := fmt.Sprintf("filter %s: ", c.filterID) + fmt.Sprintf(format, args...)
	c.problems = append(c.problems, Problem{File: at.file, Line: at.line, Text: text, Warning: warning})
}

// filter compiles one element of a file. An error is for the whole file.
func (c *compiler) filter(v *value, name string) (*Filter, error) {
	c.filterID = name
	f := &Filter{Name: name, commands: map[string]*command{}, confs: map[string]*conf{}, events: map[string]EventRule{}}
	for _, p := range v.pairs {
		var err error
		switch p.key.text {
		case "name":
		case "hosts":
			f.Hosts, err = c.qualifier(p)
		case "users":
			f.Users, err = c.qualifier(p)
		case "apparmor-profiles", "exe-paths":
			var programs []string
			programs, err = c.qualifier(p)
			f.Programs = append(f.Programs, programs...)
		case "tor-browser-mode":
			f.TorBrowserMode = c.restriction(p)
		case "restrict-stream-events":
			f.StreamsOnly = c.restriction(p)
		case "combine":
			f.Combine = c.grant(p)
		case "onion-services":
			f.OnionServices = c.limit(p)
		case "newnym-per-minute":
			f.NewNyms = c.limit(p)
		case "commands":
			c.each(p, func(q pair) { c.command(f, q) })
		case "confs":
			c.each(p, func(q pair) { c.conf(f, q) })
		case "events":
			c.each(p, func(q pair) { c.event(f, q) })
		default:
			c.warn(p.key, "the key %s is not known and has no effect", p.key.text)
		}
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// qualifier is a list of words, or one word.
func (c *compiler) qualifier(p pair) ([]string, error) {
	items := []*value{p.value}
	if p.value.kind == list {
		items = p.value.items
	}
	var out []string
	for _, i := range items {
		if i.kind != str {
			return nil, &badYAML{line: i.line, reason: fmt.Sprintf("%s has to be a list of strings, not %s; use '*' for any, or leave the key out for none", p.key.text, i.kind)}
		}
		out = append(out, i.text)
	}
	return out, nil
}

// truthy tells whether a switch that takes something away is on: whatever is
// not false counts as true, as in the original.
func truthy(v *value) bool {
	switch v.kind {
	case null:
		return false
	case boolean:
		return v.yes()
	case str:
		return v.text != ""
	case list:
		return len(v.items) > 0
	case mapping:
		return len(v.pairs) > 0
	}
	return v.text != "0"
}

// restriction reads such a switch.
func (c *compiler) restriction(p pair) bool {
	on := truthy(p.value)
	if on && p.value.kind != boolean {
		c.warn(p.value, "%s is %s and counts as true; write true or false", p.key.text, p.value.kind)
	}
	return on
}

// grant is a switch that allows something: only true is true.
func (c *compiler) grant(p pair) bool {
	if p.value.kind != boolean {
		c.warn(p.value, "%s is %s and counts as false; write true or false", p.key.text, p.value.kind)
	}
	return p.value.yes()
}

// limit is a whole number. In the place of anything else nothing is allowed.
func (c *compiler) limit(p pair) limit {
	if p.value.kind == null {
		return limit{}
	}
	const most = 10_000
	n, err := strconv.Atoi(p.value.text)
	if p.value.kind != other || err != nil || n < 0 || n > most {
		c.fail(p.value, "%s has to be a number from 0 to %d; it counts as 0", p.key.text, most)
		n = 0
	}
	return limit{set: true, n: n}
}

// each goes through a mapping. In its place nothing is allowed, and anything
// else is an error after which nothing of it is.
func (c *compiler) each(p pair, do func(pair)) {
	switch p.value.kind {
	case mapping:
		for _, q := range p.value.pairs {
			do(q)
		}
	case null:
	default:
		c.fail(p.value, "%s has to be a mapping, not %s; nothing of it is allowed", p.key.text, p.value.kind)
	}
}

// command compiles the rules of one command. Of names that differ in case only
// the last counts, whole.
func (c *compiler) command(f *Filter, p pair) {
	name := strings.ToUpper(p.key.text)
	if f.commands[name] != nil {
		c.warn(p.key, "the command %s is there twice; only this one counts", name)
	}
	cmd := &command{}
	f.commands[name] = cmd
	if strings.HasPrefix(name, "+") {
		c.fail(p.key, "command %s: data commands cannot be allowed; remove it", name)
		cmd.disabled = true
		return
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.fail(p.key, "command %q: this is no name of a command", name)
		cmd.disabled = true
		return
	}
	if slices.Contains(builtIn(), name) {
		hint := "the proxy answers it itself"
		if name == "SETEVENTS" {
			hint = "list the events under events:"
		}
		c.warn(p.key, "rules for the command %s have no effect: %s", name, hint)
	}
	switch p.value.kind {
	case null:
		return
	case list:
	default:
		c.fail(p.value, "command %s: its rules have to be a list, not %s; the command is disabled; begin each rule with `- `", name, p.value.kind)
		cmd.disabled = true
		return
	}
	for i, item := range p.value.items {
		r, at, err := c.rule(item, name, i+1)
		if err != nil {
			c.fail(at, "command %s, rule %d: %s; the command is disabled", name, i+1, err)
			cmd.disabled = true
			continue
		}
		cmd.rules = append(cmd.rules, r)
	}
}

// rule compiles one rule; at is where the fault is, if there is one.
func (c *compiler) rule(v *value, command string, number int) (r rule, at *value, err error) {
	r.where = v.where()
	if v.kind == str {
		r.pattern, err = c.known.compile(v.text)
		c.broad(v, command, number, r.pattern)
		return r, v, err
	}
	if v.kind != mapping {
		return r, v, fmt.Errorf("a rule has to be a string or a mapping, not %s; put it into quotes", v.kind)
	}
	if r.pattern, at, err = c.patternOf(v); err != nil {
		return r, at, err
	}
	c.broad(at, command, number, r.pattern)
	for _, p := range v.pairs {
		at = p.value
		switch p.key.text {
		case "pattern":
		case "replacement":
			r.replacement, err = replacementOf(p.value, r.pattern)
		case "response":
			r.response, at, err = c.response(p.value)
		case "reply":
			r.reply, at, err = replyOf(p.value, r.pattern)
		case "strict":
			r.strict = c.restriction(p)
		case "allow-any-target":
			r.allowAnyTarget = c.grant(p)
		default:
			c.warn(p.key, "command %s, rule %d: the key %s is not known and has no effect", command, number, p.key.text)
		}
		if err != nil {
			return r, at, fmt.Errorf("%s: %w", p.key.text, err)
		}
	}
	if r.reply != nil && (r.replacement != nil || r.response != nil) {
		return r, v, errors.New("a rule with reply: is not sent to Tor; remove its replacement and response")
	}
	return r, v, nil
}

// broad warns of patterns that let further arguments through, where these could
// do harm.
func (c *compiler) broad(at *value, command string, number int, p *pattern) {
	if p == nil || p.greedy == "" {
		return
	}
	if slices.Contains([]string{"SETCONF", "ADD_ONION", "RESETCONF", "LOADCONF", "MAPADDRESS", "EXTENDCIRCUIT"}, command) {
		c.warn(at, `command %s, rule %d: %s matches blanks too, and with them any further arguments; write \S+ if one word is meant`, command, number, p.greedy)
	}
}

// patternOf compiles the pattern of a rule or of a response.
func (c *compiler) patternOf(v *value) (*pattern, *value, error) {
	text := v.get("pattern")
	if text == nil {
		return nil, v, errors.New("there is no pattern; '' stands for no arguments")
	}
	if text.kind != str {
		return nil, text, fmt.Errorf("the pattern has to be a string, not %s; put it into quotes", text.kind)
	}
	p, err := c.known.compile(text.text)
	return p, text, err
}

func replacementOf(v *value, p *pattern) (*format, error) {
	if v.kind != str {
		return nil, fmt.Errorf("it has to be a string, not %s; put it into quotes", v.kind)
	}
	return compileFormat(v.text, p.groups)
}

// response compiles what rewrites replies or events.
func (c *compiler) response(v *value) (out []rewrite, at *value, err error) {
	if v.kind == null {
		return nil, v, nil
	}
	if v.kind != list {
		return nil, v, fmt.Errorf("it has to be a list, not %s; begin each entry with `- `", v.kind)
	}
	for i, item := range v.items {
		if item.kind != mapping {
			return nil, item, fmt.Errorf("entry %d has to be a mapping with pattern and replacement, not %s", i+1, item.kind)
		}
		p, at, err := c.patternOf(item)
		if err != nil {
			return nil, at, fmt.Errorf("entry %d: %w", i+1, err)
		}
		text := item.get("replacement")
		if text == nil {
			return nil, item, fmt.Errorf("entry %d: there is no replacement; '' stands for nothing", i+1)
		}
		f, err := replacementOf(text, p)
		if err != nil {
			return nil, text, fmt.Errorf("entry %d: replacement: %w", i+1, err)
		}
		for _, q := range item.pairs {
			if q.key.text != "pattern" && q.key.text != "replacement" {
				c.warn(q.key, "response, entry %d: the key %s is not known and has no effect", i+1, q.key.text)
			}
		}
		out = append(out, rewrite{p, f})
	}
	return out, v, nil
}

// replyOf compiles the lines of a local answer: all but the last continue.
func replyOf(v *value, p *pattern) (out []*format, at *value, err error) {
	items := []*value{v}
	if v.kind == list {
		items = v.items
	}
	if len(items) == 0 {
		return nil, v, errors.New("there is no line in it; the shortest reply is '250 OK'")
	}
	for i, item := range items {
		f, err := replacementOf(item, p)
		if err != nil {
			return nil, item, err
		}
		want := byte('-')
		if i == len(items)-1 {
			want = ' '
		}
		const code = 3
		if len(item.text) <= code || strings.Trim(item.text[:code], "0123456789") != "" || item.text[code] != want {
			return nil, item, fmt.Errorf("line %d has to begin with three digits and %q", i+1, want)
		}
		out = append(out, f)
	}
	return out, v, nil
}

// conf compiles the values that an option may be set to.
func (c *compiler) conf(f *Filter, p pair) {
	name := strings.ToLower(p.key.text)
	if f.confs[name] != nil {
		c.warn(p.key, "the option %s is there twice; only this one counts", p.key.text)
	}
	o := &conf{where: p.key.where()}
	f.confs[name] = o
	if name == "" || nameLength(name) != len(name) {
		c.fail(p.key, "conf %q: this is no name of an option; there are letters, digits and _ only", p.key.text)
		o.disabled = true
		return
	}
	items := []*value{p.value}
	switch p.value.kind {
	case null:
		return
	case list:
		items = p.value.items
	}
	for i, item := range items {
		err := fmt.Errorf("it has to be a string, not %s; put it into quotes", item.kind)
		var pat *pattern
		if item.kind == str {
			pat, err = c.known.compile(item.text)
		}
		if err != nil {
			c.fail(item, "conf %s, rule %d: %s; the option is disabled", p.key.text, i+1, err)
			o.disabled = true
			continue
		}
		o.reset = o.reset || item.text == ""
		o.values = append(o.values, pat)
	}
}

// event compiles how an event is treated. A bad one is not allowed at all.
func (c *compiler) event(f *Filter, p pair) {
	name := strings.ToUpper(p.key.text)
	if _, twice := f.events[name]; twice {
		c.warn(p.key, "the event %s is there twice; only this one counts", name)
		delete(f.events, name)
	}
	if name == "" || nameLength(name) != len(name) {
		c.fail(p.key, "event %q: this is no name of an event", p.key.text)
		return
	}
	e := EventRule{Where: p.key.where()}
	switch p.value.kind {
	case null:
	case mapping:
		for _, q := range p.value.pairs {
			switch q.key.text {
			case "suppress":
				e.Suppress = c.restriction(q)
			case "strict":
				e.Strict = c.restriction(q)
			case "response":
				response, at, err := c.response(q.value)
				if err != nil {
					c.fail(at, "event %s: response: %s; the event is disabled", name, err)
					return
				}
				e.response = response
			default:
				c.warn(q.key, "event %s: the key %s is not known and has no effect", name, q.key.text)
			}
		}
	default:
		c.fail(p.value, "event %s: its options have to be a mapping, not %s; the event is disabled", name, p.value.kind)
		return
	}
	f.events[name] = e
}
