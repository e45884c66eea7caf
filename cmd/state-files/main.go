// SPDX-License-Identifier: GPL-3.0-or-later

// Command state-files puts in place what programs look for beside a running Tor.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/stackedtor"
)

func main() {
	os.Exit(cli.Main(stackedtor.StateFiles))
}
