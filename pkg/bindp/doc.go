// SPDX-License-Identifier: GPL-3.0-or-later

// Package bindp runs a program whose sockets are bound to addresses and ports
// of the user's choice, whatever the program asks for, and whether it is
// dynamically linked or not. The launcher becomes the program, under a seccomp
// filter that reports bind(2) and connect(2) to a helper process; the helper
// makes the rewritten call on a duplicate of the program's socket.
//
// What is rewritten to what is computed by functions that touch nothing:
// ParseSettings, Settings.Bind and Settings.Connect.
package bindp
