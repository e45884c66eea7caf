// SPDX-License-Identifier: GPL-3.0-or-later

// Command virusforget keeps a copy of a user's start-up files, and undoes changes.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Main(basesys.Virusforget))
}
