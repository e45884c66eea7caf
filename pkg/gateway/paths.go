// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

// Tor's configuration, in the order in which Tor reads it.
const (
	torrcPath    = "/etc/tor/torrc"
	torrcDir     = "/etc/torrc.d"
	userTorrcDir = "/usr/local/etc/torrc.d"
)

// The list of listeners: as shipped, and as Tor gets it.
const (
	listenersBase = "/usr/share/tor/tor-service-defaults-torrc.anondist.base"
	listenersPath = "/usr/share/tor/tor-service-defaults-torrc.anondist"
)

// runDir says what has been done in this boot.
const runDir = "/run/anon-gw-anonymizer-config"

// configMax is more than any file of Tor's configuration should have.
const configMax = 4 << 20

// torAccount is the account, and the group, that Tor runs as.
const torAccount = "debian-tor"
