// SPDX-License-Identifier: GPL-3.0-or-later

// Command mmap-rnd-bits writes how many random bits addresses of mappings get.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/harden"
)

func main() {
	os.Exit(cli.Main(harden.MmapRndBits))
}
