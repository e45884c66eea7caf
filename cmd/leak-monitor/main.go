// SPDX-License-Identifier: GPL-3.0-or-later

// Command leak-monitor watches, as a service, what leaves the Gateway and is not
// Tor's.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/leaktest"
)

func main() {
	os.Exit(cli.Main(leaktest.Monitor))
}
