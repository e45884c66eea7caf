// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// benchFiles is the size of a small Debian.
const benchFiles = 10000

// benchMachine is a root with as many files, some of them setuid, and the
// shipped policy.
func benchMachine(b *testing.B) *machine {
	b.Helper()
	m := newMachine(b)
	shipped(m)
	for i := range benchFiles {
		mode := uint32(0o755)
		if i%400 == 0 { // 25 of them, as a desktop has
			mode = 0o4755
		}
		m.file(fmt.Sprintf("/usr/%s/d%d/f%d", []string{"bin", "lib", "sbin", "lib/x"}[i%4], i/40, i), mode)
	}
	for _, dir := range []string{"/boot", "/home", "/root", "/etc/cron.d", "/etc/cron.daily", "/etc/sudoers.d", "/usr/src", "/usr/lib/modules"} {
		m.mkdir(dir)
	}
	return m
}

// walk is the least that any program has to do: each file's lstat(2).
func walk(b *testing.B, m *machine) time.Duration {
	b.Helper()
	start := time.Now()
	n := 0
	err := filepath.WalkDir(m.root.Path("/usr"), func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		var st syscall.Stat_t
		n++
		return syscall.Lstat(p, &st)
	})
	if err != nil || n < benchFiles {
		b.Fatalf("%d files, %v", n, err)
	}
	return time.Since(start)
}

// BenchmarkHardenerCold: nothing was hardened yet; beside it a plain walk.
func BenchmarkHardenerCold(b *testing.B) {
	m := benchMachine(b)
	var floor, own time.Duration
	for b.Loop() {
		b.StopTimer()
		if r := m.hardener("disable", disableAll); r.code != 0 {
			b.Fatalf("%s%s", r.out, r.err)
		}
		if err := os.RemoveAll(m.root.Path(hardenerStore)); err != nil {
			b.Fatal(err)
		}
		floor += walk(b, m)
		b.StartTimer()
		start := time.Now()
		if r := m.hardener("enable"); r.code != 0 {
			b.Fatalf("%s%s", r.out, r.err)
		}
		own += time.Since(start)
	}
	b.ReportMetric(own.Seconds()/floor.Seconds(), "x-walk")
}

// BenchmarkHardenerUnchanged: everything is as wanted.
func BenchmarkHardenerUnchanged(b *testing.B) {
	m := benchMachine(b)
	if r := m.hardener("enable"); r.code != 0 {
		b.Fatalf("%s%s", r.out, r.err)
	}
	var floor, own time.Duration
	for b.Loop() {
		b.StopTimer()
		floor += walk(b, m)
		b.StartTimer()
		start := time.Now()
		if r := m.hardener("enable"); r.code != 0 || r.err != "" {
			b.Fatalf("%s%s", r.out, r.err)
		}
		own += time.Since(start)
	}
	b.ReportMetric(own.Seconds()/floor.Seconds(), "x-walk")
}
