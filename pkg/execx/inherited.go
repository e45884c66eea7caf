// SPDX-License-Identifier: GPL-3.0-or-later

//go:build linux && !cgo && (amd64 || arm64)

package execx

import _ "unsafe" // for linkname

// The runtime puts its own handlers over ignored signals before any code of a
// package runs, and tells nobody what it found. It does look for a C library
// through _cgo_sigaction, though, before it sets the first of them, and that
// variable is open to packages: sanitizers use it with cgo, here
// recordDisposition does without.
//
// These are package variables because the runtime reads them before there is
// anything else. They do not change after the first handlers are set, but for
// signals that the runtime leaves alone until os/signal asks for them.
//
//go:linkname _cgo_sigaction _cgo_sigaction
var _cgo_sigaction = &recordDisposition

// recordDisposition stands for the machine code in inherited_*.s.
//
//go:linkname recordDisposition whonix-networking/pkg/execx.recordDisposition
var recordDisposition byte

var (
	seen    uint64 // signals whose disposition was noted, bit n-1 for signal n
	ignored uint64 // those that were ignored
)

// noted returns what was noted so far.
func noted() (known, ignoring uint64) { return seen, ignored }
