// SPDX-License-Identifier: GPL-3.0-or-later

// Command tinyproxy-config-patch has the updates proxy of a Gateway in Qubes
// send everything through Tor.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/qubes"
)

func main() {
	os.Exit(cli.Main(qubes.PatchTinyproxy))
}
