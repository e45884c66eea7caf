// SPDX-License-Identifier: GPL-3.0-or-later

// Command pam-info tells who logs in what may keep him out.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Bare(basesys.Info))
}
