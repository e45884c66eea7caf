// SPDX-License-Identifier: GPL-3.0-or-later

// Command anondate tells what Tor knows of the time, and sets a slow clock by it.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.Anondate))
}
