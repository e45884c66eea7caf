// SPDX-License-Identifier: GPL-3.0-or-later

// Command onion-grater-merger makes onion-grater's filter out of the profiles.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/oniongrater"
)

func main() {
	os.Exit(cli.Main(oniongrater.Merge))
}
