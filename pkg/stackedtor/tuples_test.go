// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// FuzzTuples: whatever a drop-in says, units have one line for each setting,
// names that systemd takes, and no two the same; each word comes from the part
// it was written in.
func FuzzTuples(f *testing.F) {
	for _, s := range []string{Builtin(), "port#1 port#1:2", "file#/a:1 file6#/a:2", "/a#1 /a#b:2", "file#@x:1", "file#/a_b/c:1 file#/a/b_c:1", "# ## port# #1", "file#/%\\'\":1", "port6#[::1]:1"} {
		f.Add(s, " port#2:3")
	}
	name := regexp.MustCompile(`^[a-zA-Z0-9:_.\\-]+$`)
	f.Fuzz(func(t *testing.T, one, two string) {
		origins := []confd.Origin{{File: "/one", Line: 1}, {File: "/two", Line: 2}}
		all := words(confd.Value{Text: one + " " + two, Parts: []confd.Part{{Text: one, Origin: origins[0]}, {Text: " " + two, Origin: origins[1]}}})
		blank := func(r rune) bool { return strings.ContainsRune(" \t\n", r) }
		var texts []string
		n := len(strings.FieldsFunc(one, blank))
		for i, w := range all {
			texts = append(texts, w.Text)
			if w.Origin != origins[min(1, max(0, i+1-n))] {
				t.Errorf("%d of %q, %q: %s", i, one, two, w.Origin)
			}
		}
		if want := strings.FieldsFunc(one+" "+two, blank); !slices.Equal(texts, want) {
			t.Errorf("%q, want %q", texts, want)
		}
		out, complaints := Redirections(all)
		if len(out)+len(complaints) > 2*len(all) {
			t.Errorf("%d words, %d redirections, %d complaints", len(all), len(out), len(complaints))
		}
		seen := map[string]bool{}
		for _, r := range out {
			socket, service := r.Units(UnitOptions{Gateway: Gateway{IP: "10.0.0.1", IP6: "fd00::1"}, Relay: relayPath})
			for _, u := range []Unit{socket, service} {
				if seen[u.Name] || len(u.Name) > 255 || !name.MatchString(u.Name) {
					t.Errorf("the name %q", u.Name)
				}
				seen[u.Name] = true
			}
			if n := len(effective(socket.Text)); n != 12 && n != 13 {
				t.Errorf("%d lines: %s", n, socket.Text)
			}
			if n := len(effective(service.Text)); n != 10 && n != 11 {
				t.Errorf("%d lines: %s", n, service.Text)
			}
		}
	})
}

// TestSystemdTakesThem: systemd reads the listeners as they were meant.
func TestSystemdTakesThem(t *testing.T) {
	m := newMachine(t)
	m.write(userDropIn, `file_port_tuples='file#/run/50%/a\b:7 file#/run/"q"/it'"'"'s;x:8 file#@abstract%:9'`+"\n")
	if err := m.generate(); err != nil {
		t.Fatalf("%v %s", err, m.stderr.String())
	}
	m.write(relayPath, "#!/bin/sh\n")
	if err := os.Chmod(m.root.Path(relayPath), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"sysinit", "basic", "sockets", "shutdown"} {
		m.write(shippedUnits+"/"+target+".target", "[Unit]\n")
	}
	args := []string{"verify", "--man=no", "--root=" + string(m.root)}
	args = append(args, m.list(systemUnits)...)
	if len(args) != 3+6 {
		t.Fatalf("%q", args)
	}
	if out, err := exec.Command("systemd-analyze", args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// BenchmarkBoot is what the generator adds to a boot, without the start of the
// program.
func BenchmarkBoot(b *testing.B) {
	for name, files := range map[string][]string{"asked": {whonix.WorkstationMarker, userDropIn, optIn}, "not asked": {whonix.WorkstationMarker, userDropIn}} {
		b.Run(name, func(b *testing.B) {
			root := fsx.Root(b.TempDir())
			for _, f := range files {
				if err := root.MkdirAll(filepath.Dir(f), 0o755); err != nil {
					b.Fatal(err)
				}
				if err := root.WriteAtomic(f, []byte("file_port_tuples+=' port#4444 port#7777:8888 '\n"), 0o644); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := os.RemoveAll(root.Path(bootUnits)); err != nil {
					b.Fatal(err)
				}
				if err := generateAtBoot(context.Background(), cli.Env{Args: []string{bootName, bootUnits}, Stderr: os.Stderr}, root); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
