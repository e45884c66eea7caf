// SPDX-License-Identifier: GPL-3.0-or-later

// Command panic-on-oops makes the kernel stop at the first oops.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/harden"
)

func main() {
	os.Exit(cli.Main(harden.PanicOnOops))
}
