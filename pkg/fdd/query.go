// SPDX-License-Identifier: GPL-3.0-or-later

package fdd

// Contains reports whether the packet is in the set.
func (s *Space) Contains(a Set, p Packet) bool {
	for a > All {
		v := p[s.nodes[a].field]
		for _, e := range s.edgesOf(a) {
			if !e.last.Less(v) {
				a = e.to
				break
			}
		}
	}
	return a == All
}

// Forget is the packets that differ from one of a in the given fields only: a
// projection to all other fields.
func (s *Space) Forget(a Set, fields ...Field) Set {
	var mask uint32
	for _, f := range fields {
		mask |= 1 << f
	}
	return s.forget(a, mask, map[Set]Set{})
}

func (s *Space) forget(a Set, mask uint32, done map[Set]Set) Set {
	if a <= All || mask>>s.fieldOf(a) == 0 {
		return a
	}
	if is, ok := done[a]; ok {
		return is
	}
	field := s.fieldOf(a)
	var is Set
	base := len(s.stack)
	for _, e := range s.edgesOf(a) {
		to := s.forget(e.to, mask, done)
		if mask&(1<<field) != 0 {
			is = s.Or(is, to)
		} else {
			s.push(base, e.last, to)
		}
	}
	if len(s.stack) > base {
		is = s.node(field, s.stack[base:])
		s.stack = s.stack[:base]
	}
	done[a] = is
	return is
}

// Keep is a projection to the given fields: every other is free.
func (s *Space) Keep(a Set, fields ...Field) Set {
	mask := uint32(1)<<fieldCount - 1
	for _, f := range fields {
		mask &^= 1 << f
	}
	return s.forget(a, mask, map[Set]Set{})
}

// Assign is the packets of a with field set to one of the values from first to
// last.
func (s *Space) Assign(a Set, field Field, first, last Value) Set {
	return s.And(s.Forget(a, field), s.Range(field, first, last))
}

// Intervals are the values that a field has in the packets of a.
func (s *Space) Intervals(a Set, field Field) []Interval {
	a = s.Keep(a, field)
	if a == None {
		return nil
	}
	if a == All {
		return []Interval{{Value{}, maxValue}}
	}
	var out []Interval
	var first Value
	for _, e := range s.edgesOf(a) {
		if e.to == All {
			out = append(out, Interval{first, e.last})
		}
		if e.last != maxValue {
			first = e.last.next()
		}
	}
	return out
}

// Preference chooses, of the values that a witness may have, one that reads
// well: for each field, the first of these that is allowed.
type Preference [fieldCount][]Value

// Pick is a packet of the set: of each field the value that is preferred most,
// or the smallest. It is false for the empty set.
func (s *Space) Pick(a Set, prefer *Preference) (Packet, bool) {
	var p Packet
	a = s.And(a, s.Valid())
	if a == None {
		return p, false
	}
	for field := range fieldCount {
		if s.fieldOf(a) != field {
			if len(prefer[field]) > 0 {
				p[field] = prefer[field][0]
			}
			continue
		}
		p[field], a = s.choose(a, prefer[field])
	}
	return p, true
}

// choose follows one edge that does not lead to the empty set.
func (s *Space) choose(a Set, wanted []Value) (Value, Set) {
	edges := s.edgesOf(a)
	for _, w := range wanted {
		for _, e := range edges {
			if e.last.Less(w) {
				continue
			}
			if e.to != None {
				return w, e.to
			}
			break
		}
	}
	var first Value
	for _, e := range edges {
		if e.to != None {
			return first, e.to
		}
		first = e.last.next()
	}
	panic("fdd: a node without any way on")
}

// Only is the set of one packet.
func (s *Space) Only(p Packet) Set {
	a := All
	for f := fieldCount; f > 0; f-- {
		a = s.And(s.Is(f-1, p[f-1]), a)
	}
	return a
}

// Part is the packets of a set that are like p as far as the set can tell: of
// each field it looks at on the way to p, an interval.
func (s *Space) Part(a Set, p Packet) (fields []Field, intervals []Interval) {
	for a > All {
		f := s.nodes[a].field
		var first Value
		for _, e := range s.edgesOf(a) {
			if !e.last.Less(p[f]) {
				fields, intervals = append(fields, f), append(intervals, Interval{first, e.last})
				a = e.to
				break
			}
			first = e.last.next()
		}
	}
	return fields, intervals
}
