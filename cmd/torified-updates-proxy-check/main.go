// SPDX-License-Identifier: GPL-3.0-or-later

// Command torified-updates-proxy-check finds out whether the updates proxy of a
// Qubes template is behind Tor.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/qubes"
)

func main() {
	os.Exit(cli.Main(qubes.CheckProxy))
}
