// SPDX-License-Identifier: GPL-3.0-or-later

// Command onion-time-check tells whether the network is ready for the time to be
// fetched.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.TimeCheck))
}
