// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestBind: each kind of address with each kind of socket.
func TestBind(t *testing.T) {
	all := Settings{Addr: netip.MustParseAddr("192.0.2.1"), Addr6: netip.MustParseAddr("2001:db8::1"), Port: 4444}
	only4, only6 := Settings{Addr: all.Addr, Port: 4444}, Settings{Addr6: all.Addr6}
	for _, c := range []struct {
		s           Settings
		domain      int
		asked, want string
	}{
		{all, unix.AF_INET, "127.0.0.1:80", "192.0.2.1:4444"},
		{all, unix.AF_INET, "0.0.0.0:0", "192.0.2.1:4444"},
		{Settings{Addr: all.Addr}, unix.AF_INET, "127.0.0.1:80", "192.0.2.1:80"},
		{Settings{Port: 1}, unix.AF_INET, "127.0.0.1:80", "127.0.0.1:1"},
		{Settings{Addr: netip.IPv4Unspecified()}, unix.AF_INET, "127.0.0.1:80", "0.0.0.0:80"},
		{only6, unix.AF_INET, "127.0.0.1:80", "127.0.0.1:80"},
		{all, unix.AF_INET6, "[::]:80", "[2001:db8::1]:4444"},
		{all, unix.AF_INET6, "[::1]:80", "[2001:db8::1]:4444"},
		{all, unix.AF_INET6, "[::ffff:127.0.0.1]:80", "[::ffff:192.0.2.1]:4444"},
		{only6, unix.AF_INET6, "[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80"},
		{only4, unix.AF_INET6, "[::]:80", "[::]:80"},
		{only4, unix.AF_INET6, "[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80"},
		{all, unix.AF_INET, "[::1]:80", "[::1]:80"},          // the kernel refuses it
		{all, unix.AF_INET6, "127.0.0.1:80", "127.0.0.1:80"}, // and this
	} {
		if got := decode(c.s.Bind(Family{Domain: c.domain}, encode(c.asked))); got != c.want {
			t.Errorf("%v, family %d: %s became %s, want %s", c.s, c.domain, c.asked, got, c.want)
		}
	}
	zone := all.Bind(Family{unix.AF_INET6, 7}, encode("[::]:80")[:minInet6])
	if len(zone) != sizeInet6 || zone[offsetScope] != 7 {
		t.Errorf("a short address became %x", zone)
	}
	old := make([]byte, sizeInet4) // AF_UNSPEC and any
	if got := decode(all.Bind(Family{Domain: unix.AF_INET}, old)); got == "" || old[offsetAddr4] != 0 {
		t.Errorf("without a family: %s", got)
	}
}

func TestConnect(t *testing.T) {
	all := Settings{Addr: netip.MustParseAddr("192.0.2.1"), Addr6: netip.MustParseAddr("2001:db8::1"), Port: 4444}
	for _, c := range []struct {
		s           Settings
		domain      int
		asked, want string
	}{
		{all, unix.AF_INET, "127.0.0.1:80", "192.0.2.1:4444"},
		{Settings{Port: 1}, unix.AF_INET, "127.0.0.1:80", "0.0.0.0:1"},
		{Settings{ReuseAddr: true}, unix.AF_INET, "127.0.0.1:80", ""},
		{Settings{Addr6: all.Addr6}, unix.AF_INET, "127.0.0.1:80", ""},
		{all, unix.AF_INET, "[::1]:80", ""},
		{all, unix.AF_INET6, "[::1]:80", "[2001:db8::1]:4444"},
		{all, unix.AF_INET6, "[::ffff:127.0.0.1]:80", "[::ffff:192.0.2.1]:4444"},
		{all, unix.AF_INET6, "127.0.0.1:80", "[::ffff:192.0.2.1]:4444"},
		{Settings{Addr6: all.Addr6}, unix.AF_INET6, "[::ffff:127.0.0.1]:80", ""},
		{Settings{Addr6: all.Addr6, Port: 4}, unix.AF_INET6, "[::ffff:127.0.0.1]:80", "[::]:4"},
		{Settings{Addr: all.Addr, Port: 4}, unix.AF_INET6, "[::1]:80", ""},
	} {
		got := ""
		if source := c.s.Connect(Family{Domain: c.domain}, encode(c.asked)); source != nil {
			got = decode(source)
		}
		if got != c.want {
			t.Errorf("%v, family %d: to %s from %q, want %q", c.s, c.domain, c.asked, got, c.want)
		}
	}
	disconnect := make([]byte, sizeInet4)
	for _, domain := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX} {
		if all.Connect(Family{Domain: domain}, disconnect) != nil {
			t.Errorf("family %d: disconnecting binds", domain)
		}
	}
}

// TestRewriteProperty: whatever is asked for, the caller's bytes stay, no
// other family is rewritten, and IPv4 never ends elsewhere than at BIND_ADDR.
func TestRewriteProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := settings(t)
		f := Family{rapid.SampledFrom([]int{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX, unix.AF_NETLINK}).Draw(t, "domain"), 3}
		asked := rapid.SliceOfN(rapid.Byte(), 0, maxAddress).Draw(t, "address")
		if len(asked) >= sizeFamily && rapid.Bool().Draw(t, "has a family") {
			asked[0], asked[1] = byte(rapid.SampledFrom([]int{unix.AF_INET, unix.AF_INET6, unix.AF_UNSPEC}).Draw(t, "family")), 0
		}
		before := bytes.Clone(asked)
		got, source := s.Bind(f, asked), s.Connect(f, asked)
		if !bytes.Equal(asked, before) {
			t.Fatal("the argument was changed")
		}
		switch {
		case f.Domain == unix.AF_INET && isInet4(asked, true) && s.Addr.IsValid():
			if netip.AddrFrom4([4]byte(got[offsetAddr4:])) != s.Addr {
				t.Fatalf("%x became %x", asked, got)
			}
		case f.Domain == unix.AF_UNIX, f.Domain == unix.AF_NETLINK, f.Domain == unix.AF_INET6 && !s.Addr6.IsValid():
			if !bytes.Equal(got, asked) || source != nil {
				t.Fatalf("family %d: %x became %x, from %x", f.Domain, asked, got, source)
			}
		}
	})
}
