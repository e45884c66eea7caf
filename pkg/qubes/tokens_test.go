// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"bytes"
	"net/netip"
	"testing"
)

func testMappings() []mapping {
	return []mapping{
		{place: place{family: ipv4}, olds: []netip.Addr{netip.MustParseAddr("10.137.0.7"), netip.MustParseAddr("10.152.152.10")}, now: netip.MustParseAddr("10.200.3.4")},
		{place: place{family: ipv6}, olds: []netip.Addr{netip.MustParseAddr("fd19:c33d:88bc::10")}, now: netip.MustParseAddr("fd00::9")},
	}
}

// TestRewrite: what is an address, and what only looks like one (defect 32).
func TestRewrite(t *testing.T) {
	s := substitute(testMappings())
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
	s := substitute(testMappings())
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
