// SPDX-License-Identifier: GPL-3.0-or-later

// Command remove-system-map deletes the symbol tables of kernels.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/harden"
)

func main() {
	os.Exit(cli.Main(harden.RemoveSystemMap))
}
