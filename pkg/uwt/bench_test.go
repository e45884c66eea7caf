// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// BenchmarkWrapper compares whole runs of a wrapped program with those of a
// minimal Go program that executes the same: with the shipped configuration,
// and with a fragment that needs bash. The figure to keep is 1.5 for the first.
func BenchmarkWrapper(b *testing.B) {
	for _, c := range []struct{ name, fragment string }{{"shipped", ""}, {"qubes", "../../etc/uwt.d/40_qubes.conf"}} {
		b.Run(c.name, func(b *testing.B) {
			m := newMachine(b)
			out, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", m.path("/usr/bin/minimal"), "./testdata/minimal").CombinedOutput()
			if err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			if c.fragment != "" {
				m.copy(c.fragment, "/etc/uwt.d/40_qubes.conf")
			}
			done := make(chan error)
			go func() {
				runtime.LockOSThread() // ends with the goroutine, and the mounts with it
				err := m.enter()
				if err == nil {
					err = compare(b)
				}
				done <- err
			}()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// enter lays the machine's tree over the real directories for this thread.
func (m *machine) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, dir := range []string{"/usr", "/etc"} {
		if err := unix.Mount("overlay", dir, "overlay", 0, "lowerdir="+m.path(dir)+":"+dir); err != nil {
			return err
		}
	}
	return unix.Mount(m.path("/run"), "/run", "", unix.MS_BIND, "")
}

// compare runs both in turn and reports medians of blocks: those of single
// runs would show the machine's other work.
func compare(b *testing.B) error {
	const block = 10
	var wrapped, floor []time.Duration
	b.ResetTimer()
	for range b.N {
		for _, c := range []struct {
			program string
			took    *[]time.Duration
		}{{"/usr/bin/rawdog", &wrapped}, {"/usr/bin/minimal", &floor}} {
			begin := time.Now()
			for range block {
				cmd := exec.Command(c.program)
				cmd.Env = []string{"PATH=/usr/bin", "LIBRARY=" + libraryPath(fsx.Host)}
				if err := cmd.Run(); err != nil {
					return err
				}
			}
			*c.took = append(*c.took, time.Since(begin)/block)
		}
	}
	slices.Sort(wrapped)
	slices.Sort(floor)
	w, f := wrapped[len(wrapped)/2], floor[len(floor)/2]
	b.ReportMetric(float64(w.Microseconds()), "wrapped-us")
	b.ReportMetric(float64(f.Microseconds()), "minimal-us")
	b.ReportMetric(float64(w)/float64(f), "ratio")
	return nil
}
