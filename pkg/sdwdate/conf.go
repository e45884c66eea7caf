// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

const poolCount = 3

// defaultRatio and defaultSlew are for configurations that do not say.
const (
	defaultRatio = 0.34
	defaultSlew  = 50000
)

// conf is what the fragments say.
type conf struct {
	ProxyIP         netip.Addr // not valid: by the machine's role
	ProxyPort       uint16     // 0: by the machine's role
	MaxFailureRatio float64
	Randomize       bool
	Preparation     string // auto, script, native
	Consensus       string // require, prefer, off
	MaxSlewPPM      int
	AllowNonOnion   bool
	Method          string // auto, HEAD, GET
	UserAgent       string
	AnondateTorCert bool
	Pools           [poolCount][]source
}

// Notice is a complaint about a place in the configuration.
type Notice struct {
	File string
	Line int // 0: the whole file
	Text string
}

// String is `FILE:LINE: TEXT`.
func (n Notice) String() string {
	if n.Line == 0 {
		return n.File + ": " + n.Text
	}
	return fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Text)
}

// fragment is one file of the configuration.
type fragment struct {
	Path string
	Data []byte
}

func defaultConf() conf {
	return conf{MaxFailureRatio: defaultRatio, MaxSlewPPM: defaultSlew, Preparation: "auto", Consensus: "require", Method: "auto", AnondateTorCert: true}
}

// parseConf reads the fragments in order. What cannot be used is left out with
// a Notice, one for each place (D23).
func parseConf(fragments []fragment) (conf, []Notice) {
	p := parser{c: defaultConf(), seen: map[string]Notice{}}
	for _, f := range fragments {
		p.fragment(f)
	}
	p.finish()
	return p.c, p.notices
}

// parser goes through the lines.
type parser struct {
	c       conf
	notices []Notice
	seen    map[string]Notice // where a URL was first
	raw     [poolCount + 1][]entry
	at      Notice // the current place
	said    int    // notices of the current file
	pool    int    // that is open; closed is none
	group   int    // that is open, or 0
	groups  int    // so far
	opened  int    // the line on which the pool was
}

// entry is a source with what is needed to judge it at the end, when all
// settings are known.
type entry struct {
	source
	target target
}

const closed = -1

// noticesMax bounds the complaints about one file.
const noticesMax = 50

func (p *parser) say(format string, args ...any) {
	switch p.said++; {
	case p.said < noticesMax:
		n := p.at
		n.Text = fmt.Sprintf(format, args...)
		p.notices = append(p.notices, n)
	case p.said == noticesMax:
		p.notices = append(p.notices, Notice{File: p.at.File, Text: "further complaints about this file are left out"})
	}
}

func (p *parser) fragment(f fragment) {
	p.at, p.said, p.pool, p.group = Notice{File: f.Path}, 0, closed, 0
	if !utf8.Valid(f.Data) {
		p.say("not UTF-8 text: this file is left out")
		return
	}
	begin := p.lengths()
	for text := range strings.Lines(string(f.Data)) {
		p.at.Line++
		p.line(strings.TrimRight(text, "\r\n"), begin)
	}
	p.close("the pool that begins here is not closed by `)`", p.opened)
}

func (p *parser) lengths() (n [poolCount + 1]int) {
	for i := range p.raw {
		n[i] = len(p.raw[i])
	}
	return n
}

// close ends a pool that no `)` has ended.
func (p *parser) close(complaint string, line int) {
	if p.pool != closed {
		p.at.Line = line
		p.say("%s", complaint)
	}
	p.pool, p.group = closed, 0
}

func (p *parser) line(text string, begin [poolCount + 1]int) {
	trimmed := strings.TrimSpace(text)
	if pool, rest, ok := cutMarker(trimmed); ok {
		now := p.at.Line
		p.close("the pool that begins here is not closed by `)`", p.opened)
		p.at.Line = now
		p.pool, p.opened = pool, now
		p.entries(rest)
		return
	}
	key, value, isKey := cutKey(text)
	switch {
	case isKey && p.pool != closed:
		now := p.at.Line
		p.close("the pool that begins here is not closed by `)`", p.opened)
		p.at.Line = now
		p.scalar(key, value, begin)
	case isKey:
		p.scalar(key, value, begin)
	case p.pool != closed:
		p.entries(trimmed)
	case strings.HasPrefix(trimmed, `"`):
		p.say("an entry outside of a pool")
	}
}

// cutMarker recognises the begin of a pool and returns what follows its `(`.
func cutMarker(text string) (pool int, rest string, ok bool) {
	name, ok := strings.CutPrefix(text, "SDWDATE_POOL_")
	if !ok {
		return 0, "", false
	}
	for i, number := range []string{"ZERO", "ONE", "TWO", "THREE"} {
		if rest, ok := strings.CutPrefix(name, number); ok {
			rest = strings.TrimLeft(rest, " \t+")
			if rest, ok = strings.CutPrefix(rest, "="); ok {
				return i, strings.TrimPrefix(strings.TrimLeft(rest, " \t"), "("), true
			}
		}
	}
	return 0, "", false
}

// cutKey recognises `KEY=VALUE` at the begin of a line.
func cutKey(text string) (key, value string, ok bool) {
	key, value, _ = strings.Cut(text, "=")
	if key = strings.TrimRight(key, " \t"); key == "" || strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return "", "", false
	}
	return key, value, true
}

// entries reads a line of a pool: quoted entries, brackets around groups, `)`,
// comments; anything else is left alone, as ever.
func (p *parser) entries(text string) {
	for text = strings.TrimLeft(text, " \t"); text != ""; text = strings.TrimLeft(text, " \t") {
		c := text[0]
		text = text[1:]
		switch c {
		case '#':
			return
		case ')':
			if p.group != 0 {
				p.say("the group is not closed by `]`")
			}
			p.pool, p.group = closed, 0
			if rest := strings.TrimSpace(text); rest != "" && rest[0] != '#' {
				p.say("what follows `)` is left out")
			}
			return
		case '[':
			if p.group != 0 {
				p.say("a group within a group: its entries belong to the outer one")
				continue
			}
			p.groups++
			p.group = p.groups
		case ']':
			p.group = 0
		case '"':
			content, rest, ok := strings.Cut(text, `"`)
			if !ok {
				p.say("an entry without its closing quote is left out")
				return
			}
			if !p.entry(content) {
				return
			}
			text = rest
		default:
			return
		}
	}
}

// poolMax bounds what one pool may hold.
const poolMax = 1000

func (p *parser) entry(content string) bool {
	s, t, err := parseEntry(content)
	if err != nil {
		p.say("%s: %v: this entry is left out", strconv.Quote(short(content)), err)
		return false
	}
	if len(p.raw[p.pool]) == poolMax {
		p.say("more than %d entries in a pool: this one is left out", poolMax)
		return false
	}
	s.Group, s.Where = p.group, p.at
	p.raw[p.pool] = append(p.raw[p.pool], entry{s, t})
	return true
}

// short is text for a message.
func short(text string) string {
	const most = 100
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// scalar takes one setting, or leaves the earlier value and says why.
func (p *parser) scalar(key, value string, begin [poolCount + 1]int) {
	value, err := cleanValue(value)
	if err == nil {
		if key == "SDWDATE_POOLS_RESET" {
			var reset bool
			if reset, err = parseBool(value); reset {
				for i := range p.raw {
					p.raw[i] = p.raw[i][begin[i]:]
				}
			}
		} else {
			err = p.c.set(key, value)
		}
	}
	if err != nil {
		p.say("%s: %v: this line is left out", key, err)
	}
}

// finish gives the pools their entries: names of 2020, doubles, hosts that are
// no onion services.
func (p *parser) finish() {
	raw := p.raw
	if zero, three := len(raw[0]) > 0, len(raw[3]) > 0; three && !zero {
		raw[0], raw[1], raw[2], raw[3] = raw[1], raw[2], raw[3], nil
	}
	for pool, entries := range raw {
		for _, e := range entries {
			if p.at.File != e.Where.File {
				p.said = 0
			}
			p.at = e.Where
			first, double := p.seen[e.target.same()]
			switch {
			case pool == poolCount:
				p.say("SDWDATE_POOL_THREE counts only where there is no SDWDATE_POOL_ZERO: this entry is left out")
			case double:
				p.say("%s is already at %s:%d: this entry is left out", e.URL, first.File, first.Line)
			case !e.target.onion() && !e.target.TLS && !p.c.AllowNonOnion:
				p.say("%s is no onion service: whoever runs the exit could answer (ALLOW_NON_ONION=true allows it): this entry is left out", e.URL)
			default:
				p.seen[e.target.same()] = e.Where
				p.c.Pools[pool] = append(p.c.Pools[pool], e.source)
			}
		}
	}
}
