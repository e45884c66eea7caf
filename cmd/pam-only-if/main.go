// SPDX-License-Identifier: GPL-3.0-or-later

// Command pam-only-if tells PAM by its exit status which service asks.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Bare(basesys.OnlyIf))
}
