// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// client is who asks in the tests, as in the contract's table.
func client() Values {
	return Values{ClientAddress: "10.152.152.11", ClientPort: "40000", ServerAddress: "10.152.152.10", ServerPort: "9051"}
}

// one compiles a file of one filter in which nothing is wrong.
func one(t *testing.T, text string) *Filter {
	t.Helper()
	filters, problems, _ := compile("/etc/onion-grater.d/x.yml", []byte(text), patterns{})
	if len(filters) != 1 || len(problems) > 0 {
		t.Fatalf("%d filters, %v", len(filters), problems)
	}
	return filters[0]
}

// ask sends one line as the proxy would: in, the line that goes to Tor; empty
// if it is filtered.
func ask(f *Filter, line string) string {
	name, arguments, _ := strings.Cut(line, " ")
	separator := line[len(name) : len(line)-len(arguments)]
	d, ok := f.Match(strings.ToUpper(name), arguments, client())
	if !ok {
		return ""
	}
	if d.Reply != nil {
		return "local: " + strings.Join(d.Reply, "/")
	}
	if d.Rewritten {
		name = strings.ToUpper(name)
	}
	return strings.TrimRight(name+separator+d.Arguments, " ")
}

// asked holds what comes of lines against what is wanted.
func asked(t *testing.T, f *Filter, lines map[string]string) {
	t.Helper()
	for line, want := range lines {
		if got := ask(f, line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// TestRules: the rows 73 and 74 of the contract's table, and defects 5, 7, 14.
func TestRules(t *testing.T) {
	asked(t, one(t, `
- hosts: ['*']
  commands:
    FOO:
      - pattern: 'x( y)?( z)?'
        replacement: 'x{}{} {client-address} {client-port} {server-address} {server-port}'
    E: []
    N: ['']
    Z: null
    A: ['aa|bb']
    B: [{pattern: '(a)(b)', replacement: '{1}{0}{{}}'}]
    C: [{pattern: 'DisableNetwork=([01])', reply: ['250-you={0}', '250 OK']}]
`), map[string]string{
		"FOO x y z": "FOO x y z 10.152.152.11 40000 10.152.152.10 9051",
		"foo x":     "FOO x 10.152.152.11 40000 10.152.152.10 9051",
		"E":         "", "E x": "", "N": "N", "N ": "N", "n": "n", "Z": "",
		"A aabbb": "", "A aa": "A aa", "a bb": "a bb", "A bbb": "", "A xbb": "",
		"B ab": "B ba{}", "C DisableNetwork=1": "local: 250-you=1/250 OK",
		"GETCONF": "", "SETCONF": "",
	})
}

func TestRewriteLine(t *testing.T) {
	f := one(t, `
- commands:
    GETINFO:
      - pattern: a
        response:
          - {pattern: '250-a=(.*)', replacement: '250-a=<{}>'}
          - {pattern: '250-a=x', replacement: 'never'}
`)
	d, ok := f.Match("GETINFO", "a", client())
	if !ok || !d.Responds() {
		t.Fatal(d, ok)
	}
	for line, want := range map[string]string{"250-a=x": "250-a=<x>", "250-a={}": "250-a=<{}>", "250 OK": "250 OK"} {
		got, matched := d.RewriteLine(line, client())
		if got != want || matched != (got != line) {
			t.Errorf("%q: %q, %v", line, got, matched)
		}
	}
}

// TestEvents: the rows 78 to 83 of the contract's table, defects 4 and 39.
func TestEvents(t *testing.T) {
	f := one(t, `
- events:
    HS_DESC:
      response:
        - {pattern: '650 HS_DESC CREATED (\S+) (\S+) \S+', replacement: '650 HS_DESC CREATED {} {} redacted'}
        - {pattern: '650 HS_DESC FAILED', replacement: 'XXXredactedXXX'}
        - {pattern: '650 HS_DESC CONTENT.*', replacement: ''}
    bw:
    NOTICE: {suppress: on}
    CIRC: {strict: true, response: [{pattern: '650 CIRC 1 .*', replacement: '650 CIRC 1'}]}
    STREAM: {strict: true}
`)
	for _, c := range []struct {
		event, line, text string
		verdict           Verdict
	}{
		{"HS_DESC", "650 HS_DESC CREATED a b c", "650 HS_DESC CREATED a b redacted", Replaced},
		{"HS_DESC", "650+HS_DESC CONTENT a", "", Dropped},
		{"HS_DESC", "650-HS_DESC CREATED a b c", "650 HS_DESC CREATED a b redacted", Replaced},
		{"HS_DESC", "650 HS_DESC FAILED", "XXXredactedXXX", Malformed},
		{"HS_DESC", "650 HS_DESC CREATED a", "", Unchanged},
		{"BW", "650 BW 1 2", "", Unchanged},
		{"CIRC", "650 CIRC 2 BUILT", "", Dropped},
		{"CIRC", "650 CIRC 1 BUILT", "650 CIRC 1", Replaced},
		{"STREAM", "650 STREAM 1 NEW", "", Dropped},
	} {
		rule, ok := f.Event(c.event)
		if !ok {
			t.Fatalf("%s is not allowed", c.event)
		}
		if text, verdict := rule.Rewrite(c.line, client()); text != c.text || verdict != c.verdict {
			t.Errorf("%q: %q, %d", c.line, text, verdict)
		}
	}
	if rule, ok := f.Event("NOTICE"); !ok || !rule.Suppress {
		t.Errorf("%v %v", rule, ok)
	}
	if _, ok := f.Event("ADDRMAP"); ok {
		t.Error("an event that is not listed is allowed")
	}
	if diff := cmp.Diff([]string{"BW", "CIRC", "HS_DESC", "NOTICE", "STREAM"}, f.Events()); diff != "" {
		t.Error(diff)
	}
}

// TestUnite: filters of one client make one only if they agree, and what is
// taken away in one is so in the whole.
func TestUnite(t *testing.T) {
	filters, problems, _ := compile("/etc/onion-grater.d/x.yml", []byte(`
- name: first
  commands: {A: [a], B: [{pattern: 'b', replacement: '{}'}], C: [c]}
  confs: {foo: ['1']}
  events: {CIRC: {suppress: true}}
- name: second
  combine: true
  commands: {A: [b], B: ['.*']}
  confs: {foo: ['2']}
  events: {CIRC: , BW: }
  tor-browser-mode: true
- name: third
  commands: {D: [d]}
`), patterns{})
	if len(filters) != 3 || len(problems) != 1 {
		t.Fatal(problems)
	}
	u, ok := Unite(filters[:2])
	if !ok || u.Name != "x/first+x/second" || !u.TorBrowserMode {
		t.Errorf("%v %v", u, ok)
	}
	asked(t, u, map[string]string{"A a": "A a", "A b": "A b", "B b": "", "C c": "C c", "SETCONF foo=1 foo=2": "SETCONF foo=1 foo=2"})
	if e, ok := u.Event("CIRC"); !ok || !e.Suppress {
		t.Error("an event is no longer suppressed")
	}
	if _, ok := Unite(filters); ok {
		t.Error("two filters were united that do not agree to it")
	}
	if alone, ok := Unite(filters[:1]); !ok || alone != filters[0] {
		t.Error("one filter is not itself")
	}
	if _, ok := Unite(nil); ok {
		t.Error("no filter is a filter")
	}
}
