// SPDX-License-Identifier: GPL-3.0-or-later

// Command sdwdate-log-viewer follows the journal of everything that sets the clock.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.LogViewer))
}
