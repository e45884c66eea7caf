// SPDX-License-Identifier: GPL-3.0-or-later

// Command qubes-updates-proxy is the updates proxy of a Gateway in Qubes, for one
// connection, through Tor.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/qubes"
)

func main() {
	os.Exit(cli.Main(qubes.UpdatesProxy))
}
