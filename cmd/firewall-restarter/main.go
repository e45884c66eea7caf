// SPDX-License-Identifier: GPL-3.0-or-later

// Command firewall-restarter reloads the firewall when the clock has become right, and shuts
// the network when the firewall's tables are deleted.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/firewall"
)

func main() {
	os.Exit(cli.Main(firewall.Watch))
}
