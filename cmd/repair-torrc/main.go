// SPDX-License-Identifier: GPL-3.0-or-later

// Command repair-torrc puts back the files without which Tor does not start.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/gateway"
)

func main() {
	os.Exit(cli.Main(gateway.Repair))
}
