// SPDX-License-Identifier: GPL-3.0-or-later

package clock

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"whonix-networking/pkg/fsx"
)

// FuzzLease: whatever is in the lease, restoring works, ends with no lease, and
// sets no tick but a possible one, and none at all where the lease is not about
// the tick that is set.
func FuzzLease(f *testing.F) {
	for _, seed := range []string{
		"", "{", "null", "[]", `{"boot_id":"x","pid":1,"baseline_tick":10000,"baseline_frequency":0,"set_tick":10050,"offset_ns":7000000000,"raw_start_ns":1}`,
		`{"baseline_tick":9000,"set_tick":10050}`, `{"baseline_tick":11001,"set_tick":10050}`, `{"baseline_tick":10000,"set_tick":10051}`,
		`{"baseline_tick":10000,"set_tick":10050,"raw_start_ns":9223372036854775807}`, `{"baseline_tick":1e4,"set_tick":10050}`,
	} {
		f.Add([]byte(seed))
	}
	root := fsx.Root(f.TempDir())
	if err := os.MkdirAll(filepath.Dir(root.Path(LeasePath)), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sim := NewSimulated(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), 0)
		sim.TuneByOther(Discipline{Tick: 10050})
		if err := os.WriteFile(root.Path(LeasePath), data, 0o644); err != nil {
			t.Fatal(err)
		}
		l, readErr := readLease(root, LeasePath)
		done, err := Restore(sim, root, LeasePath)
		d, _ := sim.Discipline()
		if err != nil || done == "" || root.Exists(LeasePath) {
			t.Fatalf("%q, %v", done, err)
		}
		if d.Tick < MinTick || d.Tick > MaxTick || readErr == nil && l.Set != 10050 && d.Tick != 10050 || readErr != nil && d.Tick != NormalTick {
			t.Fatalf("tick %d after %s", d.Tick, data)
		}
		_ = l.Left(sim.Sample())
		_ = l.Alive(root)
	})
}
