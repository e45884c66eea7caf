// SPDX-License-Identifier: GPL-3.0-or-later

package fdd

import (
	"errors"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// formula is a set as one would write it down, evaluated packet by packet: what
// diagrams are held against.
type formula struct {
	op          byte // 'r' a range, else & | -
	field       Field
	first, last Value
	a, b        *formula
}

func (f *formula) has(p Packet) bool {
	switch f.op {
	case 'r':
		v := p[f.field]
		return !v.Less(f.first) && !f.last.Less(v)
	case '&':
		return f.a.has(p) && f.b.has(p)
	case '|':
		return f.a.has(p) || f.b.has(p)
	}
	return f.a.has(p) && !f.b.has(p)
}

func (f *formula) set(s *Space) Set {
	switch f.op {
	case 'r':
		return s.Range(f.field, f.first, f.last)
	case '&':
		return s.And(f.a.set(s), f.b.set(s))
	case '|':
		return s.Or(f.a.set(s), f.b.set(s))
	}
	return s.Diff(f.a.set(s), f.b.set(s))
}

// values are few, so that ranges and packets meet, and those at the edges.
func values() *rapid.Generator[Value] {
	return rapid.SampledFrom([]Value{{}, N(1), N(2), N(3), N(6), N(255), N(1 << 32), {1, 0}, {0, ^uint64(0)}, maxValue.prev(), maxValue})
}

func fields() *rapid.Generator[Field] {
	return rapid.SampledFrom([]Field{Out, Proto, UID, DstPort, Dst})
}

func formulas(depth int) *rapid.Generator[*formula] {
	return rapid.Custom(func(t *rapid.T) *formula {
		if depth == 0 || rapid.IntRange(0, 3).Draw(t, "leaf") == 0 {
			f := &formula{op: 'r', field: fields().Draw(t, "field"), first: values().Draw(t, "first"), last: values().Draw(t, "last")}
			return f
		}
		return &formula{op: rapid.SampledFrom([]byte("&|-")).Draw(t, "op"), a: formulas(depth-1).Draw(t, "a"), b: formulas(depth-1).Draw(t, "b")}
	})
}

func packets() *rapid.Generator[Packet] {
	return rapid.Custom(func(t *rapid.T) (p Packet) {
		for i := range p {
			p[i] = values().Draw(t, "value")
		}
		return p
	})
}

// checkFormula holds the diagram of a formula against the formula.
func checkFormula(t *rapid.T) {
	s := NewSpace()
	f := formulas(4).Draw(t, "formula")
	set := f.set(s)
	for range 20 {
		p := packets().Draw(t, "packet")
		if s.Contains(set, p) != f.has(p) {
			t.Fatalf("%v: the diagram says %v", p, s.Contains(set, p))
		}
	}
	if p, ok := s.Pick(set, &Preference{}); ok && !f.has(p) {
		t.Fatalf("the witness %v is not in the set", p)
	}
	if s.Not(s.Not(set)) != set || s.And(set, s.Not(set)) != None || s.Or(set, s.Not(set)) != All {
		t.Fatal("complement")
	}
}

func TestDiagramsAreTheirFormulas(t *testing.T) { rapid.Check(t, checkFormula) }

func FuzzDiagrams(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkFormula)) }

// TestEqualSetsAreEqualNumbers however they were computed.
func TestEqualSetsAreEqualNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSpace()
		a, b, c := formulas(3).Draw(t, "a").set(s), formulas(3).Draw(t, "b").set(s), formulas(3).Draw(t, "c").set(s)
		for name, pair := range map[string][2]Set{
			"De Morgan":      {s.Not(s.And(a, b)), s.Or(s.Not(a), s.Not(b))},
			"distributivity": {s.And(a, s.Or(b, c)), s.Or(s.And(a, b), s.And(a, c))},
			"associativity":  {s.Or(a, s.Or(b, c)), s.Or(s.Or(a, b), c)},
			"difference":     {s.Diff(a, b), s.And(a, s.Not(b))},
		} {
			if pair[0] != pair[1] {
				t.Fatalf("%s does not hold", name)
			}
		}
	})
}

// TestForget projects: a packet is in the projection when some packet that
// differs in the forgotten fields only is in the set.
func TestForget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSpace()
		f := formulas(3).Draw(t, "formula")
		set := f.set(s)
		field := fields().Draw(t, "field")
		projected := s.Forget(set, field)
		p := packets().Draw(t, "packet")
		some := false
		for _, v := range edgeValues(f, field) {
			q := p
			q[field] = v
			some = some || f.has(q)
		}
		if s.Contains(projected, p) != some {
			t.Fatalf("forgetting %v of %v: %v, want %v", field, p, s.Contains(projected, p), some)
		}
		for _, i := range s.Intervals(set, field) {
			q, ok := s.pickRaw(s.And(set, s.Range(field, i.First, i.First)))
			if !ok || !f.has(q) {
				t.Fatalf("%v has no packet with %v of %v", f, field, i.First)
			}
		}
	})
}

// pickRaw is Pick among all packets, also those that cannot be.
func (s *Space) pickRaw(a Set) (p Packet, ok bool) {
	if a == None {
		return p, false
	}
	for field := range fieldCount {
		if s.fieldOf(a) == field {
			p[field], a = s.choose(a, nil)
		}
	}
	return p, true
}

// edgeValues has one value of every interval that a formula can tell apart.
func edgeValues(f *formula, field Field) []Value {
	list := []Value{{}, maxValue}
	var walk func(*formula)
	walk = func(f *formula) {
		if f.op != 'r' {
			walk(f.a)
			walk(f.b)
			return
		}
		if f.field == field {
			list = append(list, f.first, f.last)
			if f.last != maxValue {
				list = append(list, f.last.next())
			}
			if f.first != (Value{}) {
				list = append(list, f.first.prev())
			}
		}
	}
	walk(f)
	return list
}

// TestFirstMatch holds the diagrams of a list of rules against going through
// the list, also where what a rule matches is not known.
func TestFirstMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSpace()
		type rule struct {
			f        *formula
			known    bool
			decision int
		}
		rules := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) rule {
			return rule{formulas(2).Draw(t, "matches"), rapid.IntRange(0, 3).Draw(t, "known") > 0, rapid.IntRange(0, 2).Draw(t, "decision")}
		}), 0, 6).Draw(t, "rules")
		list := make([]Rule, len(rules))
		for i, r := range rules {
			m := Exactly(r.f.set(s))
			if !r.known {
				m.Must = None
			}
			list[i] = Rule{m, r.decision}
		}
		outcome := s.FirstMatch(list, 2, 3)
		p, ok := s.Pick(s.Is(Proto, N(TCP)), &Preference{})
		if !ok {
			t.Fatal("no packet")
		}
		for f := range p { // stays a packet that can be
			if f := Field(f); f == Out || f == UID || f == DstPort || f == Dst {
				p[f] = rapid.SampledFrom([]Value{{}, N(1), N(3), N(255)}).Draw(t, f.String())
			}
		}
		got := func(luck bool) int {
			for _, r := range rules {
				if r.f.has(p) && (r.known || luck) {
					return r.decision
				}
			}
			return 2
		}
		for _, luck := range []bool{true, false} {
			if d := got(luck); !s.Contains(outcome[d].May, p) {
				t.Fatalf("%v may get %d, the diagrams say it cannot", p, d)
			}
		}
		for d, o := range outcome {
			if s.Contains(o.Must, p) && (got(true) != d || got(false) != d) {
				t.Fatalf("%v need not get %d", p, d)
			}
			if s.Diff(o.Must, o.May) != None {
				t.Fatal("certain, and impossible")
			}
		}
	})
}

func TestOneOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSpace()
		var list []Interval
		var want Set
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			i := Interval{values().Draw(t, "first"), values().Draw(t, "last")}
			list = append(list, i)
			want = s.Or(want, s.Range(DstPort, i.First, i.Last))
		}
		if got := s.OneOf(DstPort, list); got != want {
			t.Fatalf("%v: %v, want %v", list, s.Intervals(got, DstPort), s.Intervals(want, DstPort))
		}
	})
}

// TestTooLarge ends with an error instead of all memory.
func TestTooLarge(t *testing.T) {
	s := NewSpace()
	s.limit = 1000
	err := Do(func() {
		var a Set
		for i := range uint64(1000) {
			a = s.Or(a, s.And(s.Is(Src, N(2*i)), s.Is(Dst, N(7*i%1000))))
		}
	})
	if !errors.Is(err, ErrTooLarge) {
		t.Fatalf("%v, want %v", err, ErrTooLarge)
	}
}

func TestValues(t *testing.T) {
	for _, text := range []string{"0.0.0.0", "10.152.152.10", "255.255.255.255", "::", "::1", "fd19:c33d:88bc::10"} {
		a := netip.MustParseAddr(text)
		family := IPv6
		if a.Is4() {
			family = IPv4
		}
		if got := Addr(a).IP(family); got != a {
			t.Errorf("%v became %v", a, got)
		}
	}
	first, last := Names("vif")
	for name, in := range map[string]bool{"vif": true, "vif1.0": true, "vifzzzzzzzzzzzz": true, "vi": false, "vig": false, "eth0": false, "": false} {
		v := Name(name)
		if got := !v.Less(first) && !last.Less(v); got != in || v.Text() != name {
			t.Errorf("%q (%q) begins with vif: %v, want %v", name, v.Text(), got, in)
		}
	}
}

// TestValid: what cannot be is in no witness.
func TestValid(t *testing.T) {
	s := NewSpace()
	for name, a := range map[string]Set{
		"UDP with flags":         s.And(s.Is(Proto, N(UDP)), s.Is(Flags, N(2))),
		"a port of ICMP":         s.And(s.Is(Proto, N(ICMP)), s.Is(DstPort, N(53))),
		"a port in a fragment":   s.And(s.Is(Fragment, N(1)), s.Is(DstPort, N(53))),
		"ICMP type over IPv6":    s.And(s.Is(Family, IPv6), s.Is(Proto, N(ICMP)), s.Is(Type, N(8))),
		"a large IPv4 address":   s.And(s.Is(Family, IPv4), s.Is(Src, N(1<<32))),
		"untracked with a reply": s.And(s.Is(State, N(Untracked)), s.Is(Direction, N(Reply))),
		"new reply":              s.And(s.Is(State, N(New)), s.Is(Direction, N(Reply))),
	} {
		if p, ok := s.Pick(a, &Preference{}); ok {
			t.Errorf("%s: %v", name, p)
		}
	}
	if _, ok := s.Pick(All, &Preference{}); !ok {
		t.Error("no packet at all")
	}
}

// BenchmarkChain is a chain of 4,000 rules, for 20 interfaces and 200 ports.
func BenchmarkChain(b *testing.B) {
	for b.Loop() {
		s := NewSpace()
		var rules []Rule
		for i := range 20 {
			in := s.Is(In, Name("vif"+string(rune('a'+i))))
			for p := range uint64(200) {
				rules = append(rules, Rule{Exactly(s.And(in, s.Is(Proto, N(TCP)), s.Is(DstPort, N(9000+2*p)))), 1})
			}
		}
		s.FirstMatch(rules, 0, 2)
		_, edges, _ := s.Size()
		b.ReportMetric(float64(edges)*24/(1<<20), "MiB")
	}
}
