// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// FuzzRules: whatever a file says, a rule that is taken has a path that leads
// nowhere else and no empty text.
func FuzzRules(f *testing.F) {
	for _, s := range []string{"/opt nosuid", "/x 0755 root root none", `/a\040b matchwhitelist`, "whitelists_disable_all=true", "/ nosuid\n/ matchwhitelist", "/a/../b nosuid"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, wrong := parseRules("/f", data)
		for _, r := range rules {
			switch r.kind {
			case ruleAll:
			case ruleMatch, ruleUnmatch:
				if r.path == "" {
					t.Errorf("%q: empty text", r.text)
				}
			default:
				if path.Clean(r.path) != r.path || r.path[0] != '/' || strings.ContainsAny(r.path, "\n\x00") {
					t.Errorf("%q: path %q", r.text, r.path)
				}
			}
			if r.mode > modeBits {
				t.Errorf("%q: mode %o", r.text, r.mode)
			}
		}
		for _, w := range wrong {
			if w.at.line == 0 || strings.ContainsAny(w.text, "\n\x1b") {
				t.Errorf("complaint %q at %s", w.text, w.at)
			}
		}
	})
}

// TestOverridesRoundTrip: what is written is read again, whatever the names.
func TestOverridesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &overrides{of: map[string]ownership{}}
		for range rapid.IntRange(0, 5).Draw(t, "lines") {
			name := "/" + rapid.StringMatching(`[^\n]{1,20}`).Draw(t, "name")
			d.set(name, ownership{"root", "#12", uint32(rapid.IntRange(0, modeBits).Draw(t, "mode"))})
		}
		back, err := parseOverrides("f", []byte(d.String()))
		if err != nil || back.String() != d.String() || len(back.of) != len(d.of) {
			t.Fatalf("%v: %q", err, d.String())
		}
	})
}

// TestCapabilitiesRoundTrip: attribute and text say the same.
func TestCapabilitiesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := fileCaps{permitted: rapid.Uint64().Draw(t, "permitted"), inheritable: rapid.Uint64().Draw(t, "inheritable")}
		if c.permitted|c.inheritable != 0 {
			c.effective = rapid.Bool().Draw(t, "effective")
			c.rootID = uint32(rapid.IntRange(0, 1<<31).Draw(t, "id"))
		}
		back, err := decodeCaps(c.encode())
		if err != nil || back != c {
			t.Fatalf("%v: %v became %v", err, c, back)
		}
		back, err = parseCaps(c.String())
		if err != nil || back != c {
			t.Fatalf("%q: %v: %v became %v", c.String(), err, c, back)
		}
	})
	for text, want := range map[string]string{"cap_net_raw+ep": "cap_net_raw=ep", "=": "=", "cap_net_admin,cap_net_raw=eip": "cap_net_admin,cap_net_raw=eip", "cap_chown=p cap_net_raw+i": "cap_chown=p cap_net_raw=i"} {
		if c, err := parseCaps(text); err != nil || c.String() != want {
			t.Errorf("%q: %v, %v", text, c, err)
		}
	}
	for _, text := range []string{"cap_net_raw", "cap_none=ep", "cap_net_raw=x", "cap_net_raw=", "[rootid=x]"} {
		if _, err := parseCaps(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	for _, value := range [][]byte{{}, {1, 2, 3}, make([]byte, 20), make([]byte, 24)} {
		if _, err := decodeCaps(value); err == nil {
			t.Errorf("%v is taken", value)
		}
	}
}
