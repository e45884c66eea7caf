// SPDX-License-Identifier: GPL-3.0-or-later

// Command sdwdate-suspend stops sdwdate and Tor before a Qubes machine sleeps, and starts them afterwards.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.Suspend))
}
