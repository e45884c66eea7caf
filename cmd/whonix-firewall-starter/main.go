// SPDX-License-Identifier: GPL-3.0-or-later

// Command whonix-firewall-starter starts the firewall's tools from the desktop.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/firewall"
)

func main() {
	os.Exit(cli.Main(firewall.Starter))
}
