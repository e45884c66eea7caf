// SPDX-License-Identifier: GPL-3.0-or-later

// Package sdwdate sets the clock from the Date headers of independent onion
// services, each asked over a Tor circuit of its own.
//
// Everything that decides is a pure function or a state machine without I/O:
// reading the configuration (parse), choosing servers (cycle), judging answers
// (bounds, window), combining them (combine). The daemon holds CAP_SYS_TIME and
// reads no byte of the network: requests run in children without privileges.
package sdwdate
