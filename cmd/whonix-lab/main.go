// SPDX-License-Identifier: GPL-3.0-or-later

// Command whonix-lab is a whole Whonix network in namespaces of one machine: it
// tries what a person would fear, and says what came of it.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/lab"
)

func main() {
	os.Exit(cli.Main(lab.Run))
}
