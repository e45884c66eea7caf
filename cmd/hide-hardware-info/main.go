// SPDX-License-Identifier: GPL-3.0-or-later

// Command hide-hardware-info takes access to hardware's identifiers from
// users.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/harden"
)

func main() {
	os.Exit(cli.Main(harden.HideHardwareInfo))
}
