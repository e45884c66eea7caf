// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"fmt"
	"strings"
	"testing"

	"whonix-networking/pkg/leakproof"
	"whonix-networking/pkg/whonix"
)

// textsOf are the rulesets of a configuration that a proof is about.
func textsOf(t testing.TB, facts *Facts, vars Variables) (*leakproof.Policy, *leakproof.Rulesets) {
	t.Helper()
	c, err := Configure(vars, facts)
	if err != nil {
		t.Fatalf("Configure: %v", err)
	}
	texts, err := rulesets(vars, facts, c)
	if err != nil {
		t.Fatal(err)
	}
	return policy(&c.Settings, leakproof.Names{Account: facts.Account, Service: facts.Service}), texts
}

// TestShippedConfigurationsAreProved every golden ruleset.
func TestShippedConfigurationsAreProved(t *testing.T) {
	for _, c := range goldenCases() {
		t.Run(c.name, func(t *testing.T) {
			f := testFacts(c.role)
			if c.facts != nil {
				c.facts(f)
			}
			p, texts := textsOf(t, f, set(c.vars...))
			proof, err := leakproof.Prove(p, texts)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range proof.Results {
				if r.Status != leakproof.Proved {
					t.Errorf("%s", about(r))
				}
			}
		})
	}
}

// about is a result on a few lines.
func about(r leakproof.Result) string {
	text := fmt.Sprintf("%s: %s: %s %s", r.Property, r.Status, r.Statement, r.Reason)
	if w := r.Witness; w != nil {
		text += fmt.Sprintf("\n%s\n%s %v", w.Words, w.Then, w.Steps)
	}
	return fmt.Sprint(text, " ", r.Doubts)
}

// largeVars are 20 internal interfaces and 200 ports.
func largeVars() []string {
	var interfaces, ports strings.Builder
	for i := range 20 {
		fmt.Fprintf(&interfaces, " vif%d.0", i)
	}
	for i := range 200 {
		fmt.Fprintf(&ports, " %d", 20000+3*i)
	}
	return []string{"INT_IF=" + interfaces.String(), "INT_TIF=" + interfaces.String(), "INTERNAL_OPEN_PORTS=" + ports.String()}
}

// TestLargeIsProved within what memory a proof may use.
func TestLargeIsProved(t *testing.T) {
	p, texts := textsOf(t, testFacts(whonix.Gateway), set(largeVars()...))
	proof, err := leakproof.Prove(p, texts)
	if err != nil || !proof.Holds() {
		t.Errorf("%v %+v", err, proof)
	}
}

func BenchmarkProveLarge(b *testing.B) {
	p, texts := textsOf(b, testFacts(whonix.Gateway), set(largeVars()...))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := leakproof.Prove(p, texts); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProve(b *testing.B) {
	for _, c := range goldenCases() {
		b.Run(c.name, func(b *testing.B) {
			f := testFacts(c.role)
			if c.facts != nil {
				c.facts(f)
			}
			p, texts := textsOf(b, f, set(c.vars...))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := leakproof.Prove(p, texts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
