// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"strings"
)

// foreignTarget tells whether an ADD_ONION would have Tor connect the visitors
// of an onion service to something else than the client: to a port of the
// Gateway, a socket, or a machine on the Internet, in the clear (defect 1). Every
// `Port=` must name a port, the client's own address, and perhaps a port there.
// address is in brackets if it is one of IPv6.
func foreignTarget(arguments, address string) bool {
	if strings.ContainsAny(arguments, `"'#\`) {
		return true // Tor's own readers of arguments give these a meaning
	}
	for word := range strings.FieldsSeq(arguments) {
		key, value, ok := strings.Cut(word, "=")
		if !ok || !strings.EqualFold(key, "Port") {
			continue
		}
		port, target, ok := strings.Cut(value, ",")
		target, own := strings.CutPrefix(target, address)
		if !ok || !own || !portNumber(port) {
			return true
		}
		if target != "" && (target[0] != ':' || !portNumber(target[1:])) {
			return true
		}
	}
	return false
}

// portNumber reports one to five digits.
func portNumber(text string) bool {
	const digits = 5
	if text == "" || len(text) > digits {
		return false
	}
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
