// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// journal writes log records, one at a time.
type journal struct {
	mu  sync.Mutex
	out io.Writer
}

// print writes one record. What was put into it is escaped already, or ours.
func (j *journal) print(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, _ = io.WriteString(j.out, text+"\n") // nobody is left to tell
}

func (j *journal) printf(format string, args ...any) { j.print(fmt.Sprintf(format, args...)) }

// redacted takes the place of what must not be in a log.
const redacted = "[redacted]"

// loggable is a line as it may be logged: without key material, and with control
// bytes escaped (defect 27).
func loggable(line string) string { return escaped(redact(line)) }

// redact replaces key material: what follows the names of key types, and all
// that is said at a login.
func redact(line string) string {
	trimmed := strings.TrimLeft(line, " \t")
	for _, login := range []string{"AUTHENTICATE", "AUTHCHALLENGE"} {
		if n := len(login); len(trimmed) > n && strings.EqualFold(trimmed[:n], login) {
			return line[:len(line)-len(trimmed)+n] + " " + redacted
		}
	}
	for _, key := range []string{"privatekey=", "ed25519-v3:", "rsa1024:", "x25519:"} {
		line = redactAfter(line, key)
	}
	return line
}

// redactAfter replaces the words that follow every occurrence of key.
func redactAfter(line, key string) string {
	lower := lowerASCII(line)
	var out strings.Builder
	for at := 0; ; {
		i := strings.Index(lower[at:], key)
		if i < 0 {
			out.WriteString(line[at:])
			return out.String()
		}
		begin := at + i + len(key)
		end := begin
		for end < len(line) && line[end] != ' ' && line[end] != '\r' && line[end] != '\n' {
			end++
		}
		out.WriteString(line[at:begin])
		if end > begin {
			out.WriteString(redacted)
		}
		at = end
	}
}

// lowerASCII keeps the length, whatever the bytes are.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// upperASCII keeps the length, whatever the bytes are.
func upperASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 'a' && c <= 'z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if c := b[i]; c >= 'a' && c <= 'z' {
					b[i] = c - 'a' + 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// escaped writes every byte that a terminal could obey as an escape.
func escaped(text string) string {
	plain := true
	for i := 0; i < len(text); i++ {
		plain = plain && text[i] >= 0x20 && text[i] < 0x7f
	}
	if plain {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\t':
			out.WriteString(`\t`)
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\n':
			out.WriteString(`\n`)
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&out, `\x%02x`, c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// block is a message of several lines as it is logged: each redacted, escaped
// and indented.
func block(text string) string {
	var out []string
	for l := range strings.Lines(strings.Trim(text, "\r\n")) {
		out = append(out, "    "+loggable(strings.TrimRight(l, "\r\n")))
	}
	return strings.Join(out, "\n")
}

// Records of refused lines: so many in that time for each connection.
const (
	refusalsMax  = 20
	refusalsTime = 10 * time.Second
)

// limiter lets a number of records through in each span of time, and counts
// those that it does not.
type limiter struct {
	max     int
	span    time.Duration
	begin   time.Time
	passed  int
	skipped int
}

// allow reports whether a record may be written, and how many were left out
// before it.
func (l *limiter) allow(now time.Time) (ok bool, missed int) {
	if now.Sub(l.begin) >= l.span {
		missed = l.skipped
		l.begin, l.passed, l.skipped = now, 0, 0
	}
	if l.passed >= l.max {
		l.skipped++
		return false, 0
	}
	l.passed++
	return true, missed
}
