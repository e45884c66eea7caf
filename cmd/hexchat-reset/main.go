// SPDX-License-Identifier: GPL-3.0-or-later

// Command hexchat-reset gives HexChat its first configuration again.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Main(basesys.HexchatReset))
}
