// SPDX-License-Identifier: GPL-3.0-or-later

// Command url-to-unixtime asks one web server for the time, through Tor.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.URLToUnixtime))
}
