// SPDX-License-Identifier: GPL-3.0-or-later

// Package leaktest tries to get packets past Tor, and watches whether any get
// there: the leak tests of a Workstation, and the watchers of a Gateway's
// external interface.
package leaktest
