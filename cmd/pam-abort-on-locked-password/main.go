// SPDX-License-Identifier: GPL-3.0-or-later

// Command pam-abort-on-locked-password says why a locked account cannot log in.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Bare(basesys.Abort))
}
