// SPDX-License-Identifier: GPL-3.0-or-later

// Command onion-tester asks every server that sdwdate may ask.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.Tester))
}
