// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"regexp"
	"strings"

	"whonix-networking/pkg/torctl"
)

// suggest is what a profile has to say to allow a refused command, on one line
// of YAML that can be pasted. It is empty where no profile can.
func suggest(c torctl.Command, values Values) string {
	name := upperASCII(c.Name)
	if !commandName(name) {
		return ""
	}
	if name == "SETEVENTS" {
		var events []string
		for e := range strings.FieldsSeq(c.Arguments) {
			if !commandName(e) {
				return ""
			}
			events = append(events, e+": null")
		}
		return "events: {" + strings.Join(events, ", ") + "}"
	}
	r := suggestRule(name, c.Arguments, values)
	return "commands: {" + name + ": [" + r.flow() + "]}"
}

// suggestion is a rule that would allow a command.
type suggestion struct {
	pattern, replacement string // without replacement: sent as typed
}

// suggestRule makes the pattern of what was asked. Key material is matched by its
// form, and an onion service is led to the client, as the guard over targets
// demands.
func suggestRule(name, arguments string, values Values) suggestion {
	const key = `(\S+)`
	var pattern, replacement []string
	rewritten := false
	if name == "AUTHCHALLENGE" {
		return suggestion{pattern: `SAFECOOKIE \S+`}
	}
	for word := range strings.SplitSeq(arguments, " ") {
		changed, quoted := braced(word), quotePattern(word)
		if short := redact(word); short != word {
			before, _, _ := strings.Cut(short, redacted)
			quoted, changed = quotePattern(before)+key, braced(before)+"{}"
		} else if to, ok := ownTarget(name, word, values); ok {
			changed, rewritten = to, true
		}
		pattern, replacement = append(pattern, quoted), append(replacement, changed)
	}
	if !rewritten {
		return suggestion{pattern: strings.ReplaceAll(strings.Join(pattern, " "), key, `\S+`)}
	}
	return suggestion{pattern: strings.Join(pattern, " "), replacement: strings.Join(replacement, " ")}
}

// braced writes text as a replacement that yields it.
func braced(text string) string { return strings.NewReplacer("{", "{{", "}", "}}").Replace(text) }

// ownTarget leads a `Port=` of ADD_ONION to the client.
func ownTarget(name, word string, values Values) (string, bool) {
	key, value, ok := strings.Cut(word, "=")
	if name != "ADD_ONION" || !ok || !strings.EqualFold(key, "Port") || !foreignTarget(word, values.ClientAddress) {
		return "", false
	}
	port, target, ok := strings.Cut(value, ",")
	if !ok {
		target = port
	}
	target = target[strings.LastIndexByte(target, ':')+1:]
	if !portNumber(port) || !portNumber(target) {
		return "", false
	}
	return key + "=" + port + ",{client-address}:" + target, true
}

// flow writes the rule in YAML's flow style.
func (r suggestion) flow() string {
	if r.replacement == "" {
		return yamlQuote(r.pattern)
	}
	return "{pattern: " + yamlQuote(r.pattern) + ", replacement: " + yamlQuote(r.replacement) + "}"
}

// quotePattern is regexp.QuoteMeta without escapes that Python's syntax has no
// need for.
func quotePattern(text string) string { return regexp.QuoteMeta(text) }

// yamlQuote writes a scalar in single quotes; the text has no control bytes.
func yamlQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// commandName reports letters, digits and underscores.
func commandName(name string) bool {
	const longest = 40
	return name != "" && len(name) <= longest && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}
