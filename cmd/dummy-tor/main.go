// SPDX-License-Identifier: GPL-3.0-or-later

// Command dummy-tor stands in the place of tor on a Workstation.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/stackedtor"
)

func main() {
	os.Exit(cli.Bare(stackedtor.DummyTor))
}
