// SPDX-License-Identifier: GPL-3.0-or-later

// Command security-misc-check shows whether every documented setting is in force.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Main(basesys.Check))
}
