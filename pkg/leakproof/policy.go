// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"fmt"
	"strings"

	"whonix-networking/pkg/fdd"
	"whonix-networking/pkg/nft"
)

// Policy is what a machine is meant to do: its role, which interface leads
// where, and what each option of its configuration permits.
type Policy struct {
	Role     Role
	Timesync bool
	Inside   []string // interfaces towards Workstations, as in nft(8)
	Outside  []string // interfaces towards the Internet; one that is both counts as outside
	TorPorts []string // conditions: the ports by which Tor can be used
	Names    Names
	Permits  []Permit
}

// Role is what a machine is.
type Role string

// The roles.
const (
	Gateway     Role = "gateway"
	Workstation Role = "workstation"
	Host        Role = "host"
	Template    Role = "template"
)

// Permit is what one option permits, of what a property forbids in general.
type Permit struct {
	Property string   // P1, P2, ...
	Option   string   // the variable's name
	Why      string   // in words: what it lets through
	Weakens  bool     // whoever reads the proof must know of it
	Packets  []string // conditions as in nft(8); a packet that one of them matches
}

// permit is a Permit as a set.
type permit struct {
	*Permit
	set       fdd.Set
	addressed bool // only certain addresses
}

// permits are the sets of a policy's permits.
func (m *matcher) permits(p *Policy) (map[string][]permit, error) {
	out := map[string][]permit{}
	for i := range p.Permits {
		one := &p.Permits[i]
		set, err := m.patterns(one.Packets)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.Option, err)
		}
		text := strings.Join(one.Packets, " ")
		out[one.Property] = append(out[one.Property], permit{one, set, strings.Contains(text, "addr ")})
	}
	return out, nil
}

// patterns is the packets that one of the conditions matches.
func (m *matcher) patterns(list []string) (fdd.Set, error) {
	const prefix = "add table inet p\nadd chain inet p c\n"
	var set fdd.Set
	for _, text := range list {
		rs := nft.Read([]byte(prefix + "add rule inet p c " + text + " counter\n"))
		if len(rs.Problems) > 0 || len(rs.Chains) != 1 || len(rs.Chains[0].Rules) != 1 {
			return fdd.None, fmt.Errorf("%q is no condition", text)
		}
		one := fdd.All
		for _, part := range rs.Chains[0].Rules[0].Parts {
			c, ok := part.(nft.Cond)
			if !ok {
				return fdd.None, fmt.Errorf("%q is no condition", text)
			}
			r, doubt := m.match(c, at{hook: input, tracked: true})
			if doubt != "" {
				return fdd.None, fmt.Errorf("%q: %s", text, doubt)
			}
			one = m.And(one, r.May)
		}
		set = m.Or(set, one)
	}
	return set, nil
}

// interfaces is the packets whose field, In or Out, is one of the names.
func (m *matcher) interfaces(f fdd.Field, names []string) (fdd.Set, error) {
	var list []fdd.Interval
	for _, n := range names {
		i, err := name(n)
		if err != nil {
			return fdd.None, fmt.Errorf("interface %q %w", n, err)
		}
		list = append(list, i)
	}
	return m.OneOf(f, list), nil
}
