// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"bytes"
	"net/netip"
	"strings"
)

// mapping is what becomes of the addresses of a place.
type mapping struct {
	place
	olds []netip.Addr // any of them
	now  netip.Addr
}

// substitutes are the new texts for old addresses, and for old networks: an
// address of which the last component is 0. Where two mappings speak of one
// network the first counts.
type substitutes map[netip.Addr]string

func substitute(mappings []mapping) substitutes {
	s := substitutes{}
	put := func(old netip.Addr, text string) {
		if _, ok := s[old]; !ok {
			s[old] = text
		}
	}
	for _, m := range mappings { // before networks: an address may look like one
		for _, old := range m.olds {
			put(old, m.now.String())
		}
	}
	for _, m := range mappings {
		text := m.now.String()
		network := text[:strings.LastIndexAny(text, ".:")+1] + "0"
		for _, old := range m.olds {
			put(networkOf(old), network)
		}
	}
	return s
}

// networkOf is an address with its last component, as it is written, set to 0.
func networkOf(a netip.Addr) netip.Addr {
	b := a.AsSlice()
	b[len(b)-1] = 0
	if a.Is6() {
		b[len(b)-2] = 0
	}
	n, _ := netip.AddrFromSlice(b) // of a length that an address has
	return n
}

// rewrite replaces addresses in all lines but comments. Whatever is no such
// address is kept to the byte, in whatever encoding (defect 31).
func (s substitutes) rewrite(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(bytes.TrimLeft(line, " \t\v\f\r"), []byte("#")) {
			out = append(out, line...)
			continue
		}
		out = s.line(out, line)
	}
	return out
}

// line appends a line. An address is found as a run of the bytes that
// addresses are made of, and compared by its value: an address is not found in
// the middle of a longer one, and is found however it is spelled (defect 32).
func (s substitutes) line(out, line []byte) []byte {
	for i := 0; i < len(line); {
		if !inAddress(line[i]) {
			out = append(out, line[i])
			i++
			continue
		}
		end := i
		for end < len(line) && inAddress(line[end]) {
			end++
		}
		var before, after byte
		if i > 0 {
			before = line[i-1]
		}
		if end < len(line) {
			after = line[end]
		}
		out = s.run(out, line[i:end], before, after)
		i = end
	}
	return out
}

// run appends a run, which is an IPv6 address as a whole, or holds IPv4
// addresses between its colons and letters.
func (s substitutes) run(out, run []byte, before, after byte) []byte {
	const longest = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
	head, body, tail := punctuation(run)
	if bytes.IndexByte(body, ':') >= 0 && len(body) <= longest && (len(head) > 0 || !wordy(before)) && (len(tail) > 0 || !wordy(after) && after != '%') {
		if a, err := netip.ParseAddr(string(body)); err == nil && a.Is6() {
			if text, ok := s[a]; ok {
				out = append(out, head...)
				out = append(out, text...)
				return append(out, tail...)
			}
		}
	}
	for i := 0; i < len(run); {
		end := i
		for end < len(run) && (isDigit(run[end]) || run[end] == '.') {
			end++
		}
		if end == i {
			out = append(out, run[i])
			i++
			continue
		}
		out = s.dotted(out, run[i:end])
		i = end
	}
	return out
}

// dotted appends a run of digits and dots. A dot behind an address ends a
// sentence.
func (s substitutes) dotted(out, run []byte) []byte {
	body := bytes.TrimRight(run, ".")
	if len(body) <= len("255.255.255.255") {
		if a, err := netip.ParseAddr(string(body)); err == nil && a.Is4() {
			if text, ok := s[a]; ok {
				out = append(out, text...)
				return append(out, run[len(body):]...)
			}
		}
	}
	return append(out, run...)
}

// punctuation parts a run from the colon before it and what ends a sentence
// behind it; a double colon belongs to an address.
func punctuation(run []byte) (head, body, tail []byte) {
	body = run
	if len(body) > 1 && body[0] == ':' && body[1] != ':' {
		head, body = body[:1], body[1:]
	}
	trimmed := bytes.TrimRight(body, ".")
	if n := len(trimmed); n > 1 && trimmed[n-1] == ':' && trimmed[n-2] != ':' {
		trimmed = trimmed[:n-1]
	}
	return head, trimmed, body[len(trimmed):]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func inAddress(c byte) bool {
	return isDigit(c) || c == '.' || c == ':' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

// wordy bytes do not end an IPv6 address.
func wordy(c byte) bool {
	return isDigit(c) || c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
}
