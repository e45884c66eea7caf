// SPDX-License-Identifier: GPL-3.0-or-later

// Command remount-secure adds nosuid, nodev and noexec to mounts.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/harden"
)

func main() {
	os.Exit(cli.Main(harden.RemountSecure))
}
