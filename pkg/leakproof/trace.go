// SPDX-License-Identifier: GPL-3.0-or-later

package leakproof

import (
	"fmt"

	"whonix-networking/pkg/fdd"
)

// Step is a rule that had a say in what became of a packet.
type Step struct {
	Hook    string `json:"hook"`
	Chain   string `json:"chain"`
	Line    int    `json:"line"`
	Rule    string `json:"rule"`
	Verdict string `json:"verdict"`
}

// String is the step on one line.
func (s Step) String() string {
	if s.Rule == "" {
		return fmt.Sprintf("%s: %s: %s", s.Hook, s.Chain, s.Verdict)
	}
	return fmt.Sprintf("%s: %s: line %d: %s: %s", s.Hook, s.Chain, s.Line, s.Rule, s.Verdict)
}

// tracer follows one packet, rule by rule: independently of diagrams but for
// what single rules match.
type tracer struct {
	*model
	prefer     *fdd.Preference
	route      func(*fdd.Packet) // sets what a new destination decides, if known
	hook       string
	at         fdd.Packet
	translated bool
	way        func(fdd.Packet) fdd.Value // by which interface what is not for us goes on, if known
	leaves     fdd.Value                  // by which interface behind output, if that has changed
	maybe      bool                       // something on the way is not known
	steps      []Step
	verdict    string
}

// Verdicts of a trace.
const (
	passed  = "accept"
	dropped = "drop"
)

// trace is the rules that decide about a packet.
func (p *prover) trace(entry string, pkt fdd.Packet) []Step {
	return p.follow(entry, pkt, p.prefer).steps
}

// follow follows a packet from where it enters to where it passes or ends.
func (m *model) follow(entry string, pkt fdd.Packet, prefer *fdd.Preference) *tracer {
	t := &tracer{model: m, prefer: prefer, at: pkt}
	t.run(entry)
	return t
}

// run follows the packet from a hook on.
func (t *tracer) run(entry string) {
	t.verdict = t.pass(entry)
	if t.verdict == passed && entry == prerouting {
		if t.Contains(t.ours(), t.at) {
			t.verdict = t.pass(input)
			return
		}
		if t.at[fdd.Out] == (fdd.Value{}) { // some way on
			if t.at[fdd.Out] = fdd.Name("eth0"); t.way != nil {
				t.at[fdd.Out] = t.way(t.at)
			}
		}
		t.verdict = t.pass(forward)
	}
	if t.verdict == passed {
		t.verdict = t.pass(postrouting)
	}
}

// pass sends the packet through the chains of a hook.
func (t *tracer) pass(hook string) string {
	t.hook = hook
	if hook == postrouting {
		t.translated = false // destinations were; sources come here
		if t.leaves != (fdd.Value{}) {
			t.at[fdd.Out] = t.leaves
		}
	}
	for _, c := range t.hooks[hook] {
		if !t.Contains(c.family, t.at) {
			continue
		}
		if c.nat && (t.at[fdd.State].Lo != fdd.New || t.translated) {
			continue
		}
		verdict := t.walk(c)
		if verdict == "" {
			verdict = c.Base.Policy
			if verdict == dropped {
				t.steps = append(t.steps, Step{Hook: hook, Chain: c.Chain.String(), Verdict: "policy drop"})
			}
		}
		if verdict == dropped {
			return dropped
		}
	}
	return passed
}

// walk goes through a chain's rules; the verdict is empty at its end.
func (t *tracer) walk(c *chain) string {
	for i := range c.rules {
		r := &c.rules[i]
		certain := t.Contains(r.match.Must, t.at)
		if !certain || r.opaque {
			if t.Contains(r.match.May, t.at) {
				t.maybe = true
				t.step(c, r, "perhaps")
			}
			continue
		}
		if r.action.Kind == "" || r.action.Kind == "continue" {
			continue
		}
		t.step(c, r, r.action.Kind)
		switch r.action.Kind {
		case "accept":
			return passed
		case "drop", "reject":
			return dropped
		case "return":
			return ""
		case "goto":
			return t.walk(r.target)
		case "jump":
			if v := t.walk(r.target); v != "" {
				return v
			}
		default:
			t.translate(r)
			return passed
		}
	}
	return ""
}

func (t *tracer) step(c *chain, r *rule, verdict string) {
	t.steps = append(t.steps, Step{t.hook, c.Chain.String(), r.Line, r.Text, verdict})
}

func (t *tracer) translate(r *rule) {
	if now, ok := t.Pick(t.model.translate(t.Only(t.at), r.action, t.hook), t.prefer); ok {
		t.at, t.translated = now, true
		if t.hook == output && r.action.Kind == "redirect" {
			t.leaves = fdd.Name("lo")
		}
		if t.route != nil {
			t.route(&t.at)
		}
	}
}
