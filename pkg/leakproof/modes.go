// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"bytes"

	"whonix-networking/pkg/fdd"
	"whonix-networking/pkg/nft"
)

// other compiles another ruleset of the same machine, in the same space.
func (p *prover) other(text []byte) *prover {
	if bytes.Equal(text, p.texts.Main) {
		return p
	}
	q := *p
	q.model = newModel(p.matcher, nft.Read(text))
	return &q
}

// passes is everything that a ruleset lets through, by where it goes.
func (p *prover) passes() map[string][]branch {
	all := p.passage()
	return map[string][]branch{input: all.taken, forward: all.forwarded, output: all.sent}
}

// ends are the hooks behind which a packet has passed.
func ends() []string { return []string{input, forward, output} }

// sum is the packets of all branches, as they are in the end.
func (p *prover) sum(branches []branch) fdd.Range {
	all := nothing()
	for _, b := range branches {
		all = p.Either(all, b.now)
	}
	return all
}

// P5.
func (p *prover) timesyncSubset() *Result {
	if p.texts.Full == nil || p.texts.Timesync == nil {
		return &Result{Status: NotAsked, Reason: "needs the rulesets of both modes"}
	}
	full, shut := p.other(p.texts.Full), p.other(p.texts.Timesync)
	open := full.passes()
	passing := shut.passes()
	var weakened []Weakening
	for _, where := range ends() {
		branches := passing[where]
		c := claim{entry: entryOf(where), verb: "passes in timesync-fail-closed, and not in full"}
		allowed := p.sum(open[where])
		weakened = append(weakened, p.weakened("P5", branches, allowed)...)
		if r := shut.beyond(branches, allowed, "P5", c, full); r != nil {
			return r
		}
	}
	const torIDs = "P5 Tor"
	locally := shut.narrow(shut.passage().sent, p.And(p.Is(fdd.Out, fdd.Name("lo")), p.first(), p.waysIntoTor()))
	if r := shut.beyond(locally, nothing(), torIDs, claim{entry: output, verb: "reaches Tor on this machine in timesync-fail-closed"}, shut); r != nil {
		return r
	}
	if full.wide() || shut.wide() {
		return &Result{Status: NotProved, Doubts: append(full.doubts, shut.doubts...)}
	}
	return &Result{Status: Proved, Weakened: weakened}
}

// waysIntoTor is the packets to ports by which Tor can be used: the permits of
// the property name those that may be open before the clock is right, and
// TorPorts all there are.
func (p *prover) waysIntoTor() fdd.Set {
	set, err := p.patterns(p.policy.TorPorts)
	if err != nil {
		return fdd.All // then nothing is proved
	}
	return set
}

func entryOf(where string) string {
	if where == output {
		return output
	}
	return prerouting
}

// beyond is a violation if more passes than is allowed.
func (p *prover) beyond(branches []branch, allowed fdd.Range, id string, c claim, against *prover) *Result {
	for _, one := range p.allowed[id] {
		allowed = p.Either(allowed, fdd.Exactly(one.set))
	}
	for _, certain := range []bool{true, false} {
		for _, b := range branches {
			bad := p.Diff(b.now.May, allowed.Must)
			if certain {
				bad = p.Diff(b.now.Must, allowed.May)
			}
			if bad == fdd.None {
				continue
			}
			r := &Result{Status: Violated, Witness: p.witness(b, bad, c, certain)}
			if !certain || p.wide() || against.wide() {
				r.Status, r.Doubts = NotProved, append(p.doubts[:len(p.doubts):len(p.doubts)], against.doubts...)
			}
			return r
		}
	}
	return nil
}

// P6.
func (p *prover) lockdown() *Result {
	if p.texts.Lockdown == nil {
		return &Result{Status: NotAsked, Reason: "needs the ruleset that shuts everything"}
	}
	shut := p.other(p.texts.Lockdown)
	passing := shut.passes()
	for _, where := range ends() {
		branches := passing[where]
		if r := shut.beyond(branches, nothing(), "P6", claim{entry: entryOf(where), verb: "passes in lockdown"}, shut); r != nil {
			return r
		}
	}
	if shut.wide() {
		return &Result{Status: NotProved, Doubts: shut.doubts}
	}
	return &Result{Status: Proved}
}
