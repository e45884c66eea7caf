// SPDX-License-Identifier: GPL-3.0-or-later

// Package isolate runs any program, static or not, where the only way out is
// Tor: in a user and network namespace of its own, from which no route leads
// anywhere. Its TCP connections are redirected inside the namespace to
// listeners whose descriptors a process outside holds, the supervisor, which
// connects to the SocksPort with a password for each process.
//
// Four processes take part, all of this program:
//
//	the launcher    what the user started. It becomes the program, by way of
//	                nsenter(1): a Go program has threads, and the kernel lets only
//	                single-threaded processes into a user namespace.
//	the namespace   makes the namespace ready, and ends: what it made lives on in
//	                the descriptors it hands over.
//	the supervisor  relays. No child of the launcher, so that the program has no
//	                child it does not know.
//	the last stage  of the launcher, in the namespace: gives up every capability
//	                and becomes the program.
//
// When the supervisor dies, nobody listens any more and nothing leaves.
package isolate
