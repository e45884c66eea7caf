// SPDX-License-Identifier: GPL-3.0-or-later

package fdd

// Range says of a set of packets what is known: it has at least the packets of
// Must, and none outside of May. Where everything is known the two are equal.
type Range struct{ Must, May Set }

// Exactly is a set of which everything is known.
func Exactly(a Set) Range { return Range{a, a} }

// Unknown is a set of which nothing is known.
func Unknown() Range { return Range{None, All} }

// Known reports whether nothing is left open.
func (r Range) Known() bool { return r.Must == r.May }

// Both is the packets that are in both.
func (s *Space) Both(a, b Range) Range {
	if a.Known() && b.Known() {
		return Exactly(s.And(a.May, b.May))
	}
	return Range{s.And(a.Must, b.Must), s.And(a.May, b.May)}
}

// Either is the packets that are in one of the two.
func (s *Space) Either(a, b Range) Range {
	if a.Known() && b.Known() {
		return Exactly(s.Or(a.May, b.May))
	}
	return Range{s.Or(a.Must, b.Must), s.Or(a.May, b.May)}
}

// Without is the packets of a that are not in b.
func (s *Space) Without(a, b Range) Range {
	if a.Known() && b.Known() {
		return Exactly(s.Diff(a.May, b.May))
	}
	return Range{s.Diff(a.Must, b.May), s.Diff(a.May, b.Must)}
}

// Complement is all other packets.
func (s *Space) Complement(a Range) Range { return s.Without(Exactly(All), a) }

// Rule is one rule of a list that counts from the top: the packets it matches,
// and what becomes of them.
type Rule struct {
	Matches  Range
	Decision int
}

// FirstMatch sorts all packets by the first rule that matches each. Decisions
// are numbered from 0; the packets that no rule matches get otherwise.
func (s *Space) FirstMatch(rules []Rule, otherwise, decisions int) []Range {
	out := make([]Range, decisions)
	left := Exactly(s.Valid())
	for _, r := range rules {
		out[r.Decision] = s.Either(out[r.Decision], s.Both(left, r.Matches))
		left = s.Without(left, r.Matches)
	}
	out[otherwise] = s.Either(out[otherwise], left)
	return out
}
