// SPDX-License-Identifier: GPL-3.0-or-later

// Command network-proxy-setup gives a Gateway in Qubes its internal interface
// before there is a client.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/qubes"
)

func main() {
	os.Exit(cli.Main(qubes.SetUpNetwork))
}
