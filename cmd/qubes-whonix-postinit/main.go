// SPDX-License-Identifier: GPL-3.0-or-later

// Command qubes-whonix-postinit makes a machine in Qubes, once it has started, what
// dom0 wants it to be.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/qubes"
)

func main() {
	os.Exit(cli.Main(qubes.Postinit))
}
