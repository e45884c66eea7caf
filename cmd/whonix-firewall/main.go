// SPDX-License-Identifier: GPL-3.0-or-later

// Command whonix-firewall computes and loads the firewall of a Whonix machine.
// Called as whonix_firewall it chooses the role by the marker files; called as
// whonix-gateway-firewall, whonix-workstation-firewall or whonix-host-firewall
// it has that role.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/firewall"
)

func main() {
	os.Exit(cli.Main(firewall.Run))
}
