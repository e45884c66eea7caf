// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/whonix"
)

// Redirection is one listener and where it leads.
type Redirection struct {
	Listen string // address:port, [v6]:port, path, or @name, as ListenStream= takes it
	Port   string // at the Gateway
	IPv6   bool   // to the Gateway's IPv6 address, only where the kernel has IPv6
	Stem   string // of the units' names
}

// Builtin are the redirections that are always there, in order.
func Builtin() string {
	var b strings.Builder
	const to, tor, control = ":", whonix.DefaultPortText, whonix.ControlPortText
	ports := []string{
		tor + to + tor, whonix.BrowserPortText + to + whonix.BrowserPortText, control + to + control,
		whonix.BrowserControlPortText + to + control, whonix.MailPortText + to + whonix.MailPortText,
	}
	for _, kind := range []string{"port", "port6"} {
		for _, p := range ports {
			fmt.Fprintf(&b, " %s#%s ", kind, p)
		}
	}
	const thunderbird = 1 // the last port has no socket
	for _, kind := range []struct{ kind, host string }{{"file", "127.0.0.1"}, {"file6", "::1"}} {
		for _, p := range ports[:len(ports)-thunderbird] {
			from, to, _ := strings.Cut(p, ":")
			fmt.Fprintf(&b, " %s#/run/anon-ws-disable-stacked-tor/%s_%s.sock:%s ", kind.kind, kind.host, from, to)
		}
	}
	b.WriteString(" file#" + whonix.TorSocket + to + tor + "  file#/run/tor/control" + to + control + " ")
	return b.String()
}

// errType says that a tuple has no known type: reported, but no failure, as
// ever.
var errType = errors.New("unrecognized type")

// parseTuple reads one word of file_port_tuples:
//
//	port#L:R port#L port6#L:R port6#L file#/PATH:R file6#/PATH:R /PATH#R /PATH#X:R
func parseTuple(word string) (Redirection, error) {
	at := strings.LastIndexByte(word, '#')
	kind, rest := "", word
	if at >= 0 {
		kind, rest = word[:at], word[at+1:]
	}
	local, remote := rest, rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		local, remote = rest[:i], rest[i+1:]
	}
	r := Redirection{Port: remote}
	switch {
	case kind == "port" || kind == "port6":
		if !validPort(local) {
			return r, fmt.Errorf("%q is no port", local)
		}
		r.IPv6 = kind == "port6"
		r.Listen = map[bool]string{false: "127.0.0.1:", true: "[::1]:"}[r.IPv6] + local
		r.Stem = kind + "_" + local
	case kind == "file" || kind == "file6":
		if local == rest {
			return r, errors.New("the port is missing")
		}
		r.IPv6 = kind == "file6"
		r.Listen = local
	case strings.HasPrefix(kind, "/"):
		r.Listen = kind
	default:
		return r, fmt.Errorf("%w %q", errType, typeOf(word))
	}
	if !validPort(remote) {
		return r, fmt.Errorf("%q is no port", remote)
	}
	if r.Stem == "" {
		r.Stem = stemOf(r.Listen)
		return r, validPath(r.Listen)
	}
	return r, nil
}

// typeOf is what the original names as the type.
func typeOf(word string) string {
	if at := strings.LastIndexByte(word, '#'); at >= 0 {
		return word[:at]
	}
	return word
}

// validPath takes what fits sun_path of unix(7), and a line of a unit:
// absolute paths, and names in the abstract namespace.
func validPath(p string) error {
	const pathMax, nameMax = 107, 255
	odd := func(c rune) bool { return c < ' ' || c == 0x7f || c == utf8.RuneError }
	dots := func(part string) bool { return part == "." || part == ".." }
	switch {
	case len(p) > pathMax:
		return fmt.Errorf("%q is longer than %d bytes", p, pathMax)
	case len(unitPrefix+stemOf(p)+".service") > nameMax:
		return fmt.Errorf("%q is too long for the name of a unit", p)
	case strings.ContainsFunc(p, odd) || strings.HasSuffix(p, `\`):
		return fmt.Errorf("%q has characters that a unit cannot have", p)
	case strings.HasPrefix(p, "@") && len(p) > 1:
		return nil
	case !path.IsAbs(p) || strings.HasSuffix(p, "/") || slices.ContainsFunc(strings.Split(p, "/"), dots):
		return fmt.Errorf("%q is no absolute path of a socket", p)
	}
	return nil
}

// stemOf is the path as a part of a unit's name; what a name cannot have is
// escaped as systemd.unit(5) has it.
func stemOf(p string) string {
	var b strings.Builder
	for _, c := range []byte(p) {
		switch {
		case c == '/':
			b.WriteByte('_')
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(":_.-", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// Word is a word of file_port_tuples, and where it was written.
type Word struct {
	Text   string
	Origin confd.Origin
}

// words are those of a variable.
func words(v confd.Value) []Word {
	var out []Word
	begins, end, part := 0, 0, 0 // part is the one that begins and ends there
	rest, at := v.Text, 0
	for {
		trimmed := strings.TrimLeft(rest, " \t\n")
		at += len(rest) - len(trimmed)
		if trimmed == "" {
			return out
		}
		text := trimmed
		if i := strings.IndexAny(trimmed, " \t\n"); i >= 0 {
			text = trimmed[:i]
		}
		for ; part < len(v.Parts); part++ {
			if end = begins + len(v.Parts[part].Text); at < end {
				break
			}
			begins = end
		}
		w := Word{Text: text}
		if part < len(v.Parts) {
			w.Origin = v.Parts[part].Origin
		}
		out = append(out, w)
		rest, at = trimmed[len(text):], at+len(text)
	}
}

// Complaint is about one word; Fatal makes the generator fail in the end.
type Complaint struct {
	Text  string
	Fatal bool
}

// Redirections reads all words. Later ones of the same listener replace
// earlier ones in their place, which is said if both are a user's; two
// listeners of one name are one too many.
func Redirections(words []Word) (out []Redirection, complaints []Complaint) {
	byStem := map[string]int{}
	var from []Word
	complain := func(fatal bool, format string, args ...any) {
		complaints = append(complaints, Complaint{fmt.Sprintf(format, args...), fatal})
	}
	for _, w := range words {
		r, err := parseTuple(w.Text)
		switch {
		case errors.Is(err, errType):
			complain(false, "ERROR: Unrecognized type '%s'! %s: %s: left out", typeOf(w.Text), w.Origin, w.Text)
			continue
		case err != nil:
			complain(true, "ERROR: %s: %s: %v: left out", w.Origin, w.Text, err)
			continue
		}
		i, known := byStem[r.Stem]
		switch {
		case !known:
			byStem[r.Stem] = len(out)
			out, from = append(out, r), append(from, w)
		case out[i].Listen == r.Listen && out[i].IPv6 == r.IPv6:
			if from[i].Origin.File != "" && out[i] != r {
				complain(false, "WARNING: %s: %s takes the place of %s of %s", w.Origin, w.Text, from[i].Text, from[i].Origin)
			}
			out[i], from[i] = r, w
		default:
			complain(true, "ERROR: %s: %s: its units would have the names of those for %s of %s: left out", w.Origin, w.Text, out[i].Listen, from[i].Origin)
		}
	}
	return out, complaints
}
