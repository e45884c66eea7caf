// SPDX-License-Identifier: GPL-3.0-or-later

// Command block-unsafe-logins refuses logins without a password to
// accounts that can become root.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Bare(basesys.BlockLogins))
}
