// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"testing"
	"time"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// counting counts what it hands to the kernel.
type counting struct {
	nft.Runner
	started int
}

func (c *counting) Start(ctx context.Context) (nft.Transaction, error) {
	c.started++
	return c.Runner.Start(ctx)
}

// TestUnchangedReload: the same ruleset is not loaded again, unless anybody
// changed the kernel's.
func TestUnchangedReload(t *testing.T) {
	n, err := netlab.New("unchanged")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	g := newRig(t, whonix.GatewayMarker)
	kernel := &counting{Runner: nft.NewExec(fsx.Host)}
	g.nft, g.generation = kernel, nft.CurrentGeneration
	load := func(what string, transactions int) {
		t.Helper()
		before := kernel.started
		_ = n.Do(func() error {
			if o := g.call(nil, "whonix_firewall"); o.code != 0 {
				t.Errorf("%s: %+v", what, o)
			}
			return nil
		})
		if got := kernel.started - before; got != transactions {
			t.Errorf("%s: %d transactions, want %d", what, got, transactions)
		}
	}
	load("first", 1)
	load("again", 0)
	single := listRuleset(t, n)
	loadText(t, n, "add table inet other")
	load("somebody added a table", 1)
	load("again", 0)
	loadText(t, n, "delete table inet other")
	loadText(t, n, "flush chain inet filter output")
	load("somebody flushed a chain", 1)
	if listRuleset(t, n) != single {
		t.Error("the flushed chain was not restored")
	}
	g.config(t, "NO_NAT_USERS=13\n")
	load("another configuration", 1)
	load("again", 0)
	// Another machine's note, or garbage, is no reason not to load.
	g.put(t, generationFile, "net:[1] 7 abc\n")
	load("a wrong note", 1)
	g.put(t, generationFile, "garbage")
	load("garbage", 1)
}

// BenchmarkReloadUnchanged compares a reload that changes nothing with nft
// loading the same script.
func BenchmarkReloadUnchanged(b *testing.B) {
	n, err := netlab.New("benchmark")
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	g := newRig(b, whonix.GatewayMarker)
	g.nft, g.generation = nft.NewExec(fsx.Host), nft.CurrentGeneration
	run := func() {
		_ = n.Do(func() error {
			if o := g.call(nil, "whonix_firewall"); o.code != 0 {
				b.Errorf("%+v", o)
			}
			return nil
		})
	}
	run()
	script, err := g.root.ReadFile(scriptFile, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	other, err := netlab.New("floor")
	if err != nil {
		b.Fatal(err)
	}
	defer other.Close()
	var took, floor time.Duration
	for b.Loop() {
		start := time.Now()
		run()
		took += time.Since(start)
		start = time.Now()
		loadBytes(b, other, script)
		floor += time.Since(start)
	}
	b.ReportMetric(float64(took)/float64(floor), "ratio-to-nft")
}

func loadBytes(b *testing.B, n *netlab.Namespace, script []byte) {
	b.Helper()
	if err := n.Do(func() error { return nft.Load(context.Background(), nft.NewExec(fsx.Host), script) }); err != nil {
		b.Fatal(err)
	}
}
