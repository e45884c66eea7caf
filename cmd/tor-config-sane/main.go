// SPDX-License-Identifier: GPL-3.0-or-later

// Command tor-config-sane makes everything right before Tor starts. By other
// names it is one of its steps.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/gateway"
)

func main() {
	os.Exit(cli.Main(gateway.Sane))
}
