// SPDX-License-Identifier: GPL-3.0-or-later

// Command systemd-unit-files-generator writes the units that listen where programs expect a Tor.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/stackedtor"
)

func main() {
	os.Exit(cli.Main(stackedtor.Generate))
}
