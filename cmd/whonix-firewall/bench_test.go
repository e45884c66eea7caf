// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkCheckConfigProcess times the whole program, with its start, and as
// a ratio to a program that does nothing.
func BenchmarkCheckConfigProcess(b *testing.B) {
	program := filepath.Join(b.TempDir(), "whonix-gateway-firewall")
	if out, err := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	timed := func(name string, args ...string) time.Duration {
		start := time.Now()
		if err := exec.Command(name, args...).Run(); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	var ours, nothing time.Duration
	for b.Loop() {
		ours += timed(program, "--check-config")
		nothing += timed("/bin/true")
	}
	b.ReportMetric(float64(ours.Microseconds())/float64(b.N)/1000, "ms/check")
	b.ReportMetric(float64(ours)/float64(nothing), "ratio-to-true")
}
