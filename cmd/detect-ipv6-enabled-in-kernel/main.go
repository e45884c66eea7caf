// SPDX-License-Identifier: GPL-3.0-or-later

// Command detect-ipv6-enabled-in-kernel notes in a file whether the kernel has IPv6.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/stackedtor"
)

func main() {
	os.Exit(cli.Main(stackedtor.DetectIPv6))
}
