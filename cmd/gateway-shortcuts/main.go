// SPDX-License-Identifier: GPL-3.0-or-later

// Command gateway-shortcuts is the entries of the Gateway's menu, each by a name
// of its own.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/gateway"
)

func main() {
	os.Exit(cli.Main(gateway.Shortcuts))
}
