// SPDX-License-Identifier: GPL-3.0-or-later

// Command leaktest tries to get packets past Tor; by the name of one of its
// tests it does that one.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/leaktest"
)

func main() {
	os.Exit(cli.Main(leaktest.Run))
}
