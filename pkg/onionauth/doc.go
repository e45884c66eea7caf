// SPDX-License-Identifier: GPL-3.0-or-later

// Package onionauth makes onion services that only clients with a key can
// reach, and installs such keys on the client's side.
package onionauth
