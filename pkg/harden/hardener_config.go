// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"whonix-networking/pkg/fsx"
)

// hardenerFolders are read in this order, every file of every folder.
func hardenerFolders() []string {
	return []string{"/usr/lib/permission-hardener.d", "/etc/permission-hardener.d", "/usr/local/etc/permission-hardener.d",
		"/etc/permission-hardening.d", "/usr/local/etc/permission-hardening.d"}
}

// ruleKind says what a line asks for.
type ruleKind string

const (
	ruleMode    ruleKind = "mode"             // owner, group, mode, capability of a path
	ruleNosuid  ruleKind = "nosuid"           // no setuid and setgid below a path
	ruleExact   ruleKind = "exactwhitelist"   // nosuid leaves this path alone
	ruleMatch   ruleKind = "matchwhitelist"   // nosuid leaves paths alone that contain the text
	ruleUnmatch ruleKind = "disablewhitelist" // no whitelist counts for paths that contain the text
	ruleAll     ruleKind = "whitelists_disable_all=true"
)

// rule is one line of the configuration.
type rule struct {
	kind         ruleKind
	path         string // a path, or the text of a whitelist
	mode         uint32
	owner, group string
	capability   string // empty: left alone; none; a name
	text         string // the line as written
	origin       origin
}

// origin is where a rule was written.
type origin struct {
	file string
	line int
}

// String is FILE:LINE.
func (o origin) String() string {
	if o.line == 0 {
		return o.file
	}
	return fmt.Sprintf("%s:%d", o.file, o.line)
}

// complaint is a line that cannot be followed, and why.
type complaint struct {
	at   origin
	text string
}

// readRules reads the whole configuration. A file with a line that makes no
// sense is left out as a whole, because its lines may belong together, and so is
// one that others than root can change; all other files count (defect D-5).
func readRules(root fsx.Root) (rules []rule, complaints []complaint) {
	for _, dir := range hardenerFolders() {
		files, err := root.ConfFiles(dir, ".conf")
		if err != nil {
			complaints = append(complaints, complaint{origin{file: dir}, err.Error()})
			continue
		}
		for _, file := range files {
			if !root.IsFile(file) {
				continue // as ever: a directory, a link that leads nowhere
			}
			if err := root.Trusted(file); err != nil {
				complaints = append(complaints, complaint{origin{file: file}, err.Error()})
				continue
			}
			data, err := root.ReadFile(file, textMax)
			if err != nil {
				complaints = append(complaints, complaint{origin{file: file}, err.Error()})
				continue
			}
			more, wrong := parseRules(file, data)
			if len(wrong) > 0 {
				complaints = append(complaints, wrong...)
				continue
			}
			rules = append(rules, more...)
		}
	}
	return rules, complaints
}

// parseRules reads one file. The last line counts without a newline too (D-6).
func parseRules(file string, data []byte) (rules []rule, complaints []complaint) {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := strings.Trim(strings.TrimSuffix(string(line), "\n"), " \t")
		if text == "" || text[0] == '#' {
			continue
		}
		r, err := parseRule(text)
		at := origin{file, number}
		if err != nil {
			complaints = append(complaints, complaint{at, err.Error()})
			continue
		}
		r.text, r.origin = text, at
		rules = append(rules, r)
	}
	return rules, complaints
}

// parseRule reads a line that is not empty. What is no entry is refused,
// whatever it might have meant.
func parseRule(text string) (rule, error) {
	if text == string(ruleAll) { // before the check of characters: D-3
		return rule{kind: ruleAll}, nil
	}
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' })
	name, err := unescape(fields[0])
	if err != nil {
		return rule{}, err
	}
	for _, f := range fields[1:] {
		if i := strings.IndexFunc(f, notInField); i >= 0 {
			return rule{}, fmt.Errorf("%q: the character %q is not allowed", printable(f), printable(f[i:i+1]))
		}
	}
	name = strings.TrimSuffix(name, "/")
	switch len(fields) {
	case 2:
		return parseKeyword(name, fields[0], fields[1])
	case 4, 5:
		return parseMode(name, fields)
	}
	return rule{}, fmt.Errorf("%d words, where an entry has 2, 4 or 5: %q", len(fields), printable(text))
}

// parseKeyword reads `PATH nosuid` and whitelists.
func parseKeyword(name, raw, keyword string) (rule, error) {
	switch kind := ruleKind(keyword); kind {
	case ruleMatch, ruleUnmatch:
		if name == "" { // every path contains it: D-1
			return rule{}, fmt.Errorf("%q: the text of a %s must not be empty", raw, keyword)
		}
		return rule{kind: kind, path: name}, nil
	case ruleExact, ruleNosuid:
		clean, err := cleanPath(name, raw)
		return rule{kind: kind, path: clean}, err
	}
	return rule{}, fmt.Errorf("%q: unknown keyword; there are nosuid, exactwhitelist, matchwhitelist and disablewhitelist", keyword)
}

// parseMode reads `PATH MODE OWNER GROUP [CAPABILITY]`.
func parseMode(name string, fields []string) (rule, error) {
	clean, err := cleanPath(name, fields[0])
	if err != nil {
		return rule{}, err
	}
	mode, err := strconv.ParseUint(fields[1], 8, 32)
	if err != nil || len(fields[1]) < 3 || len(fields[1]) > 4 || mode > modeBits {
		return rule{}, fmt.Errorf("%q: a mode is three or four octal digits", fields[1])
	}
	r := rule{kind: ruleMode, path: clean, mode: uint32(mode), owner: fields[2], group: fields[3]}
	if len(fields) == 5 {
		r.capability = fields[4]
		if r.capability != capabilityNone && !slices.Contains(capabilityNames(), r.capability) {
			return rule{}, fmt.Errorf("%q: there is no such capability; see capabilities(7), or write none", r.capability)
		}
	}
	return r, nil
}

// capabilityNone asks for a file without capabilities.
const capabilityNone = "none"

// cleanPath checks a path: absolute, and nothing that leads elsewhere.
func cleanPath(name, raw string) (string, error) {
	if name == "" && strings.HasPrefix(raw, "/") {
		return "/", nil
	}
	if !strings.HasPrefix(name, "/") {
		return "", fmt.Errorf("%q: a path must begin with a slash", raw)
	}
	for component := range strings.SplitSeq(name, "/") {
		if component == "." || component == ".." {
			return "", fmt.Errorf("%q: a path must have no component %q", raw, component)
		}
	}
	return path.Clean(name), nil
}

// unescape reads the first word: plain characters, and octal escapes for all
// that would end or split it.
func unescape(word string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		c := word[i]
		if c != '\\' {
			if notInField(rune(c)) {
				return "", fmt.Errorf("%q: the character %q is not allowed; write it as \\%03o", printable(word), printable(word[i:i+1]), c)
			}
			b.WriteByte(c)
			continue
		}
		const digits = 3
		if i+digits >= len(word) {
			return "", fmt.Errorf("%q: a backslash needs three octal digits", printable(word))
		}
		n, err := strconv.ParseUint(word[i+1:i+1+digits], 8, 8)
		if err != nil || n == 0 || n == '\n' {
			return "", fmt.Errorf("%q: %q is no character that a path can have", printable(word), word[i:i+1+digits])
		}
		b.WriteByte(byte(n))
		i += digits
	}
	return b.String(), nil
}

// notInField reports characters that need an escape.
func notInField(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("-._/+:,@=~%", r)
}
