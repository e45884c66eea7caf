// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"os"
	"strings"
	"testing"
)

// addProfiles seeds a target with what is shipped.
func addProfiles(f *testing.F, add func(text string)) {
	for _, file := range shippedProfiles(f) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		add(string(data))
	}
}

// FuzzLoad: whatever a file holds, it loads or is told of in one line each, and
// the filter answers.
func FuzzLoad(f *testing.F) {
	addProfiles(f, func(text string) { f.Add(text) })
	f.Add("- &a {commands: {A: [*b], <<: *a}}\n")
	f.Add(bomb())
	f.Fuzz(func(t *testing.T, text string) {
		filters, problems, document := compile("/x.yml", []byte(text), patterns{})
		for _, p := range problems {
			if strings.ContainsAny(p.String(), "\n\r") {
				t.Errorf("%q is more than one line", p.String())
			}
		}
		if (document == nil) != (filters == nil && Broken(problems)) && len(filters) > 0 {
			t.Errorf("%d filters of no document", len(filters))
		}
		for _, filter := range filters {
			for name := range filter.commands {
				if d, ok := filter.Match(name, "a b=c", client()); ok && strings.ContainsAny(d.Arguments, "\r\n") {
					t.Errorf("%q", d.Arguments)
				}
			}
		}
	})
}

// FuzzPattern: a pattern is refused with a reason in one line, or matches
// whole texts without further ado.
func FuzzPattern(f *testing.F) {
	for _, p := range historic() {
		f.Add(p, "NEW:ED25519-V3 Port=80,80")
	}
	f.Add(`[^\s\x00-\x1f]{2,}?(?i:a|b)\Z`, "ab")
	f.Fuzz(func(t *testing.T, text, subject string) {
		p, err := compilePattern(text)
		if err != nil {
			if err.Error() == "" {
				t.Error("no reason")
			}
			return
		}
		groups := p.match(subject[:min(len(subject), 10240)])
		if groups != nil && len(groups) != p.groups {
			t.Errorf("%d groups, %d expected", len(groups), p.groups)
		}
		for _, g := range groups {
			if !strings.Contains(subject, g) {
				t.Errorf("%q is not of %q", g, subject)
			}
		}
	})
}

// FuzzReplacement: a replacement is refused, or what comes out consists of its
// own text, the groups and the four values: no line end is added.
func FuzzReplacement(f *testing.F) {
	f.Add("NEW:{} Port={},{client-address}:{}", "a", "b")
	f.Add("{0}{{}}{1}", "{}", "")
	f.Add("{client-port}{server-address}{server-port}", "x", "y")
	f.Fuzz(func(t *testing.T, text, a, b string) {
		format, err := compileFormat(text, 2)
		if err != nil {
			return
		}
		out := format.expand([]string{a, b}, client())
		if strings.ContainsAny(out, "\r\n\x00") && !strings.ContainsAny(a+b, "\r\n\x00") {
			t.Errorf("%q became %q", text, out)
		}
		if strings.Contains(a, "{") && !strings.ContainsAny(text, "{}") && out != text {
			t.Errorf("%q became %q", text, out)
		}
	})
}

// FuzzMerge: of any two files the union loads, and what a file alone takes
// away stays away.
func FuzzMerge(f *testing.F) {
	var last string
	addProfiles(f, func(text string) { f.Add(text, last); last = text })
	f.Add("- {events: {CIRC: {suppress: on}}, tor-browser-mode: x}\n", "- {events: {circ: }, name: 1}\n- {combine: true}\n")
	f.Fuzz(func(t *testing.T, first, second string) {
		known := patterns{}
		var sources []*value
		mode := false
		for _, text := range []string{first, second} {
			filters, problems, document := compile("/x.yml", []byte(text), known)
			if document == nil || Broken(problems) {
				continue
			}
			sources = append(sources, document)
			for _, filter := range filters {
				mode = mode || filter.TorBrowserMode && !filter.Combine
			}
		}
		values := merged(sources, "name", func(string) {})
		text := emit(values)
		filters, problems, document := compile("/y.yml", []byte(text), known)
		if Broken(problems) || document == nil {
			t.Fatalf("%v\n%s", problems, text)
		}
		for i, v := range document.items {
			if !equal(v, values[i]) {
				t.Fatalf("read back otherwise:\n%s", text)
			}
		}
		if mode && !filters[0].TorBrowserMode {
			t.Errorf("tor-browser-mode was lost:\n%s", text)
		}
	})
}

// FuzzAssignments: what the splitter accepts is all there is: joined again it
// is the text, but for how many blanks there are.
func FuzzAssignments(f *testing.F) {
	for _, text := range []string{`foo=1 Foo="a b" bar`, `a="\"" b=`, `a="b"c`, `=`, `a  b`, `a="\\" b`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		assignments, ok := splitAssignments(text)
		if !ok {
			return
		}
		var again []string
		for _, a := range assignments {
			part := a.name
			if !a.bare {
				part += "=" + a.value
			}
			if strings.ContainsAny(a.name, " =\"\t") || strings.ContainsAny(a.value, " \t\r\n\v\f") && !strings.HasPrefix(a.value, `"`) {
				t.Errorf("%q has %q", text, part)
			}
			again = append(again, part)
		}
		squeezed := text
		if !strings.Contains(text, `"`) {
			squeezed = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' }), " ")
		}
		if joined := strings.Join(again, " "); joined != squeezed && !strings.Contains(text, "  ") {
			t.Errorf("%q became %q", text, joined)
		}
	})
}
