// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// BenchmarkReplaceIPs1000Files rewrites 1,000 files of which none, one in ten, or
// each holds the address; floors are what any program has to do: read them all,
// and for each that changes write another, have the disk take it, and rename it.
func BenchmarkReplaceIPs1000Files(b *testing.B) {
	const count = 1000
	root := fsx.Root(b.TempDir())
	plain := bytes.Repeat([]byte("SocksPort 10.152.152.11:9050 IsolateDestAddr # nothing to see\n"), 20)
	holds := append(bytes.Clone(plain), "SocksPort 10.152.152.10:9100\n"...)
	files := make([]string, count)
	for i := range files {
		files[i] = fmt.Sprintf("/%d", i)
	}
	for _, c := range []struct {
		name  string
		every int // which one changes
	}{{"none changes", 0}, {"100 change", 10}, {"1000 change", 1}} {
		prepare := func() {
			for i, f := range files {
				text := plain
				if c.every > 0 && i%c.every == 0 {
					text = holds
				}
				if old, err := os.ReadFile(root.Path(f)); err == nil && bytes.Equal(old, text) {
					continue
				}
				if err := os.WriteFile(root.Path(f), text, 0o644); err != nil {
					b.Fatal(err)
				}
			}
			unix.Sync() // what is measured is not made to write this
		}
		b.Run(c.name, func(b *testing.B) {
			var floor, took time.Duration
			for b.Loop() {
				b.StopTimer()
				prepare()
				begin := time.Now()
				for i, f := range files {
					text, err := os.ReadFile(root.Path(f))
					if err != nil {
						b.Fatal(err)
					}
					if c.every == 0 || i%c.every > 0 {
						continue
					}
					if err := root.WriteAtomic(f, text, 0o644); err != nil {
						b.Fatal(err)
					}
				}
				floor += time.Since(begin)
				prepare()
				b.StartTimer()
				begin = time.Now()
				for i, did := range rewriteAll(root, testMappings(), files) {
					if did.err != nil || did.changed != (c.every > 0 && i%c.every == 0) {
						b.Fatalf("%s: %v %v", files[i], did.changed, did.err)
					}
				}
				took += time.Since(begin)
			}
			b.ReportMetric(float64(floor.Microseconds())/1000/float64(b.N), "floor-ms/op")
			b.ReportMetric(float64(took)/float64(floor), "x-floor")
		})
	}
}
