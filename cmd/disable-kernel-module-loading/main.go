// SPDX-License-Identifier: GPL-3.0-or-later

// Command disable-kernel-module-loading keeps the kernel from loading modules.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Main(basesys.NoModules))
}
