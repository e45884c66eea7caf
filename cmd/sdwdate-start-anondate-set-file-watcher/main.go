// SPDX-License-Identifier: GPL-3.0-or-later

// Command sdwdate-start-anondate-set-file-watcher runs anondate-set when it is asked for.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.AnondateWatcher))
}
