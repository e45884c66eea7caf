// SPDX-License-Identifier: GPL-3.0-or-later

// Command anon-log shows what Tor has logged since this machine started.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/gateway"
)

func main() {
	os.Exit(cli.Main(gateway.Log))
}
