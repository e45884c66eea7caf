// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestNoForeignTarget: with every profile enabled, whatever a Workstation asks
// for, an onion service leads to that Workstation, and what goes to Tor is one
// line of printable ASCII.
func TestNoForeignTarget(t *testing.T) {
	root := everythingEnabled(t)
	merge(t, root, 0)
	f := loaded(t, root)
	target := regexp.MustCompile(`^[0-9]{1,5},10\.152\.152\.11(:[0-9]{1,5})?$`)
	pieces := []string{
		"NEW:", "ED25519-V3", "NEW:ED25519-V3", "NEW:BEST", "ED25519-V3:", "RSA1024:", "QUJD", " ", " ", "  ", "Port=", " Port=", " port=", " PORT=", "9999", "80", "22", "8333", "8334", "9878", "15441", "33750", "17646", "8181", "64738", "9735", "1", "0", ",", ",", ":",
		"127.0.0.1", "0.0.0.0", "192.0.2.7", "127.0.0.1:9052", "unix:/run/tor/control", "[::]", "[::]:15000", "[::1]", "#", "\"", "'", "\\", "=", "{}", "{client-address}", "{0}", "10.152.152.11", " Flags=DiscardPK,Detach", " Flags=Detach", " Flags=V3Auth", " Flags=BasicAuth",
		" ClientAuthV3=", " ClientAuth=onionshare", "\v", "\t", "\r", "\n", "\x00", "\x1c", "é",
	}
	templates := []string{
		"NEW:ED25519-V3 Port=9999,@", "ED25519-V3:@ Port=9999,@", "@ Port=@,@", "NEW:@ Port=8333,@:8334", "ED25519-V3:@ Flags=DiscardPK,Detach Port=9878,[::]:@", "NEW:@ Port=80,@", "NEW:ED25519-V3 Flags=V3Auth Port=1,1 ClientAuthV3=@",
		"@ Flags=V3Auth Port=80,17600 ClientAuthV3=@", "NEW:@ Port=9878,@:@", "@:@ Port=9878,@:@", "NEW:@ Port=8181,127.0.0.1:@ Port=64738,0.0.0.0:@", "NEW:@ port=15441@", "@", "NEW:ED25519-V3 Port=9735,9735@",
	}
	allowed := 0
	rapid.Check(t, func(t *rapid.T) {
		arguments := rapid.SampledFrom(templates).Draw(t, "template")
		for strings.Contains(arguments, "@") {
			hole := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 3).Draw(t, "hole"), "")
			arguments = strings.Replace(arguments, "@", hole, 1)
		}
		d, ok := f.Match("ADD_ONION", arguments, client())
		if !ok {
			return
		}
		allowed++
		if strings.ContainsFunc(d.Arguments, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q became %q", arguments, d.Arguments)
		}
		if d.AllowAnyTarget || !d.Rewritten {
			t.Fatalf("%q: no rewriting, or no guard", arguments)
		}
		words := strings.Split(d.Arguments, " ")
		ports := 0
		for _, w := range words[1:] {
			if key, value, found := strings.Cut(w, "="); found && strings.EqualFold(key, "Port") {
				ports++
				if !target.MatchString(value) {
					t.Fatalf("%q became %q: %q leads elsewhere", arguments, d.Arguments, value)
				}
			}
		}
		if ports == 0 {
			t.Fatalf("%q became %q: no port", arguments, d.Arguments)
		}
	})
	if allowed == 0 {
		t.Error("nothing was ever allowed: the test shows nothing")
	}
}

// TestOneLineOut: what captured groups hold never ends the line or begins
// another argument, in a rule that takes words.
func TestOneLineOut(t *testing.T) {
	f := one(t, `- commands: {A: [{pattern: '(\S+) x=(\S*)', replacement: 'x={} y={} {client-address}'}]}`)
	rapid.Check(t, func(t *rapid.T) {
		arguments := rapid.StringOf(rapid.RuneFrom([]rune("ax=\"#{}\\ \t\r\n\v\f\x00\x1c\x7f"))).Draw(t, "first") + " x=" + rapid.StringOf(rapid.RuneFrom([]rune("bx={}1 \t\r\n\v\f\x1f"))).Draw(t, "second")
		if d, ok := f.Match("A", arguments, client()); ok {
			if words := strings.FieldsFunc(d.Arguments, func(r rune) bool { return strings.ContainsRune(" \t\r\n\v\f", r) }); len(words) != 3 || strings.Count(d.Arguments, " ") != 2 {
				t.Fatalf("%q became %q", arguments, d.Arguments)
			}
		}
	})
}

// anyValue draws a value as it may be in a profile.
func anyValue(depth int) *rapid.Generator[*value] {
	return rapid.Custom(func(t *rapid.T) *value {
		text := rapid.OneOf(rapid.SampledFrom([]string{"", "yes", "No", "on", "~", "null", "1", "1.5", "0x1f", "1:30", "2026-11-25", "=", "<<", "- a", "a: b", "#x", " x", "x ", "'", "\"", "*", "&a", "!t", "%", "@", "`", "{}", "[]", "?", "|", ">", "\n", "a\nb", "é", "\U0001f600", "\x7f", "\t"}), rapid.String())
		switch n := rapid.IntRange(0, 5).Draw(t, "kind"); {
		case n == 0:
			return &value{kind: null}
		case n == 1:
			return &value{kind: boolean, text: rapid.SampledFrom([]string{"true", "false"}).Draw(t, "bool")}
		case n == 2 && depth > 0:
			return &value{kind: list, items: rapid.SliceOfN(anyValue(depth-1), 0, 3).Draw(t, "items")}
		case n == 3 && depth > 0:
			v := &value{kind: mapping}
			for _, key := range rapid.SliceOfNDistinct(text, 0, 3, rapid.ID).Draw(t, "keys") {
				v.set(key, anyValue(depth-1).Draw(t, "value"))
			}
			return v
		}
		return &value{kind: str, text: text.Draw(t, "text")}
	})
}

// TestEmitRoundTrip: whatever is written is read back as it was.
func TestEmitRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfN(anyValue(3), 1, 3).Draw(t, "items")
		text := emit(items)
		got, err := parseYAML("/x.yml", []byte(text), func(_ int, warning string) { t.Errorf("%s", warning) })
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !equal(got, &value{kind: list, items: items}) {
			t.Fatalf("read back otherwise:\n%s", text)
		}
	})
}
