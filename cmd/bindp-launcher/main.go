// SPDX-License-Identifier: GPL-3.0-or-later

// Command bindp-launcher runs a program whose sockets are bound to addresses
// of the user's choice.
package main

import (
	"os"

	"whonix-networking/pkg/bindp"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Main(bindp.Run))
}
