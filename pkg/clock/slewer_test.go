// SPDX-License-Identifier: GPL-3.0-or-later

package clock

import (
	"context"
	"testing"
	"time"

	"whonix-networking/pkg/fsx"
)

// rig is a Slewer of a simulated machine.
type rig struct {
	*Simulated
	*Slewer
	root fsx.Root
	logs []string
}

func newRig(t *testing.T, wrong time.Duration, policy Policy) *rig {
	t.Helper()
	r := &rig{Simulated: NewSimulated(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), wrong), root: fsx.Root(t.TempDir())}
	if err := r.root.MkdirAll("/run/sdwdate", 0o755); err != nil {
		t.Fatal(err)
	}
	r.open(t, policy)
	return r
}

// open is the start of another process.
func (r *rig) open(t *testing.T, policy Policy) {
	t.Helper()
	s, err := NewSlewer(Options{Clock: r.Simulated, Policy: policy, Root: r.root, Lease: LeasePath, Log: func(l string) { r.logs = append(r.logs, l) }})
	if err != nil {
		t.Fatal(err)
	}
	r.Slewer = s
}

func (r *rig) wait(t *testing.T, d time.Duration) (Wake, Change) {
	t.Helper()
	w, c, err := r.Slewer.Wait(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	return w, c
}
