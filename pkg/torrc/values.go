// SPDX-License-Identifier: GPL-3.0-or-later

package torrc

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Listener is the value of an option that opens one.
type Listener struct {
	None  bool   // 0
	Path  string // of a unix socket; empty is TCP
	Host  string // address or name as written; empty is Tor's own choice
	Port  uint16 // 0 is any
	Flags []string
}

// Has reports a flag.
func (l Listener) Has(flag string) bool {
	for _, f := range l.Flags {
		if strings.EqualFold(f, flag) {
			return true
		}
	}
	return false
}

// ParseListener reads the value of the option key: 0, auto, PORT, ADDRESS:PORT,
// or unix:PATH, and flags. KEY=VALUE is an old form of VALUE.
func ParseListener(key, value string) (Listener, error) {
	first, rest := cut(value)
	if k, v, ok := strings.Cut(first, "="); ok && strings.EqualFold(k, key) {
		first = v
	}
	if path, ok := strings.CutPrefix(first, "unix:"); ok {
		if strings.HasPrefix(path, `"`) {
			return quotedPath(key, value)
		}
		if path == "" {
			return Listener{}, complain("%s: unix: needs a path", key)
		}
		return Listener{Path: path, Flags: strings.Fields(rest)}, nil
	}
	l := Listener{Flags: strings.Fields(rest)}
	port := first
	if strings.Contains(first, ":") {
		var err error
		if l.Host, port, err = net.SplitHostPort(first); err != nil || !validHost(l.Host) {
			return Listener{}, unparsable(key, first)
		}
	} else if first == "0" {
		l.None = true
		return l, nil
	}
	if port == "auto" {
		return l, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Listener{}, unparsable(key, first)
	}
	l.Port = uint16(n)
	return l, nil
}

func unparsable(key, text string) error {
	return complain("Couldn't parse address %q for %s", text, key)
}

// quotedPath reads unix:"PATH" FLAGS.
func quotedPath(key, value string) (Listener, error) {
	_, value, _ = strings.Cut(value, "unix:")
	path, n, ok := Unquote(value)
	if !ok || path == "" || n < len(value) && strings.IndexByte(blank, value[n]) < 0 {
		return Listener{}, complain("%s: unix:%s: the quotes are wrong", key, value)
	}
	return Listener{Path: path, Flags: strings.Fields(value[n:])}, nil
}

// cut splits after the first word.
func cut(text string) (word, rest string) {
	text = strings.Trim(text, blank)
	if i := strings.IndexAny(text, blank); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}

// validHost takes an address or a name.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	const nameMax = 253
	if host == "" || len(host) > nameMax {
		return false
	}
	for _, r := range host {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_' {
			return false
		}
	}
	return true
}

// Severity is how much a log wants to hear.
type Severity int

// The severities, rising.
const (
	Debug Severity = iota
	Info
	Notice
	Warn
	Err
)

// String is as in a line of the log.
func (s Severity) String() string {
	return [...]string{"debug", "info", "notice", "warn", "err"}[s]
}

// Where a log goes to.
const (
	ToStdout = "stdout"
	ToStderr = "stderr"
	ToSyslog = "syslog"
	ToFile   = "file"
)

// Log is the value of a Log option.
type Log struct {
	wants [Err + 1]bool
	To    string
	Path  string // of a file
}

// LogTo is a log that wants what is as severe as least.
func LogTo(to string, least Severity) Log {
	l := Log{To: to}
	for s := least; s <= Err; s++ {
		l.wants[s] = true
	}
	return l
}

// Wants reports whether messages of a severity go there.
func (l Log) Wants(s Severity) bool { return l.wants[s] }

// ParseLog reads SEVERITY[-SEVERITY]... [stdout | stderr | syslog | file PATH].
// Domains before a severity count as all of them.
func ParseLog(value string) (Log, error) {
	l := Log{To: ToStdout}
	rest := strings.Trim(value, blank)
	ranges := 0
	for rest != "" {
		var w string
		whole := rest
		w, rest = cut(rest)
		rest = strings.TrimLeft(rest, blank)
		switch to := strings.ToLower(w); to {
		case ToStdout, ToStderr, ToSyslog:
			l.To = to
			rest = ""
		case ToFile:
			if rest == "" {
				return Log{}, complain("Log %s: no file is named", value)
			}
			l.To, l.Path = ToFile, rest
			rest = ""
		default:
			if i := strings.IndexByte(whole, ']'); strings.HasPrefix(w, "[") && i >= 0 {
				w, rest = cut(whole[i+1:]) // domains may have blanks between them
				rest = strings.TrimLeft(rest, blank)
			}
			if err := l.add(w); err != nil {
				return Log{}, complain("Couldn't parse log levels in Log option 'Log %s'", value)
			}
			ranges++
		}
	}
	if ranges == 0 {
		return Log{}, complain("Couldn't parse log levels in Log option 'Log %s'", value)
	}
	return l, nil
}

// add wants the severities of a range.
func (l *Log) add(text string) error {
	low, high, isRange := strings.Cut(text, "-")
	from, err := severity(low)
	if err != nil {
		return err
	}
	to := Err
	if isRange {
		if to, err = severity(high); err != nil || to < from {
			return errors.New("no range")
		}
	}
	for s := from; s <= to; s++ {
		l.wants[s] = true
	}
	return nil
}

func severity(text string) (Severity, error) {
	for s := Debug; s <= Err; s++ {
		if strings.EqualFold(s.String(), text) {
			return s, nil
		}
	}
	return 0, errors.New("no severity")
}
