// SPDX-License-Identifier: GPL-3.0-or-later

// Command tor-ask asks Tor one question at its Control Port.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.TorAsk))
}
