// SPDX-License-Identifier: GPL-3.0-or-later

// Command minimum-unixtime-show shows the earliest time that the clock may have.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.Minimum))
}
