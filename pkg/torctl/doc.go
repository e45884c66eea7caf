// SPDX-License-Identifier: GPL-3.0-or-later

// Package torctl speaks Tor's control protocol, as control-spec defines it: a
// strict codec with limits, authentication, and a connection on which replies
// and asynchronous events never mix.
//
// Conn moves whole messages as raw bytes; it is what a proxy needs. Client,
// built on it, is for programs that ask Tor something: GetInfo, Signal,
// SetEvents, NextEvent.
package torctl
