// SPDX-License-Identifier: GPL-3.0-or-later

// Command qubes-whonixsetup tells the user of a template in Qubes that there is no
// updates proxy behind Tor.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/qubes"
)

func main() {
	os.Exit(cli.Main(qubes.WhonixSetup))
}
