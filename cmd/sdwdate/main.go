// SPDX-License-Identifier: GPL-3.0-or-later

// Command sdwdate sets the clock by what onion services say the time is.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.Daemon))
}
