// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// BenchmarkStart measures how long the program itself, and the program under
// the launcher, take from start to end; the difference is the launcher's.
func BenchmarkStart(b *testing.B) {
	n := newNetwork(b)
	launcher := builtLauncher(b)
	for _, c := range []struct {
		name string
		args []string
	}{
		{"direct", []string{"/bin/true"}},
		{"none", []string{launcher, "--mode=none", "/bin/true"}},
		{"address", []string{launcher, "--mode=address", "/bin/true"}},
		{"value", []string{launcher, "--mode=value", "/bin/true"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				cmd := exec.Command(c.args[0], c.args[1:]...)
				cmd.Env = []string{"BIND_ADDR=" + addrA}
				if err := n.Do(cmd.Run); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// builtLauncher is the program as it is installed: the test binary is larger.
func builtLauncher(b *testing.B) string {
	b.Helper()
	path := b.TempDir() + "/" + launcherName
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "../../cmd/bindp-launcher")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return path
}

// BenchmarkBind measures calls of one program, directly and under the launcher:
// a bind, which is intercepted, and a getpid, which is not.
func BenchmarkBind(b *testing.B) {
	n := newNetwork(b)
	for _, what := range []string{"bind", "connect", "getpid"} {
		for _, mode := range []Mode{ModeNone, ModeAddress, ModeValue} {
			b.Run(fmt.Sprintf("%s/%s", what, mode), func(b *testing.B) {
				got := run{env: []string{"BIND_ADDR=" + addrA, "BIND_PORT=4444", "REUSE_ADDR=1"},
					args: probing(b, mode, fmt.Sprintf("measure %s %d", what, b.N))}.in(b, n)
				took, err := time.ParseDuration(strings.TrimSpace(got.out))
				if err != nil || got.err != "" {
					b.Fatalf("%+v, %v", got, err)
				}
				b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/op")
			})
		}
	}
}
