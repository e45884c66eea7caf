// SPDX-License-Identifier: GPL-3.0-or-later

// Command resolv-conf-repair makes /etc/resolv.conf lead to the Gateway's DNS again.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/stackedtor"
)

func main() {
	os.Exit(cli.Main(stackedtor.RepairResolvConf))
}
