// SPDX-License-Identifier: GPL-3.0-or-later

// Command enable-firewall loads the firewall for whonix-firewall.service, and shuts the
// network when that fails.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/firewall"
)

func main() {
	os.Exit(cli.Main(firewall.Enable))
}
