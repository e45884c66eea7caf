// SPDX-License-Identifier: GPL-3.0-or-later

// Command uwtctl shows what is wrapped, with which switches, and what would not be isolated.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/uwt"
)

func main() {
	os.Exit(cli.Main(uwt.Control))
}
