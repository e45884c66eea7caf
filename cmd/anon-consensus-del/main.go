// SPDX-License-Identifier: GPL-3.0-or-later

// Command anon-consensus-del deletes Tor's consensus, and restarts Tor.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.ConsensusDel))
}
