// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"whonix-networking/pkg/fdd"
)

// Explanation is what becomes of one packet.
type Explanation struct {
	Words   string  `json:"words"`
	Tuple   string  `json:"packet"`
	Steps   []Step  `json:"rules"`
	Verdict string  `json:"verdict"` // accept or drop
	End     string  `json:"end"`     // the packet where it passes
	Certain bool    `json:"certain"`
	Doubts  []Doubt `json:"doubts,omitempty"`
}

// Explain follows a packet, in the words of witnesses, through a ruleset.
func Explain(policy *Policy, ruleset []byte, packet string) (*Explanation, error) {
	p, err := newProver(policy, &Rulesets{Main: ruleset})
	if err != nil {
		return nil, err
	}
	pkt, err := p.parse(packet)
	if err != nil {
		return nil, fmt.Errorf("packet %q: %w", packet, err)
	}
	entry := output
	if pkt[fdd.Out] == (fdd.Value{}) {
		entry = prerouting
	}
	t := p.follow(entry, pkt, p.prefer)
	return &Explanation{Words: words(pkt), Tuple: tuple(pkt), Steps: t.steps, Verdict: t.verdict, End: words(t.at),
		Certain: !t.maybe && !p.wide(), Doubts: p.doubts}, nil
}

// packetReader reads a packet word by word.
type packetReader struct {
	*prover
	words  []string
	at     fdd.Packet
	stated bool
}

// parse reads PROTOCOL SOURCE -> DESTINATION and what else is known of a
// packet.
func (p *prover) parse(text string) (fdd.Packet, error) {
	r := &packetReader{prover: p, words: strings.Fields(strings.TrimPrefix(text, "fragment of "))}
	if strings.HasPrefix(text, "fragment of ") {
		r.at[fdd.Fragment] = fdd.N(1)
	}
	r.at[fdd.Return], r.at[fdd.UID], r.at[fdd.Route] = fdd.N(1), fdd.N(fdd.NoUID), fdd.N(fdd.Unicast)
	if len(r.words) < 4 || r.words[2] != "->" {
		return r.at, errors.New("is not PROTOCOL SOURCE -> DESTINATION and more words")
	}
	proto, err := named(protocols())(r.words[0])
	if err != nil {
		return r.at, fmt.Errorf("protocol %q %w", r.words[0], err)
	}
	r.at[fdd.Proto] = proto.First
	if r.at[fdd.Proto].Lo == fdd.TCP && r.at[fdd.Fragment].Lo == 0 {
		r.at[fdd.Flags] = fdd.N(2)
	}
	if r.at[fdd.Proto].Lo == fdd.UDP && r.at[fdd.Fragment].Lo == 0 {
		r.at[fdd.Length] = fdd.N(usualLength)
	}
	if err := r.ends(r.words[1], r.words[3]); err != nil {
		return r.at, err
	}
	for r.words = r.words[4:]; len(r.words) > 0; {
		if err := r.option(); err != nil {
			return r.at, err
		}
	}
	r.defaults()
	if !p.Contains(p.Valid(), r.at) {
		return r.at, errors.New("there is no such packet: some of these words do not go together")
	}
	return r.at, nil
}

// ends reads both addresses, with ports where the protocol has some.
func (r *packetReader) ends(from, to string) error {
	for i, text := range []string{from, to} {
		addr, port := [...]fdd.Field{fdd.Src, fdd.Dst}[i], [...]fdd.Field{fdd.SrcPort, fdd.DstPort}[i]
		var a netip.Addr
		if ap, err := netip.ParseAddrPort(text); err == nil {
			a = ap.Addr()
			r.at[port] = fdd.N(uint64(ap.Port()))
		} else if a, err = netip.ParseAddr(text); err != nil {
			return fmt.Errorf("%q is no address, nor address and port", text)
		}
		family := fdd.IPv6
		if a.Is4() {
			family = fdd.IPv4
		}
		if i == 1 && r.at[fdd.Family] != family {
			return errors.New("the addresses are of different families")
		}
		r.at[fdd.Family], r.at[addr] = family, fdd.Addr(a.WithZone(""))
	}
	return nil
}

// option reads one more thing about the packet.
func (r *packetReader) option() error {
	word := r.words[0]
	r.words = r.words[1:]
	value := func() string {
		if len(r.words) == 0 {
			return ""
		}
		v := r.words[0]
		r.words = r.words[1:]
		return v
	}
	states := []string{"new", "established", "related", "invalid", "untracked"}
	if i := slices.Index(states, word); i >= 0 {
		r.at[fdd.State], r.stated = fdd.N(uint64(i)), true
		return nil
	}
	switch word {
	case "iif", "iifname":
		r.at[fdd.In] = fdd.Name(value())
	case "oif", "oifname":
		r.at[fdd.Out] = fdd.Name(value())
	case "uid", "skuid":
		i, err := r.account(value())
		r.at[fdd.UID] = i.First
		return err
	case "flags":
		return r.flagsOf(value())
	case "type", "code":
		n, err := strconv.ParseUint(value(), 10, 8)
		r.at[map[string]fdd.Field{"type": fdd.Type, "code": fdd.Code}[word]] = fdd.N(n)
		return err
	case "length":
		n, err := strconv.ParseUint(value(), 10, 16)
		r.at[fdd.Length] = fdd.N(n)
		return err
	case "reply":
		r.at[fdd.Direction] = fdd.N(fdd.Reply)
	case "spoofed":
		r.at[fdd.Return] = fdd.N(0)
	case "local":
		r.at[fdd.Route] = fdd.N(fdd.Local)
	case "to":
		i, err := named(routes())(value())
		r.at[fdd.Route] = i.First
		return err
	case "with": // with extension headers
		value()
		value()
		r.at[fdd.Extensions] = fdd.N(1)
	default:
		return fmt.Errorf("%q is nothing that is known about packets", word)
	}
	return nil
}

func (r *packetReader) flagsOf(text string) error {
	var sum uint64
	for _, w := range strings.FieldsFunc(text, func(c rune) bool { return c == '|' || c == ',' }) {
		i, err := named(flagBits())(w)
		if err != nil {
			return fmt.Errorf("flag %q %w", w, err)
		}
		sum |= i.First.Lo
	}
	r.at[fdd.Flags] = fdd.N(sum)
	return nil
}

// defaults completes what follows from the rest.
func (r *packetReader) defaults() {
	dst := r.at[fdd.Dst].IP(r.at[fdd.Family])
	if r.at[fdd.Route].Lo == fdd.Unicast && r.at[fdd.In] != (fdd.Value{}) && dst.IsMulticast() {
		r.at[fdd.Route] = fdd.N(fdd.Multicast)
	}
	if !r.stated && r.Contains(r.impossibleStates(), r.at) { // as connection tracking sees it
		r.at[fdd.State] = fdd.N(fdd.Invalid)
		if r.at[fdd.Proto].Lo == fdd.ICMPv6 && r.at[fdd.Type].Lo >= listenerQuery {
			r.at[fdd.State] = fdd.N(fdd.Untracked)
		}
	}
	if s := r.at[fdd.State].Lo; s == fdd.Invalid || s == fdd.Untracked {
		r.at[fdd.Direction] = fdd.N(fdd.NoDirection)
	}
	if r.at[fdd.In] == (fdd.Value{}) && r.at[fdd.Out] == (fdd.Value{}) {
		r.at[fdd.Out] = fdd.Name("eth0")
	}
}

// Difference is packets that two rulesets treat differently.
type Difference struct {
	Where   string `json:"where"`
	Only    string `json:"only"` // "first" or "second": where it passes
	Like    string `json:"like"` // what they have in common
	Example string `json:"example"`
	Certain bool   `json:"certain"`
}

// Comparison is how the meanings of two rulesets differ.
type Comparison struct {
	Same        bool         `json:"same"`
	Differences []Difference `json:"differences"`
	More        bool         `json:"more"` // than are listed
	Doubts      []Doubt      `json:"doubts,omitempty"`
}

// Compare tells what two rulesets treat differently: what passes, and what is
// translated to where.
func Compare(policy *Policy, first, second []byte) (*Comparison, error) {
	c := &Comparison{}
	var wrong error
	err := fdd.Do(func() {
		var a *prover
		if a, wrong = newProver(policy, &Rulesets{Main: first}); wrong != nil {
			return
		}
		b := a.other(second)
		c.Doubts = slices.Clone(a.doubts)
		if b != a {
			c.Doubts = append(c.Doubts, b.doubts...)
		}
		for _, side := range []struct {
			only string
			x, y *prover
		}{{"first", a, b}, {"second", b, a}} {
			pa, pb := side.x.passes(), side.y.passes()
			for _, where := range ends() {
				c.differ(a, where, side.only, a.sum(pa[where]), a.sum(pb[where]))
				theirs := byTranslation(a, pb[where])
				for to, mine := range byTranslation(a, pa[where]) {
					t, ok := theirs[to]
					if !ok {
						t = nothing()
					}
					c.differ(a, where+", "+to, side.only, mine, t)
				}
			}
		}
		c.Same = len(c.Differences) == 0 && !a.wide() && !b.wide()
	})
	if wrong != nil {
		return nil, wrong
	}
	return c, err
}

// byTranslation is, of what passes, the packets before each translation.
func byTranslation(p *prover, branches []branch) map[string]fdd.Range {
	out := map[string]fdd.Range{}
	for _, b := range branches {
		if b.by.Kind == "" {
			continue
		}
		key := strings.TrimSpace(b.by.Kind + " " + b.by.To)
		if before, ok := out[key]; ok {
			out[key] = p.Either(before, b.from)
		} else {
			out[key] = b.from
		}
	}
	return out
}

// differ lists the packets of a that are not in b. Where both rulesets are
// known exactly, what is left open about packets of known connections is left
// open alike.
func (c *Comparison) differ(p *prover, where, only string, a, b fdd.Range) {
	if len(c.Doubts) == 0 {
		c.list(p, p.Or(p.Diff(a.Must, b.Must), p.Diff(a.May, b.May)), Difference{Where: where, Only: only, Certain: true})
		return
	}
	certain := p.Diff(a.Must, b.May)
	c.list(p, certain, Difference{Where: where, Only: only, Certain: true})
	c.list(p, p.Diff(p.Diff(a.May, b.Must), certain), Difference{Where: where, Only: only})
}

// list lists some groups of the packets of a set.
func (c *Comparison) list(p *prover, set fdd.Set, like Difference) {
	const most = 4
	for range most {
		pkt, ok := p.Pick(set, p.prefer)
		if !ok {
			return
		}
		fields, intervals := p.Part(set, pkt)
		part := fdd.All
		for i, f := range fields {
			part = p.And(part, p.Range(f, intervals[i].First, intervals[i].Last))
		}
		like.Like, like.Example = describe(pkt, fields, intervals), words(pkt)
		c.Differences = append(c.Differences, like)
		set = p.Diff(set, part)
	}
	c.More = c.More || p.And(set, p.Valid()) != fdd.None
}

// describe is what packets have in common, field by field.
func describe(p fdd.Packet, fields []fdd.Field, intervals []fdd.Interval) string {
	var out []string
	for i, f := range fields {
		first, last := intervals[i].First, intervals[i].Last
		show := func(v fdd.Value) string {
			switch f {
			case fdd.In, fdd.Out:
				return strconv.Quote(v.Text())
			case fdd.Src, fdd.Dst:
				return v.IP(p[fdd.Family]).String()
			case fdd.Proto:
				return protocolName(v.Lo)
			case fdd.State:
				return stateName(fdd.N(v.Lo % 5))
			case fdd.Flags:
				return flagWords(v.Lo)
			}
			return fmt.Sprint(v.Lo)
		}
		switch {
		case first == last:
			out = append(out, f.String()+" "+show(first))
		case f == fdd.SrcPort || f == fdd.DstPort || (f == fdd.Src || f == fdd.Dst) && last.Hi == first.Hi:
			out = append(out, f.String()+" "+show(first)+"-"+show(last))
		}
	}
	return strings.Join(out, ", ")
}

// ParsePacket reads a packet in the words of witnesses.
func ParsePacket(words string) (fdd.Packet, error) {
	p := &prover{model: &model{matcher: &matcher{Space: fdd.NewSpace()}}}
	return p.parse(words)
}
