// SPDX-License-Identifier: GPL-3.0-or-later

// Command anon-info shows where Tor's packages come from.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/gateway"
)

func main() {
	os.Exit(cli.Main(gateway.Info))
}
