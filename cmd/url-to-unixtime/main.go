// SPDX-License-Identifier: GPL-3.0-or-later

// Command url-to-unixtime asks one web server for the time, through Tor.
package main

import (
	"context"
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	// A signal may end it as it ends any process: there is nothing to put in order,
	// and a third of its processor time is its start.
	os.Exit(cli.Run(context.Background(), cli.OS(), sdwdate.URLToUnixtime))
}
