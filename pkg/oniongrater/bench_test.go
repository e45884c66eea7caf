// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// shippedProfiles are the default profile and all examples.
func shippedProfiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("../../scripts/onion-grater/*.yml")
	if err != nil || len(files) != 10 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	return append([]string{"../../etc/onion-grater-merger.d/30_whonix-default.yml"}, files...)
}

// everythingEnabled is a root with the default profile and all examples.
func everythingEnabled(t testing.TB) fsx.Root {
	t.Helper()
	root := fsx.Root(t.TempDir())
	for i, file := range shippedProfiles(t) {
		dir := localProfiles
		if i == 0 {
			dir = systemProfiles
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, root, dir+"/"+filepath.Base(file), string(data))
	}
	return root
}

func write(t testing.TB, root fsx.Root, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(root.Path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root.Path(path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkMerge: the merger with all profiles, in this process.
func BenchmarkMerge(b *testing.B) {
	root := everythingEnabled(b)
	env := cli.Env{Args: []string{"onion-grater-merger", "--root", string(root)}, Stdout: io.Discard, Stderr: os.Stderr}
	for b.Loop() {
		if err := Merge(b.Context(), env); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMergerProcess: the same from exec to exit, in turn with a program that
// does nothing, and with the original.
func BenchmarkMergerProcess(b *testing.B) {
	root := everythingEnabled(b)
	programs := []contestant{minimal(b), {"ours", []string{built(b, "whonix-networking/cmd/onion-grater-merger"), "--root", string(root)}}}
	if *original != "" {
		programs = append(programs, contestant{"original", []string{"/usr/bin/python3", "-IBu", filepath.Join(filepath.Dir(*original), "onion-grater-merger")}})
	}
	there := "mount --bind " + root.Path("/etc") + " /etc && mount --bind " + root.Path("/usr/local/etc") + " /usr/local/etc"
	took := map[string][]time.Duration{}
	for range min(max(b.N, 20), 100) {
		for _, c := range programs {
			took[c.name] = append(took[c.name], run(b, there, c.words))
		}
	}
	reportMillis(b, took)
}

// BenchmarkLoad: what the proxy does for a new client, with all profiles.
func BenchmarkLoad(b *testing.B) {
	root := everythingEnabled(b)
	env := cli.Env{Args: []string{"onion-grater-merger", "--root", string(root)}, Stdout: io.Discard, Stderr: os.Stderr}
	if err := Merge(b.Context(), env); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if len(Load(root, func(text string) { b.Fatal(text) })) != 1 {
			b.Fatal("nothing loaded")
		}
	}
}

// BenchmarkMatch: one command that is allowed by the last rule, and one that is
// filtered.
func BenchmarkMatch(b *testing.B) {
	root := everythingEnabled(b)
	env := cli.Env{Args: []string{"onion-grater-merger", "--root", string(root)}, Stdout: io.Discard, Stderr: os.Stderr}
	if err := Merge(b.Context(), env); err != nil {
		b.Fatal(err)
	}
	f := Load(root, func(text string) { b.Fatal(text) })[0]
	for name, line := range map[string][2]string{
		"allowed": {"ADD_ONION", "NEW:ED25519-V3 Port=22,22"}, "filtered": {"ADD_ONION", "NEW:ED25519-V3 Port=22,127.0.0.1:22"}, "plain": {"GETINFO", "version"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f.Match(line[0], line[1], client())
			}
		})
	}
}
