// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"slices"

	"whonix-networking/pkg/fdd"
	"whonix-networking/pkg/nft"
)

// Status is what is known of a property.
type Status string

// The statuses.
const (
	Proved    Status = "proved"
	Violated  Status = "violated"
	NotProved Status = "not proved"
	NotAsked  Status = "not asked"
)

// Result is what is known of one property, and why.
type Result struct {
	Property  string      `json:"property"`
	Statement string      `json:"statement"`
	Status    Status      `json:"status"`
	Reason    string      `json:"reason,omitempty"` // where there is nothing to point at
	Witness   *Witness    `json:"witness,omitempty"`
	Doubts    []Doubt     `json:"doubts,omitempty"` // why it is not proved
	Weakened  []Weakening `json:"weakened,omitempty"`
}

// Weakening is an option that lets something through which the property
// forbids in general.
type Weakening struct {
	Option string `json:"option"`
	Why    string `json:"why"`
}

// Rulesets are the texts that a proof is about.
type Rulesets struct {
	Main     []byte // the ruleset
	Full     []byte // of the same configuration in mode full; nil where that is not asked
	Timesync []byte // the same in mode timesync-fail-closed
	Lockdown []byte // what shuts everything
}

// Proof is what is known of a ruleset.
type Proof struct {
	Results []Result `json:"properties"`
	Doubts  []Doubt  `json:"doubts,omitempty"` // all of the main ruleset
}

// Holds reports whether every property that was asked for is proved.
func (p *Proof) Holds() bool {
	return !slices.ContainsFunc(p.Results, func(r Result) bool { return r.Status == Violated || r.Status == NotProved })
}

// Weakenings are the options that weaken a property, each once.
func (p *Proof) Weakenings() (out []Weakening) {
	for _, r := range p.Results {
		for _, w := range r.Weakened {
			if !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return out
}

// prover proves properties of one ruleset.
type prover struct {
	*model
	policy   *Policy
	texts    *Rulesets
	inside   map[fdd.Field]fdd.Set // towards Workstations, by In and Out
	external map[fdd.Field]fdd.Set // towards the Internet
	allowed  map[string][]permit
	prefer   *fdd.Preference
}

// newProver compiles the main ruleset of texts.
func newProver(policy *Policy, texts *Rulesets) (*prover, error) {
	m := &matcher{Space: fdd.NewSpace(), names: policy.Names}
	p := &prover{model: newModel(m, nft.Read(texts.Main)), policy: policy, texts: texts,
		inside: map[fdd.Field]fdd.Set{}, external: map[fdd.Field]fdd.Set{}, prefer: preference(policy)}
	var err error
	for _, f := range []fdd.Field{fdd.In, fdd.Out} {
		if p.inside[f], err = m.interfaces(f, policy.Inside); err != nil {
			return nil, err
		}
		if p.external[f], err = m.interfaces(f, policy.Outside); err != nil {
			return nil, err
		}
	}
	p.allowed, err = m.permits(policy)
	return p, err
}

// Prove proves every property that the policy's role has. An error says that
// the question was wrong, never what the answer is.
func Prove(policy *Policy, texts *Rulesets) (*Proof, error) {
	proof := &Proof{}
	var wrong error
	err := fdd.Do(func() {
		var p *prover
		if p, wrong = newProver(policy, texts); wrong != nil {
			return
		}
		for _, prop := range Properties() {
			if slices.Contains(prop.Roles, policy.Role) {
				r := prop.check(p)
				r.Property, r.Statement = prop.ID, prop.Statement
				proof.Results = append(proof.Results, *r)
			}
		}
		proof.Doubts = p.doubts
	})
	if wrong != nil {
		return nil, wrong
	}
	if err != nil { // what was not answered is not proved
		tooLarge(proof, policy, err)
	}
	return proof, nil
}

func tooLarge(proof *Proof, policy *Policy, err error) {
	for _, prop := range Properties() {
		answered := slices.ContainsFunc(proof.Results, func(r Result) bool { return r.Property == prop.ID })
		if !answered && slices.Contains(prop.Roles, policy.Role) {
			proof.Results = append(proof.Results, Result{Property: prop.ID, Statement: prop.Statement, Status: NotProved, Reason: err.Error()})
		}
	}
}

// claim is how a witness is described.
type claim struct {
	entry, verb string
	prefer      *fdd.Preference // if not the prover's
}

// judge holds what passes against what a property's permits and always allow.
func (p *prover) judge(id string, passing []branch, c claim, always fdd.Set) *Result {
	allowed := always
	for _, one := range p.allowed[id] {
		allowed = p.Or(allowed, one.set)
	}
	r := &Result{Status: Proved, Weakened: p.weakened(id, passing, fdd.Exactly(always))}
	for _, certain := range []bool{true, false} {
		for _, b := range passing {
			set := b.now.May
			if certain {
				set = b.now.Must
			}
			if bad := p.Diff(set, allowed); bad != fdd.None {
				r.Status, r.Witness = Violated, p.witness(b, bad, c, certain)
				if !certain || p.wide() {
					r.Status, r.Doubts = NotProved, p.doubts
				}
				return r
			}
		}
	}
	if p.wide() {
		r.Status, r.Doubts = NotProved, p.doubts
	}
	return r
}

// wide reports whether something that was not understood may concern every
// packet.
func (p *prover) wide() bool {
	return slices.ContainsFunc(p.doubts, func(d Doubt) bool { return d.wide })
}

// weakened names the options without which less would pass.
func (p *prover) weakened(id string, passing []branch, always fdd.Range) (out []Weakening) {
	plain := always.Must
	for _, one := range p.allowed[id] {
		if !one.Weakens {
			plain = p.Or(plain, one.set)
		}
	}
	for _, one := range p.allowed[id] {
		if !one.Weakens {
			continue
		}
		by := p.Diff(one.set, plain)
		used := slices.ContainsFunc(passing, func(b branch) bool { return p.And(b.now.May, by) != fdd.None })
		w := Weakening{one.Option, one.Why}
		if used && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// P4: where no option names addresses, a packet passes in one family exactly if
// it passes in the other.
func (p *prover) familiesAlike() *Result {
	flows := []struct {
		branches []branch
		permits  string
		claim    claim
	}{{p.leaving(), "P3", claim{entry: output, verb: "is sent out, and its like in the other family is not"}}}
	if p.policy.Role == Workstation || p.policy.Role == Template {
		flows[0].permits = "P7"
	}
	if p.policy.Role == Gateway {
		inside := p.narrow(p.takenInside(), p.first())
		flows = append(flows, struct {
			branches []branch
			permits  string
			claim    claim
		}{inside, "P2", claim{entry: prerouting, verb: "is accepted, and its like in the other family is not"}})
	}
	for _, f := range flows {
		if r := p.alike(f.branches, f.permits, f.claim); r != nil {
			return r
		}
	}
	if p.wide() {
		return &Result{Status: NotProved, Doubts: p.doubts}
	}
	return &Result{Status: Proved}
}

// alike compares what passes in the two families, leaving out ICMP, which has
// other messages in each, and addresses that options name.
func (p *prover) alike(branches []branch, permits string, c claim) *Result {
	other := p.Or(p.Is(fdd.State, fdd.N(fdd.Related)), p.Is(fdd.Proto, fdd.N(fdd.ICMP)), p.Is(fdd.Proto, fdd.N(fdd.ICMPv6)), p.Is(fdd.Fragment, fdd.N(1)), p.Is(fdd.Extensions, fdd.N(1)))
	for _, one := range p.allowed[permits] {
		if one.addressed {
			other = p.Or(other, one.set)
		}
	}
	passing := map[fdd.Value]fdd.Range{}
	for _, family := range []fdd.Value{fdd.IPv4, fdd.IPv6} {
		all := nothing()
		for _, b := range branches {
			now := p.Both(p.Without(b.now, fdd.Exactly(other)), fdd.Exactly(p.Is(fdd.Family, family)))
			forget := []fdd.Field{fdd.Family, fdd.Src, fdd.Dst, fdd.Extensions, fdd.Fragment, fdd.Return, fdd.Route, fdd.NAT}
			all = p.Either(all, fdd.Range{Must: p.Forget(now.Must, forget...), May: p.Forget(now.May, forget...)})
		}
		passing[family] = all
	}
	for _, certain := range []bool{true, false} {
		for _, family := range []fdd.Value{fdd.IPv6, fdd.IPv4} {
			mine, theirs := passing[family], passing[fdd.N(10-family.Lo)]
			more := p.Diff(mine.May, theirs.Must)
			if certain {
				more = p.Diff(mine.Must, theirs.May)
			}
			if more == fdd.None {
				continue
			}
			status := Violated
			if !certain || p.wide() {
				status = NotProved
			}
			bad := p.And(p.Diff(more, other), p.Is(fdd.Family, family))
			for _, b := range branches {
				if hit := p.And(bad, b.now.May); hit != fdd.None {
					r := &Result{Status: status, Witness: p.witness(b, hit, c, certain)}
					if status == NotProved {
						r.Doubts = p.doubts
					}
					return r
				}
			}
		}
	}
	return nil
}
