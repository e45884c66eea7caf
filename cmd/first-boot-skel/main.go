// SPDX-License-Identifier: GPL-3.0-or-later

// Command first-boot-skel fills a home that was there before its first login.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Main(basesys.Skel))
}
