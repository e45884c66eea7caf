// SPDX-License-Identifier: GPL-3.0-or-later

// Command anon-verify checks Tor's configuration and says what it is made of.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/gateway"
)

func main() {
	os.Exit(cli.Main(gateway.Verify))
}
