// SPDX-License-Identifier: GPL-3.0-or-later

// Command dist-info says which build of the distribution this is.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Main(basesys.DistInfo))
}
