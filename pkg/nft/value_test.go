// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func service(name string) (uint16, bool) { return 22, name == "ssh" || name == "bad name" }

func account(name string) (uint32, bool) { return 102, name == "debian-tor" || name == "a;b" }

func TestParsePorts(t *testing.T) {
	for _, c := range []struct {
		in, text    string
		first, last uint16
	}{
		{"22", "22", 22, 22}, {"1-65535", "1-65535", 1, 65535}, {"1000:2000", "1000-2000", 1000, 2000}, {"ssh", "ssh", 22, 22},
		{"0080", "80", 80, 80}, {"7-7", "7", 7, 7},
	} {
		p, err := ParsePorts(c.in, service)
		if err != nil || p != (Ports{c.text, c.first, c.last}) {
			t.Errorf("%q: %+v, %v", c.in, p, err)
		}
	}
	for _, in := range []string{"", "0", "65536", "-1", "+1", "22#x", "22,23", "2-1", "1-", "-", "1-2-3", "1-ssh", "http x", "bad name", "0x16", "1_0", " 22"} {
		if p, err := ParsePorts(in, service); err == nil {
			t.Errorf("%q accepted: %+v", in, p)
		}
	}
}

func TestParseNet(t *testing.T) {
	for _, c := range []struct{ in, family, first, last string }{
		{"10.0.2.2", "ip", "10.0.2.2", "10.0.2.2"}, {"10.0.2.2/24", "ip", "10.0.2.0", "10.0.2.255"}, {"10.0.0.1-10.0.0.9", "ip", "10.0.0.1", "10.0.0.9"},
		{"fd19:c33d:88bc::0/96", "ip6", "fd19:c33d:88bc::", "fd19:c33d:88bc::ffff:ffff"}, {"::1/128", "ip6", "::1", "::1"},
		{"::ffff:10.137.0.0/112", "ip6", "::ffff:10.137.0.0", "::ffff:10.137.255.255"}, {"128.0.0.0/1", "ip", "128.0.0.0", "255.255.255.255"},
	} {
		n, err := ParseNet(c.in)
		if err != nil || n.Text != c.in || n.Family() != c.family || n.First != netip.MustParseAddr(c.first) || n.Last != netip.MustParseAddr(c.last) || n.Everything() {
			t.Errorf("%q: %+v, %v", c.in, n, err)
		}
	}
	for _, in := range []string{"", "example.com", "10.0.0", "0/0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/", "fe80::1%eth0", "10.0.0.9-10.0.0.1", "10.0.0.1-::1", "1.2.3.4-", "10.0.0.1 ", "010.0.0.1"} {
		if n, err := ParseNet(in); err == nil {
			t.Errorf("%q accepted: %+v", in, n)
		}
	}
	for _, in := range []string{"0.0.0.0/0", "::/0", "0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		if n, err := ParseNet(in); err != nil || !n.Everything() {
			t.Errorf("%q: %+v, %v", in, n, err)
		}
	}
}

// TestNetAgreesWithPrefix: first and last are those of the standard library's
// prefix, for any prefix.
func TestNetAgreesWithPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
		a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "addr"))
		bits := rapid.IntRange(0, size*8).Draw(t, "bits")
		p := netip.PrefixFrom(a, bits)
		n, err := ParseNet(p.String())
		if err != nil {
			t.Fatal(err)
		}
		if !p.Contains(n.First) || !p.Contains(n.Last) || n.First != p.Masked().Addr() {
			t.Fatalf("%v: %v to %v", p, n.First, n.Last)
		}
		if next := n.Last.Next(); next.IsValid() && p.Contains(next) {
			t.Fatalf("%v: %v is not the last", p, n.Last)
		}
		if !n.Contains(a) {
			t.Fatalf("%v does not contain %v", n, a)
		}
	})
}

func TestParseInterface(t *testing.T) {
	for in, want := range map[string]string{"eth0": "eth0", "vif*": "vif*", "vif+": "vif*", "eth0.10": "eth0.10", "wg-home": "wg-home", "a23456789012345": "a23456789012345"} {
		if i, err := ParseInterface(in); err != nil || i.String() != want {
			t.Errorf("%q: %v, %v", in, i, err)
		}
	}
	for _, in := range []string{"", "*", "+", "abcdefghijklmnop", "eth 0", "eth/0", "eth0;", "0eth", ".", "..", "eth*0", "-eth", "eth\n0", "eth\"", "et{h"} {
		if i, err := ParseInterface(in); err == nil {
			t.Errorf("%q accepted: %v", in, i)
		}
	}
}

// TestOverlap: two patterns overlap exactly if some name matches both.
func TestOverlap(t *testing.T) {
	name := rapid.StringMatching(`[ab]{1,3}`)
	pattern := rapid.Custom(func(t *rapid.T) Interface {
		return Interface{Name: name.Draw(t, "name"), Wildcard: rapid.Bool().Draw(t, "wildcard")}
	})
	var all []string
	for _, a := range []string{"", "a", "b"} {
		for _, b := range []string{"", "a", "b"} {
			for _, c := range []string{"", "a", "b"} {
				all = append(all, a+b+c)
			}
		}
	}
	matches := func(i Interface, name string) bool {
		return i.Name == name || i.Wildcard && strings.HasPrefix(name, i.Name)
	}
	rapid.Check(t, func(t *rapid.T) {
		x, y := pattern.Draw(t, "x"), pattern.Draw(t, "y")
		want := false
		for _, n := range all {
			want = want || matches(x, n) && matches(y, n)
		}
		if x.Overlaps(y) != want || y.Overlaps(x) != want {
			t.Fatalf("%v and %v: want %v", x, y, want)
		}
	})
}

func TestParseUser(t *testing.T) {
	for in, want := range map[string]User{"102": {"102", 102}, "debian-tor": {"debian-tor", 102}, "007": {"7", 7}, "4294967294": {"4294967294", UIDMax}} {
		if u, err := ParseUser(in, account); err != nil || u != want {
			t.Errorf("%q: %+v, %v", in, u, err)
		}
	}
	for _, in := range []string{"", "nobody-here", "4294967295", "-1", "a;b", "1 2"} {
		if u, err := ParseUser(in, account); err == nil {
			t.Errorf("%q accepted: %+v", in, u)
		}
	}
}

// harmless reports whether nft(8) reads text as part of one word.
func harmless(text string) bool {
	return text != "" && !strings.ContainsAny(text, " \t\r\n\x00;\"'{}()#$\\&|<>=!,@`")
}

// FuzzValues: what a parser accepts cannot be more than one word to nft.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{"22", "10.0.0.0/8", "eth0", "vif*", "debian-tor", "a-b", "22#x", "::1", "1.2.3.4-1.2.3.9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		known := func(string) bool { return true }
		if p, err := ParsePorts(in, func(n string) (uint16, bool) { return 1, known(n) }); err == nil && (!harmless(p.Text) || p.First == 0 || p.First > p.Last) {
			t.Errorf("port %q: %+v", in, p)
		}
		if n, err := ParseNet(in); err == nil && (!harmless(n.Text) || n.Last.Less(n.First)) {
			t.Errorf("network %q: %+v", in, n)
		}
		if i, err := ParseInterface(in); err == nil && !harmless(i.String()) {
			t.Errorf("interface %q: %+v", in, i)
		}
		if u, err := ParseUser(in, func(n string) (uint32, bool) { return 1, known(n) }); err == nil && !harmless(u.Text) {
			t.Errorf("account %q: %+v", in, u)
		}
	})
}

// TestKernelTakesValues: nft reads each form of value as it was meant.
func TestKernelTakesValues(t *testing.T) {
	inNamespace(t)
	script := append(dropAll(),
		Rule{testOutput, []Match{OIfName{Interface{Name: "vif", Wildcard: true}}, DPort{"tcp", PortRange(1, 65535)}}, Accept{}},
		Rule{testOutput, []Match{OIfName{Interface{Name: "eth0.10"}}, L4Proto{Not: true, Protos: []string{"tcp", "udp"}}}, Reject{}},
	)
	for _, text := range []string{"10.0.2.2/24", "10.0.0.1-10.0.0.9", "fd19:c33d:88bc::0/96", "::ffff:10.137.0.0/112"} {
		n, err := ParseNet(text)
		if err != nil {
			t.Fatal(err)
		}
		script = append(script, Rule{testOutput, []Match{DAddr{n}, SKUID{User{"102", 102}}}, Drop{}})
	}
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	listed := command(t, "nft", "list", "ruleset")
	for _, want := range []string{`oifname "vif*" tcp dport 1-65535`, `oifname "eth0.10" meta l4proto != { tcp, udp }`, "ip daddr 10.0.2.0/24 meta skuid 102", "ip daddr 10.0.0.1-10.0.0.9"} {
		if !strings.Contains(listed, want) {
			t.Errorf("no %q in\n%s", want, listed)
		}
	}
}

// TestComplaint: of nft's long answers the first error counts.
func TestComplaint(t *testing.T) {
	const said = "/dev/stdin:3:1-2: Error: syntax error\nadd x\n^^^\n/dev/stdin:4:1-2: Error: another\n"
	if got := complaint(said); got != "/dev/stdin:3:1-2: Error: syntax error" {
		t.Errorf("%q", got)
	}
	if got := complaint("killed\nmore"); got != "killed" {
		t.Errorf("%q", got)
	}
}
