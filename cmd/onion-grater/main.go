// SPDX-License-Identifier: GPL-3.0-or-later

// Command onion-grater lets Workstations ask Tor what their profiles allow.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/oniongrater"
)

func main() {
	os.Exit(cli.Main(oniongrater.Proxy))
}
