// SPDX-License-Identifier: GPL-3.0-or-later

// Command permission-hardener enforces modes of files, takes setuid, setgid and
// capabilities from programs, and restores them.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/harden"
)

func main() {
	os.Exit(cli.Main(harden.PermissionHardener))
}
