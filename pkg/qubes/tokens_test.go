// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"whonix-networking/pkg/fsx"
)

func testMappings() substitutes {
	return substitute([]mapping{
		{place: place{family: ipv4}, olds: []netip.Addr{netip.MustParseAddr("10.137.0.7"), netip.MustParseAddr("10.152.152.10")}, now: netip.MustParseAddr("10.200.3.4")},
		{place: place{family: ipv6}, olds: []netip.Addr{netip.MustParseAddr("fd19:c33d:88bc::10")}, now: netip.MustParseAddr("fd00::9")},
	})
}

// TestRewrite: what is an address, and what only looks like one (defect 32).
func TestRewrite(t *testing.T) {
	s := testMappings()
	for in, want := range map[string]string{
		"10.152.152.10":                            "10.200.3.4",
		"10.137.0.7 10.137.0.0/24":                 "10.200.3.4 10.200.3.0/24",
		"10.152.152.10:9050":                       "10.200.3.4:9050",
		"110.152.152.10":                           "110.152.152.10",
		"10.152.152.101":                           "10.152.152.101",
		"10.152.152.10.1":                          "10.152.152.10.1",
		".10.152.152.10":                           ".10.152.152.10",
		"010.152.152.10":                           "010.152.152.10",
		"'10.152.152.10'":                          "'10.200.3.4'",
		"::ffff:10.152.152.10":                     "::ffff:10.200.3.4",
		"fd19:c33d:88bc::10":                       "fd00::9",
		"fd19:c33d:88bc:0:0:0:0:0010":              "fd00::9",
		"FD19:C33D:88BC::10":                       "fd00::9",
		"fd19:c33d:88bc::0.0.0.16":                 "fd00::9",
		"[fd19:c33d:88bc::10]:9050":                "[fd00::9]:9050",
		"fd19:c33d:88bc::0/96 fd19:c33d:88bc::/96": "fd00::0/96 fd00::0/96",
		"fd19:c33d:88bc::10ab":                     "fd19:c33d:88bc::10ab",
		"fd19:c33d:88bc::10%eth1":                  "fd19:c33d:88bc::10%eth1",
		"afd19:c33d:88bc::10":                      "afd19:c33d:88bc::10",
		"xfd19:c33d:88bc::10":                      "xfd19:c33d:88bc::10",
		"fd19:c33d:88bc::10x":                      "fd19:c33d:88bc::10x",
		"fd19:c33d:88bc::10.":                      "fd00::9.",
		"ip:fd19:c33d:88bc::10":                    "ip:fd00::9",
		" \t# 10.152.152.10":                       " \t# 10.152.152.10",
		"x # 10.152.152.10":                        "x # 10.200.3.4",
		"#\r10.152.152.10\n10.152.152.10":          "#\r10.152.152.10\n10.200.3.4",
		":":                                        ":",
		"::":                                       "::",
		"":                                         "",
	} {
		if got := string(s.rewrite([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestRewriteAtOnce: an address that is old for the one and new for the other
// is replaced once.
func TestRewriteAtOnce(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	s := substitute([]mapping{{olds: []netip.Addr{a}, now: b}, {olds: []netip.Addr{b}, now: c}})
	if got := string(s.rewrite([]byte("10.0.0.1 10.0.0.2"))); got != "10.0.0.2 10.0.0.3" {
		t.Error(got)
	}
}

// FuzzRewrite: nothing but addresses changes: parted at the new addresses the
// text is what it was, parted at the old ones; and a second run finds nothing.
func FuzzRewrite(f *testing.F) {
	for _, seed := range []string{torrcBefore, "fd19:c33d:88bc::10\xe9 10.152.152.10", "[::]:1 :10.152.152.10: ..", "# 10.152.152.10\n\n10.152.152.0"} {
		f.Add([]byte(seed))
	}
	s := testMappings()
	f.Fuzz(func(t *testing.T, text []byte) {
		after := s.rewrite(text)
		if again := s.rewrite(after); !bytes.Equal(again, after) {
			t.Fatalf("%q, and then %q", after, again)
		}
		if bytes.Count(text, []byte("\n")) != bytes.Count(after, []byte("\n")) {
			t.Fatalf("lines were lost: %q %q", text, after)
		}
		other := func(c rune) rune {
			if c < 0x80 && inAddress(byte(c)) {
				return -1
			}
			return c
		}
		if !bytes.Equal(bytes.Map(other, text), bytes.Map(other, after)) {
			t.Fatalf("more than addresses changed: %q %q", text, after)
		}
	})
}

// BenchmarkReplaceIPs1000Files has 1,000 files to be read, of which one in ten
// holds the address.
func BenchmarkReplaceIPs1000Files(b *testing.B) {
	root := fsx.Root(b.TempDir())
	const files = 1000
	text := bytes.Repeat([]byte("SocksPort 10.152.152.11:9050 IsolateDestAddr # nothing to see\n"), 20)
	name := func(i int) string { return fmt.Sprintf("/etc/%d", i) }
	if err := os.MkdirAll(root.Path("/etc"), 0o755); err != nil {
		b.Fatal(err)
	}
	s := testMappings()
	for b.Loop() {
		b.StopTimer()
		for i := range files {
			content := text
			if i%10 == 0 {
				content = append(bytes.Clone(text), "SocksPort 10.152.152.10:9100\n"...)
			}
			if err := os.WriteFile(filepath.Join(string(root), name(i)), content, 0o644); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		for i := range files {
			if _, err := edit(root, name(i), s.rewrite); err != nil {
				b.Fatal(err)
			}
		}
	}
}
