// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"net/netip"
	"strings"

	"whonix-networking/pkg/torctl"
)

// streamsMax is how many streams of a client are remembered; those beyond are
// not shown.
const streamsMax = 16 << 10

// ownStreams are the streams that a client's address has opened: in
// tor-browser-mode a client learns of no others.
type ownStreams struct {
	client netip.Addr // invalid: owns none, as with clients on this machine
	ids    map[string]struct{}
}

// clear forgets all; a Tor that was restarted counts anew.
func (o *ownStreams) clear() { clear(o.ids) }

// stream tells whether a STREAM event is of a stream of the client's.
func (o *ownStreams) stream(e torctl.Event) bool {
	words := strings.Fields(e.Text)
	const idStatusCircuitTarget = 4
	if len(words) < idStatusCircuitTarget || len(e.More) > 0 || !streamID(words[0]) {
		return false
	}
	id, status := words[0], words[1]
	if _, known := o.ids[id]; known {
		if status == "CLOSED" || status == "FAILED" {
			delete(o.ids, id)
		}
		return true
	}
	if status != "NEW" && status != "NEWRESOLVE" || len(o.ids) >= streamsMax || !o.mine(words[idStatusCircuitTarget:]) {
		return false
	}
	if o.ids == nil {
		o.ids = map[string]struct{}{}
	}
	o.ids[id] = struct{}{}
	return true
}

// mine tells whether the one SOURCE_ADDR among the words is the client.
func (o *ownStreams) mine(words []string) bool {
	found, own := 0, false
	for _, w := range words {
		source, ok := strings.CutPrefix(w, "SOURCE_ADDR=")
		if !ok {
			continue
		}
		found++
		host := source[:max(strings.LastIndexByte(source, ':'), 0)]
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		own = err == nil && o.client.IsValid() && addr.Unmap() == o.client
	}
	return found == 1 && own
}

// circuit is what is delivered of a CIRC event: that a circuit has closed, and
// nothing about it.
func (o *ownStreams) circuit(e torctl.Event) (text string, ok bool) {
	words := strings.Fields(e.Text)
	if len(words) < 2 || len(e.More) > 0 || words[1] != "CLOSED" || !streamID(words[0]) {
		return "", false
	}
	return "650 CIRC " + words[0] + " CLOSED", true
}

// circuits are the ids of the circuits that carry the client's streams, out of
// the reply to GETINFO stream-status.
func (o *ownStreams) circuits(reply torctl.Message) map[string]struct{} {
	out := map[string]struct{}{}
	for l := range statusLines(reply, "stream-status") {
		words := strings.Fields(l)
		const idStatusCircuit = 3
		if len(words) < idStatusCircuit {
			continue
		}
		if _, ok := o.ids[words[0]]; ok && words[2] != "0" {
			out[words[2]] = struct{}{}
		}
	}
	return out
}

// circuitStatus is the reply to GETINFO circuit-status with some circuits only.
func circuitStatus(reply torctl.Message, circuits map[string]struct{}) torctl.Message {
	var lines strings.Builder
	for l := range statusLines(reply, "circuit-status") {
		id, _, _ := strings.Cut(l, " ")
		if _, ok := circuits[id]; ok {
			lines.WriteString(l + "\r\n")
		}
	}
	if lines.Len() == 0 {
		return torctl.Message{Raw: []byte("250-circuit-status=\r\n250 OK\r\n")}
	}
	return torctl.Message{Raw: []byte("250+circuit-status=\r\n" + lines.String() + ".\r\n250 OK\r\n")}
}

// statusLines are the lines of a key's value, whether Tor sent one or several.
func statusLines(reply torctl.Message, key string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for l := range reply.Lines() {
			first, ok := strings.CutPrefix(string(l.Text), key+"=")
			if !ok {
				continue
			}
			if first != "" && !yield(first) {
				return
			}
			for line := range strings.Lines(string(l.Data)) {
				if !yield(strings.TrimRight(line, "\r\n")) {
					return
				}
			}
		}
	}
}

// streamID reports the id of a stream or circuit, see control-spec.
func streamID(text string) bool {
	const longest = 16
	if text == "" || len(text) > longest {
		return false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// namesStatus tells whether arguments of GETINFO ask for a list of all.
func namesStatus(arguments, key string) bool {
	return strings.Contains(strings.ToLower(arguments), key)
}
