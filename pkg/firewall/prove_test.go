// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/leakproof"
	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// overlapping is a configuration that leaks: what comes in by eth1 may come
// from outside or from a Workstation.
const overlapping = "EXT_IF=eth1\nGATEWAY_ALLOW_INCOMING_SSH=1\n"

// TestLeakIsRefused: a configuration that leaks is not loaded, and said why;
// --unproven loads it.
func TestLeakIsRefused(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	g.config(t, overlapping)
	o := g.call(nil, "whonix_firewall")
	if o.code != 1 || len(g.rec.loaded) != 0 || g.rec.abandoned != 1 {
		t.Errorf("%+v, %d loaded, %d abandoned", o, len(g.rec.loaded), g.rec.abandoned)
	}
	for _, want := range []string{"ERROR: this configuration leaks, nothing was loaded", "P2 (", "dport 22 counter accept: accept"} {
		if !strings.Contains(o.errOut, want) {
			t.Errorf("no %q in %s", want, o.errOut)
		}
	}
	o = g.call(nil, "whonix_firewall", "--unproven")
	if o.code != 0 || len(g.rec.loaded) != 1 || !strings.Contains(o.errOut, "WARNING: loading a ruleset that leaks, because of --unproven: P2 (") {
		t.Errorf("%+v, %d loaded", o, len(g.rec.loaded))
	}
	if g.root.Exists(provedFile) {
		t.Error("noted as proved")
	}
}

// TestProvedOnce: what was proved is noted, and only exactly that.
func TestProvedOnce(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	note := func() string {
		t.Helper()
		if o := g.call(nil, "whonix_firewall"); o.code != 0 {
			t.Fatalf("%+v", o)
		}
		text, err := os.ReadFile(g.root.Path(provedFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := note()
	if again := note(); again != first {
		t.Errorf("%s became %s", first, again)
	}
	g.config(t, "NO_NAT_USERS=13\n")
	if other := note(); other == first {
		t.Error("another configuration has the same note")
	}
	// A note does not let another ruleset pass.
	g.config(t, overlapping)
	if o := g.call(nil, "whonix_firewall"); o.code != 1 {
		t.Errorf("%+v", o)
	}
}

// TestProveKernel proves what the kernel has.
func TestProveKernel(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	open := "table inet filter {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n\t}\n}\n"
	g.list = func(context.Context) ([]byte, error) { return []byte(open), nil }
	o := g.call(nil, "whonix_firewall", "--prove", "--kernel", "--json")
	var proof leakproof.Proof
	if err := json.Unmarshal([]byte(o.out), &proof); err != nil {
		t.Fatalf("%v: %s", err, o.out)
	}
	if o.code != 1 || proof.Results[0].Property != "P1" || proof.Results[0].Status != leakproof.Violated || proof.Results[0].Witness == nil {
		t.Errorf("%d %+v", o.code, proof.Results[0])
	}
	if len(g.rec.loaded) > 0 || g.root.Exists(scriptFile) || g.root.Exists(stateDir) {
		t.Error("a proof has written something")
	}
	golden, err := os.ReadFile("testdata/golden/gateway-full.nft")
	if err != nil {
		t.Fatal(err)
	}
	g.list = func(context.Context) ([]byte, error) { return golden, nil }
	if o := g.call(nil, "whonix_firewall", "--prove", "--kernel"); o.code != 0 {
		t.Errorf("%+v", o)
	}
	if o := g.call(nil, "whonix_firewall", "--kernel", "--explain-packet", "tcp 10.152.152.11:1 -> 10.152.152.10:9050 iif eth1 local"); o.code != 0 || !strings.Contains(o.out, "redirect to :9050") {
		t.Errorf("%+v", o)
	}
}

// TestListedMeansTheSame: what the kernel lists after a load means what was
// loaded, for every golden ruleset.
func TestListedMeansTheSame(t *testing.T) {
	n, err := netlab.New("listed")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, c := range goldenCases() {
		f := testFacts(c.role)
		if c.facts != nil {
			c.facts(f)
		}
		p, texts := textsOf(t, f, set(c.vars...))
		script := strings.ReplaceAll(string(texts.Main), "skuid vm-updates", "skuid 907")
		loadText(t, n, "flush ruleset\n"+script)
		var listed []byte
		err := n.Do(func() (err error) { listed, err = nft.NewExec(fsx.Host).List(context.Background()); return err })
		if err != nil {
			t.Fatal(err)
		}
		same, err := leakproof.Compare(p, []byte(script), listed)
		if err != nil || !same.Same {
			t.Errorf("%s: %v %+v", c.name, err, same)
		}
		texts.Main = listed
		proof, err := leakproof.Prove(p, texts)
		if err != nil || !proof.Holds() {
			t.Errorf("%s: %v %+v", c.name, err, proof)
		}
	}
}

// TestWitnessesExplainThemselves: the words of a witness, given to
// --explain-packet, lead to the rules that the witness names.
func TestWitnessesExplainThemselves(t *testing.T) {
	for _, l := range leaks() {
		f := testFacts(l.role)
		f.Machine.Qubes = l.qubes
		p, texts := textsOf(t, f, set(l.vars...))
		texts.Main = []byte(l.undo(string(texts.Main)))
		if p.Timesync {
			texts.Timesync = texts.Main
		}
		proof, err := leakproof.Prove(p, texts)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range proof.Results {
			if r.Witness == nil {
				continue
			}
			e, err := leakproof.Explain(p, texts.Main, r.Witness.Words)
			if err != nil {
				t.Errorf("%s %s: %v", l.name, r.Property, err)
				continue
			}
			if e.Words != r.Witness.Words || e.Verdict != "accept" || len(e.Steps) != len(r.Witness.Steps) {
				t.Errorf("%s %s: %q became %+v", l.name, r.Property, r.Witness.Words, e)
			}
		}
	}
}

// TestAppArmorLetsProofsRead: the profile has the files that proofs need.
func TestAppArmorLetsProofsRead(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "etc/apparmor.d/whonix-firewall"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "** rw,") {
		t.Error("--prove FILE may not read")
	}
}

// TestDiff: what the kernel has is compared with what would be loaded.
func TestDiff(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	golden, err := os.ReadFile("testdata/golden/gateway-full.nft")
	if err != nil {
		t.Fatal(err)
	}
	g.list = func(context.Context) ([]byte, error) { return golden, nil }
	if o := g.call(nil, "whonix_firewall", "--diff"); o.code != 0 || o.out != "Both mean the same.\n" {
		t.Errorf("%+v", o)
	}
	g.config(t, "EXTERNAL_OPEN_PORTS=8333\n")
	o := g.call(nil, "whonix_firewall", "--diff")
	if o.code != 1 || !strings.Contains(o.out, "only the configuration lets pass (input): ") || !strings.Contains(o.out, "dport 8333") {
		t.Errorf("%+v", o)
	}
	if len(g.rec.loaded) > 0 {
		t.Error("loaded")
	}
}

// TestExplainVariable names file and line of each part of a value.
func TestExplainVariable(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	g.config(t, "# mine\nEXTERNAL_OPEN_PORTS=\"22\"\nEXTERNAL_OPEN_PORTS+=\" 80 \"\n")
	o := g.call(nil, "whonix_firewall", "--explain", "EXTERNAL_OPEN_PORTS")
	if want := "EXTERNAL_OPEN_PORTS=22 80\n  " + userConfig + ":2: 22\n  " + userConfig + ":3: 80\n"; o.code != 0 || o.out != want {
		t.Errorf("%+v, want %q", o, want)
	}
	if o := g.call(nil, "whonix_firewall", "--explain", "EXT_IF"); o.code != 0 || o.out != "EXT_IF=eth0\n  default\n" {
		t.Errorf("%+v", o)
	}
	if o := g.call(nil, "whonix_firewall", "--explain", "EXT_IF", "--json"); o.code != 0 || !strings.Contains(o.out, `"value": "eth0"`) {
		t.Errorf("%+v", o)
	}
	if o := g.call(nil, "whonix_firewall", "--explain", "NOTHING"); o.code != 1 || !strings.Contains(o.errOut, `there is no variable "NOTHING"`) {
		t.Errorf("%+v", o)
	}
}
