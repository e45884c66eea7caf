// SPDX-License-Identifier: GPL-3.0-or-later

// Command replace-ips writes the addresses that Qubes has given this machine
// over those that it was built with.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/qubes"
)

func main() {
	os.Exit(cli.Main(qubes.ReplaceIPs))
}
