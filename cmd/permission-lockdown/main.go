// SPDX-License-Identifier: GPL-3.0-or-later

// Command permission-lockdown takes the access of others from homes, once for
// each.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/harden"
)

func main() {
	os.Exit(cli.Main(harden.PermissionLockdown))
}
