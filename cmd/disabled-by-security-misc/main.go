// SPDX-License-Identifier: GPL-3.0-or-later

// Command disabled-by-security-misc stands in the place of modules that do not load.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Main(basesys.Disabled))
}
