// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func lookupIn(env ...string) func(string) string {
	return func(variable string) string {
		for _, kv := range env {
			if v, ok := strings.CutPrefix(kv, variable+"="); ok {
				return v
			}
		}
		return ""
	}
}

// TestIPv4Forms: the forms of inet_aton(3), and what is none of them (B4).
func TestIPv4Forms(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "10.1": "10.0.0.1", "10.1.2": "10.1.0.2", "167772161": "10.0.0.1", "0x7f000001": "127.0.0.1",
		"0X7f.1": "127.0.0.1", "0177.0.0.01": "127.0.0.1", "10.0.0.1 trailing": "10.0.0.1", "10.0.0.1\n": "10.0.0.1", "0.0.0.0": "0.0.0.0",
		"0": "0.0.0.0", "255.255.255.255": "255.255.255.255", "1.65535": "1.0.255.255", "1.2.65535": "1.2.255.255", "4294967295": "255.255.255.255",
		"": "", "x": "", "80abc": "", "1.2.3.4.5": "", "256.1.1.1": "", "1.2.3.256": "", "1.2.65536": "", "1.16777216": "", "4294967296": "",
		" 1.2.3.4": "", "1..2": "", ".1": "", "1.": "", "08": "", "0x": "", "-1": "", "+1": "", "1_0": "", "1.2.3.4x": "", "::1": "",
	} {
		got, ok := parseIPv4(text)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: %v, %v; want %q", text, got, ok, want)
		}
	}
}

func TestParseSettings(t *testing.T) {
	for _, c := range []struct {
		env  string
		want Settings
	}{
		{"", Settings{}},
		{"BIND_ADDR= BIND_PORT= REUSE_ADDR= BIND_ADDR6=", Settings{}},
		{"BIND_PORT=0 REUSE_ADDR=0", Settings{}},
		{"BIND_ADDR=0.0.0.0", Settings{Addr: netip.IPv4Unspecified()}},
		{"BIND_ADDR=10.1 BIND_PORT=0080", Settings{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80}},
		{"BIND_ADDR6=fe80::1%lo IP_TRANSPARENT=1", Settings{Addr6: netip.MustParseAddr("fe80::1%lo"), Transparent: true}},
		{"BIND_ADDR6=:: REUSE_ADDR=1 REUSE_PORT=1 BIND_PORT=65535", Settings{Addr6: netip.IPv6Unspecified(), ReuseAddr: true, ReusePort: true, Port: 65535}},
	} {
		got, ignored, err := ParseSettings(lookupIn(strings.Fields(c.env)...))
		if got != c.want || len(ignored) != 0 || err != nil {
			t.Errorf("%q: %+v, %v, %v; want %+v", c.env, got, ignored, err, c.want)
		}
	}
	_, ignored, err := ParseSettings(lookupIn("REUSE_ADDR=2", "REUSE_PORT=true", "IP_TRANSPARENT=01"))
	if len(ignored) != 3 || err != nil {
		t.Errorf("ignored %v, %v", ignored, err)
	}
}

// settings draws settings of any kind.
func settings(t *rapid.T) Settings {
	var s Settings
	if rapid.Bool().Draw(t, "has IPv4") {
		s.Addr = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "IPv4")))
	}
	if rapid.Bool().Draw(t, "has IPv6") {
		s.Addr6 = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "IPv6")))
		if s.Addr6.Is4In6() {
			s.Addr6 = netip.IPv6Unspecified()
		}
	}
	s.Port = rapid.OneOf(rapid.Just(uint16(0)), rapid.Uint16()).Draw(t, "port")
	s.ReuseAddr, s.ReusePort, s.Transparent = rapid.Bool().Draw(t, "a"), rapid.Bool().Draw(t, "p"), rapid.Bool().Draw(t, "t")
	return s
}

// TestSettingsProperty: settings written as variables are read as the same.
func TestSettingsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := settings(t)
		got, ignored, err := ParseSettings(lookupIn(s.Environ()...))
		if got != s || len(ignored) != 0 || err != nil {
			t.Fatalf("%+v became %+v, %v, %v", s, got, ignored, err)
		}
	})
}

// FuzzSettings: no value makes reading fail other than by an error, and what
// is read can be written.
func FuzzSettings(f *testing.F) {
	f.Add("10.1", "::1", "80", "1")
	f.Add("0x7f.1 x", "fe80::1%eth0", "65536", "2")
	f.Fuzz(func(t *testing.T, addr, addr6, port, flag string) {
		s, _, err := ParseSettings(lookupIn("BIND_ADDR="+addr, "BIND_ADDR6="+addr6, "BIND_PORT="+port, "REUSE_ADDR="+flag))
		if err != nil {
			if !s.Nothing() {
				t.Errorf("an error and settings: %+v", s)
			}
			return
		}
		again, _, err := ParseSettings(lookupIn(s.Environ()...))
		if err != nil || again != s {
			t.Errorf("%+v became %+v: %v", s, again, err)
		}
	})
}
