// SPDX-License-Identifier: GPL-3.0-or-later

// Command onion-grater-profile enables, disables and shows onion-grater's
// profiles. It is also onion-grater-add, onion-grater-remove and
// onion-grater-list.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/oniongrater"
)

func main() {
	os.Exit(cli.Main(oniongrater.Profile))
}
