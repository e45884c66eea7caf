// SPDX-License-Identifier: GPL-3.0-or-later

package fdd

import (
	"errors"
	"slices"
)

// Set is a set of packets of one Space. Equal sets are equal numbers.
type Set uint32

// The sets that every space has.
const (
	None Set = iota
	All
)

// ErrTooLarge says that a question needs larger diagrams than the space may
// hold. Sets are computed in expressions, so it comes as a panic; Do turns it
// into an error.
var ErrTooLarge = errors.New("the ruleset is too complicated to be proved")

// edge leads on from the value behind the edge before, up to last.
type edge struct {
	last Value
	to   Set
}

// node looks at a field.
type node struct {
	field Field
	edges []edge
}

// Space holds diagrams. It is not safe for use by several goroutines.
type Space struct {
	nodes  []node
	free   []edge // room for more
	stack  []edge // of nodes that are being built
	count  int    // of edges
	unique map[uint64]Set
	recent []result
	valid  Set
	limit  int // of edges
	work   int // operations on nodes so far
}

// result is an operation that was done before, at a place of its hash.
type result struct {
	op   operation
	a, b Set
	is   Set
}

// operation combines two sets, packet by packet.
type operation uint8

const (
	opAnd operation = iota + 1
	opOr
	opDiff
)

// edgesMax is how many edges a space may hold, of 24 bytes each: a ruleset of
// thousands of rules needs less than a tenth.
const edgesMax = 3 << 20

// workMax bounds the time of a question, as edgesMax its memory: what it allows
// takes some seconds.
const workMax = 1 << 22

// NewSpace is an empty space.
func NewSpace() *Space {
	const recentSize = 1 << 13
	return &Space{nodes: make([]node, 2, 4096), unique: map[uint64]Set{}, recent: make([]result, recentSize), limit: edgesMax}
}

// Do runs f and returns ErrTooLarge if its diagrams were.
func Do(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if r != ErrTooLarge {
				panic(r)
			}
			err = ErrTooLarge
		}
	}()
	f()
	return nil
}

// Size is how many nodes and edges the space holds, and how many operations
// that took.
func (s *Space) Size() (nodes, edges, work int) { return len(s.nodes), s.count, s.work }

// fieldOf is the field that a set looks at first; sets of everything and
// nothing look at none.
func (s *Space) fieldOf(a Set) Field {
	if a <= All {
		return fieldCount
	}
	return s.nodes[a].field
}

func (s *Space) edgesOf(a Set) []edge {
	return s.nodes[a].edges
}

// node is the set that looks at field and goes on along edges, which are in
// order, adjacent ones different, and end at the largest value. It keeps a copy.
func (s *Space) node(field Field, edges []edge) Set {
	if len(edges) == 1 {
		return edges[0].to
	}
	h := hash(field, edges)
	for {
		known, ok := s.unique[h]
		if !ok {
			break
		}
		if s.nodes[known].field == field && slices.Equal(s.edgesOf(known), edges) {
			return known
		}
		h++
	}
	if s.count += len(edges); s.count > s.limit {
		panic(ErrTooLarge)
	}
	id := Set(len(s.nodes))
	s.nodes = append(s.nodes, node{field, s.keep(edges)})
	s.unique[h] = id
	return id
}

// keep copies edges to where they stay.
func (s *Space) keep(edges []edge) []edge {
	const chunk = 1 << 12
	n := len(edges)
	if len(s.free) < n {
		s.free = make([]edge, max(chunk, n))
	}
	kept := s.free[:n:n]
	s.free = s.free[n:]
	copy(kept, edges)
	return kept
}

func hash(field Field, edges []edge) uint64 {
	const prime = 0x9e3779b97f4a7c15
	h := uint64(field) + 1
	for _, e := range edges {
		for _, w := range [...]uint64{e.last.Hi, e.last.Lo, uint64(e.to)} {
			h = (h ^ w) * prime
			h ^= h >> 29
		}
	}
	return h
}

// join appends an edge, or lengthens the one before if it leads to the same.
func join(edges []edge, last Value, to Set) []edge {
	if n := len(edges); n > 0 && edges[n-1].to == to {
		edges[n-1].last = last
		return edges
	}
	return append(edges, edge{last, to})
}

// Range is the packets whose field is from first to last.
func (s *Space) Range(field Field, first, last Value) Set {
	if last.Less(first) {
		return None
	}
	var edges []edge
	if first != (Value{}) {
		edges = append(edges, edge{first.prev(), None})
	}
	edges = append(edges, edge{last, All})
	if last != maxValue {
		edges = append(edges, edge{maxValue, None})
	}
	return s.node(field, edges)
}

// Is is the packets whose field is value.
func (s *Space) Is(field Field, value Value) Set { return s.Range(field, value, value) }

// OneOf is the packets whose field is in one of the intervals.
func (s *Space) OneOf(field Field, intervals []Interval) Set {
	list := slices.Clone(intervals)
	slices.SortFunc(list, func(a, b Interval) int {
		if a.First.Less(b.First) {
			return -1
		}
		if b.First.Less(a.First) {
			return 1
		}
		return 0
	})
	var edges []edge
	var from Value // the first value that no edge leads on from yet
	for _, i := range list {
		if i.First.Less(from) {
			i.First = from
		}
		if i.Last.Less(i.First) {
			continue
		}
		if from.Less(i.First) {
			edges = join(edges, i.First.prev(), None)
		}
		edges = join(edges, i.Last, All)
		if i.Last == maxValue {
			return s.node(field, edges)
		}
		from = i.Last.next()
	}
	return s.node(field, join(edges, maxValue, None))
}

// And is the packets that are in every set.
func (s *Space) And(sets ...Set) Set {
	a := All
	for _, b := range sets {
		a = s.combine(opAnd, a, b)
	}
	return a
}

// Or is the packets that are in one of the sets.
func (s *Space) Or(sets ...Set) Set {
	a := None
	for _, b := range sets {
		a = s.combine(opOr, a, b)
	}
	return a
}

// Diff is the packets of a that are not in b.
func (s *Space) Diff(a, b Set) Set { return s.combine(opDiff, a, b) }

// Not is all other packets.
func (s *Space) Not(a Set) Set { return s.Diff(All, a) }

// trivial is what an operation yields without looking at fields.
func trivial(op operation, a, b Set) (Set, bool) {
	switch {
	case op == opAnd && (a == None || b == None), op == opDiff && (a == None || b == All || a == b):
		return None, true
	case op == opAnd && (b == All || a == b), op == opOr && (b == None || a == b), op == opDiff && b == None:
		return a, true
	case op == opAnd && a == All, op == opOr && a == None:
		return b, true
	case op == opOr && (a == All || b == All):
		return All, true
	}
	return None, false
}

// push is join on the stack, for the node whose edges begin at base.
func (s *Space) push(base int, last Value, to Set) {
	if n := len(s.stack); n > base && s.stack[n-1].to == to {
		s.stack[n-1].last = last
	} else {
		s.stack = append(s.stack, edge{last, to})
	}
}

func (s *Space) combine(op operation, a, b Set) Set {
	if is, ok := trivial(op, a, b); ok {
		return is
	}
	if op != opDiff && a > b {
		a, b = b, a
	}
	place := (uint64(a)*0x9e3779b97f4a7c15 ^ uint64(b)*0xc2b2ae3d27d4eb4f + uint64(op)) >> 17 % uint64(len(s.recent))
	if r := s.recent[place]; r.op == op && r.a == a && r.b == b {
		return r.is
	}
	if s.work++; s.work > workMax {
		panic(ErrTooLarge)
	}
	fa, fb := s.fieldOf(a), s.fieldOf(b)
	field := min(fa, fb)
	var ea, eb []edge
	whole := [...]edge{{maxValue, a}, {maxValue, b}}
	if ea = whole[:1]; fa == field {
		ea = s.edgesOf(a)
	}
	if eb = whole[1:]; fb == field {
		eb = s.edgesOf(b)
	}
	base := len(s.stack)
	for i, j := 0, 0; i < len(ea); {
		x, y := ea[i], eb[j]
		last := x.last
		if y.last.Less(last) {
			last = y.last
		}
		s.push(base, last, s.combine(op, x.to, y.to))
		if x.last == last {
			i++
		}
		if y.last == last {
			j++
		}
	}
	is := s.node(field, s.stack[base:])
	s.stack = s.stack[:base]
	s.recent[place] = result{op, a, b, is}
	return is
}
