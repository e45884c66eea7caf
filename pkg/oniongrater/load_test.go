// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whonix-networking/pkg/fsx"
)

// TestBadFiles: a file that is bad is told of with its line, and the others are
// still used (defect 17).
func TestBadFiles(t *testing.T) {
	bad := FilterDir + "/bad.yml"
	for text, want := range map[string]string{
		"- a: [\n":             "filter '" + bad + "' has bad YAML and was not loaded: line 1: did not find expected node content",
		"":                     "filter '" + bad + "' was not loaded: line 1: the file is empty; remove it, or write a list of filters",
		"# x\n":                "filter '" + bad + "' was not loaded: line 1: the file is empty; remove it, or write a list of filters",
		"\n---\n":              "filter '" + bad + "' was not loaded: line 3: the file has to be a list of filters, not nothing; begin the filter with `- `",
		"hosts: ['*']\n":       "filter '" + bad + "' was not loaded: line 1: the file has to be a list of filters, not a mapping; begin the filter with `- `",
		"- {}\n- x\n":          "filter '" + bad + "' was not loaded: line 2: a filter has to be a mapping, not a string",
		"- x: !foo y\n":        "filter '" + bad + "' was not loaded: line 1: the tag !foo is not known; leave it out",
		"- {}\n---\n- {}\n":    "filter '" + bad + "' was not loaded: line 2: there is a second document; use one --- only",
		"- users: a\n  hosts:": "filter '" + bad + "' was not loaded: line 2: hosts has to be a list of strings, not nothing; use '*' for any, or leave the key out for none",
		"- hosts:\n  - 10\n":   "filter '" + bad + "' was not loaded: line 2: hosts has to be a list of strings, not a number or a date; use '*' for any, or leave the key out for none",
		"- ? [a]\n  : b\n":     "filter '" + bad + "' was not loaded: line 1: a key has to be a word",
		"- <<: x\n":            "filter '" + bad + "' was not loaded: line 1: << needs a mapping, or a list of mappings",
	} {
		root := fsx.Root(t.TempDir())
		write(t, root, FilterDir+"/good.yml", "- {hosts: '*'}\n")
		write(t, root, FilterDir+"/.hidden.yml", "x")
		write(t, root, FilterDir+"/x.yaml", "x")
		write(t, root, bad, text)
		var told []string
		filters := Load(root, func(text string) { told = append(told, text) })
		if diff := cmp.Diff([]string{want}, told); diff != "" || len(filters) != 1 || filters[0].Name != "good" {
			t.Errorf("%q: %d filters\n%s", text, len(filters), diff)
		}
	}
	root := fsx.Root(t.TempDir())
	write(t, root, FilterDir+"/good.yml", "- {hosts: '*'}\n")
	if err := os.Symlink("/nowhere", root.Path(bad)); err != nil {
		t.Fatal(err)
	}
	var told []string
	if filters := Load(root, func(text string) { told = append(told, text) }); len(filters) != 1 || len(told) != 1 || told[0] != "filter '"+bad+"' was not loaded: no such file or directory" {
		t.Errorf("%v %q", filters, told)
	}
}

// TestBadParts: what is bad in a filter takes the smallest whole with it that
// no wider rule could take the place of, and the message says where.
func TestBadParts(t *testing.T) {
	for text, want := range map[string]string{
		"commands: [A]":                                                  "x.yml:1: error: filter x: commands has to be a mapping, not a list; nothing of it is allowed",
		"commands: {A: x}":                                               "x.yml:1: error: filter x: command A: its rules have to be a list, not a string; the command is disabled; begin each rule with `- `",
		"commands: {A: [1]}":                                             "x.yml:1: error: filter x: command A, rule 1: a rule has to be a string or a mapping, not a number or a date; put it into quotes; the command is disabled",
		"commands: {A: [a, {replacement: x}]}":                           "x.yml:1: error: filter x: command A, rule 2: there is no pattern; '' stands for no arguments; the command is disabled",
		"commands: {A: [{pattern: on}]}":                                 "x.yml:1: error: filter x: command A, rule 1: the pattern has to be a string, not a truth value; put it into quotes; the command is disabled",
		"commands: {A: [{pattern: a, replacement: '{}'}]}":               "x.yml:1: error: filter x: command A, rule 1: replacement: field 0 has no group: the pattern has 0; put the part that is meant in parentheses; the command is disabled",
		"commands: {A: [{pattern: a, replacement: }]}":                   "x.yml:1: error: filter x: command A, rule 1: replacement: it has to be a string, not nothing; put it into quotes; the command is disabled",
		"commands: {A: [{pattern: a, replacement: \"b\\r\\nQUIT\"}]}":    "x.yml:1: error: filter x: command A, rule 1: replacement: '\\r' is not allowed in it; use printable ASCII only; the command is disabled",
		"commands: {A: [{pattern: a, response: x}]}":                     "x.yml:1: error: filter x: command A, rule 1: response: it has to be a list, not a string; begin each entry with `- `; the command is disabled",
		"commands: {A: [{pattern: a, response: [{pattern: b}]}]}":        "x.yml:1: error: filter x: command A, rule 1: response: entry 1: there is no replacement; '' stands for nothing; the command is disabled",
		"commands: {A: [{pattern: a, reply: []}]}":                       "x.yml:1: error: filter x: command A, rule 1: reply: there is no line in it; the shortest reply is '250 OK'; the command is disabled",
		"commands: {A: [{pattern: a, reply: ['250 a', '250 OK']}]}":      "x.yml:1: error: filter x: command A, rule 1: reply: line 1 has to begin with three digits and '-'; the command is disabled",
		"commands: {A: [{pattern: a, reply: '250 OK', replacement: b}]}": "x.yml:1: error: filter x: command A, rule 1: a rule with reply: is not sent to Tor; remove its replacement and response; the command is disabled",
		"commands: {+A: [a]}":                                            "x.yml:1: error: filter x: command +A: data commands cannot be allowed; remove it",
		"commands: {'A B': [a]}":                                         `x.yml:1: error: filter x: command "A B": this is no name of a command`,
		"confs: [a]":                                                     "x.yml:1: error: filter x: confs has to be a mapping, not a list; nothing of it is allowed",
		"confs: {a-b: }":                                                 `x.yml:1: error: filter x: conf "a-b": this is no name of an option; there are letters, digits and _ only`,
		"confs: {a: ['1', 2]}":                                           "x.yml:1: error: filter x: conf a, rule 2: it has to be a string, not a number or a date; put it into quotes; the option is disabled",
		"events: [a]":                                                    "x.yml:1: error: filter x: events has to be a mapping, not a list; nothing of it is allowed",
		"events: {A: yes}":                                               "x.yml:1: error: filter x: event A: its options have to be a mapping, not a truth value; the event is disabled",
		"events: {A: {response: [{pattern: '(', replacement: ''}]}}":     `x.yml:1: error: filter x: event A: response: entry 1: "(" in the pattern: the group is not closed; write \( if the character is meant; the event is disabled`,
		"mode: x":                                                "x.yml:1: warning: filter x: the key mode is not known and has no effect",
		"commands: {SETEVENTS: [x]}":                             "x.yml:1: warning: filter x: rules for the command SETEVENTS have no effect: list the events under events:",
		"commands: {resetconf: [x]}":                             "x.yml:1: warning: filter x: rules for the command RESETCONF have no effect: the proxy answers it itself",
		"commands: {a: [a], A: [b]}":                             "x.yml:1: warning: filter x: the command A is there twice; only this one counts",
		"hosts: a, hosts: b":                                     "x.yml:1: warning: the key hosts is there twice; the last one counts (the other is in line 1)",
		"commands: {SETCONF: [{pattern: 'x=.*', typo: 1}]}":      `x.yml:1: warning: filter x: command SETCONF, rule 1: .* matches blanks too, and with them any further arguments; write \S+ if one word is meant|x.yml:1: warning: filter x: command SETCONF, rule 1: the key typo is not known and has no effect`,
		"tor-browser-mode: 'no'":                                 "x.yml:1: warning: filter x: tor-browser-mode is a string and counts as true; write true or false",
		"commands: {A: [{pattern: a, allow-any-target: 'yes'}]}": "x.yml:1: warning: filter x: allow-any-target is a string and counts as false; write true or false",
		"events: {A: {supress: true}}":                           "x.yml:1: warning: filter x: event A: the key supress is not known and has no effect",
		"commands: {A: [{pattern: a, response: [{pattern: b, replacement: c, replacment: d}]}]}": "x.yml:1: warning: filter x: response, entry 1: the key replacment is not known and has no effect",
	} {
		filters, problems, _ := compile("x.yml", []byte("- {"+text+"}\n"), patterns{})
		var told []string
		for _, p := range problems {
			told = append(told, p.String())
		}
		if diff := cmp.Diff(want, strings.Join(told, "|")); diff != "" || len(filters) != 1 {
			t.Errorf("%s:\n%s", text, diff)
			continue
		}
		f := filters[0]
		if !strings.Contains(want, "error") {
			continue
		}
		if _, ok := f.Match("A", "a", client()); ok || ask(f, "SETCONF a=1") != "" || ask(f, "GETCONF a") != "" {
			t.Errorf("%s: something is allowed", text)
		}
		if _, ok := f.Event("A"); ok {
			t.Errorf("%s: the event is allowed", text)
		}
	}
}

// TestTruth: YAML 1.1's truth values, and names of several filters.
func TestTruth(t *testing.T) {
	filters, problems, _ := compile("/a/b.yml", []byte(`
- {name: one, tor-browser-mode: yes, restrict-stream-events: On, hosts: '*', exe-paths: [a], apparmor-profiles: b, users: [root]}
- {tor-browser-mode: OFF, restrict-stream-events: , combine: TRUE, <<: {hosts: ['10.1.2.3']}}
- {name: "a\nb"}
`), patterns{})
	if len(filters) != 3 || len(problems) > 0 {
		t.Fatal(problems)
	}
	a, b := filters[0], filters[1]
	if a.Name != "b/one" || b.Name != "b/2" || filters[2].Name != "b/3" {
		t.Errorf("%q %q %q", a.Name, b.Name, filters[2].Name)
	}
	if !a.TorBrowserMode || !a.StreamsOnly || a.Combine || b.TorBrowserMode || b.StreamsOnly || !b.Combine {
		t.Errorf("%+v\n%+v", a, b)
	}
	if diff := cmp.Diff([][]string{{"*"}, {"a", "b"}, {"root"}, {"10.1.2.3"}}, [][]string{a.Hosts, a.Programs, a.Users, b.Hosts}); diff != "" {
		t.Error(diff)
	}
}

// TestTailsProfiles: what users may carry over from Tails loads and works.
func TestTailsProfiles(t *testing.T) {
	asked(t, one(t, `---
- hosts:
    - '10.200.1.10'
  commands:
    SAVECONF:
      - ''
    GETINFO:
      - 'ns/id/[a-fA-F0-9]+'
      - 'ip-to-country/\d+\.\d+\.\d+\.\d+'
    ADD_ONION:
      - (?:NEW\:ED25519-V3|ED25519-V3\:(?:[A-Za-z0-9+\/]{4})*(?:[A-Za-z0-9+\/]{2}==|[A-Za-z0-9+\/]{3}=)?)(?:| Flags\=BasicAuth) Port\=80,176([0-4][0-9]|50)(?:| ClientAuth\=onionshare)$
  confs:
    Bridge: ['', '.*']
    DisableNetwork: ['"0"', '"1"']
    bridge2:
  events:
    STREAM:
    CIRC:
  restrict-stream-events: true
`), map[string]string{
		"SAVECONF": "SAVECONF", "SAVECONF FORCE": "", "GETINFO ns/id/00Ff": "GETINFO ns/id/00Ff", "GETINFO ip-to-country/1.2.3.4": "GETINFO ip-to-country/1.2.3.4",
		"ADD_ONION NEW:ED25519-V3 Port=80,17650": "ADD_ONION NEW:ED25519-V3 Port=80,17650", "ADD_ONION ED25519-V3:QUJDRA== Flags=BasicAuth Port=80,17600 ClientAuth=onionshare": "ADD_ONION ED25519-V3:QUJDRA== Flags=BasicAuth Port=80,17600 ClientAuth=onionshare",
		"ADD_ONION NEW:ED25519-V3 Port=80,17651": "", `SETCONF DisableNetwork="0" Bridge="obfs4 1.2.3.4:5 x"`: `SETCONF DisableNetwork="0" Bridge="obfs4 1.2.3.4:5 x"`, `SETCONF DisableNetwork=0`: "", "SETCONF Bridge": "SETCONF Bridge", "GETCONF bridge2": "GETCONF bridge2",
	})
}

// TestReplacementRefused: every form of Python's that is not supported.
func TestReplacementRefused(t *testing.T) {
	for text, ok := range map[string]bool{
		"{}": true, "{0}": true, "{1}": true, "{}{}": true, "{00}": true, "{{}}": true, "{client-address}:{server-port}": true, "": true, "a{client-address}{}": true,
		"{2}": false, "{}{}{}": false, "{}{0}": false, "{0}{}": false, "{": false, "}": false, "a}b": false, "{!r}": false, "{:x}": false, "{0.a}": false, "{0[1]}": false, "{name}": false, "{ }": false, "{a{}}": false, "{{}": false, "\t": false, "\n": false, "é": false, "\x7f": false, "{99999999999999999999}": false, "{-1}": false,
	} {
		if _, err := compileFormat(text, 2); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
