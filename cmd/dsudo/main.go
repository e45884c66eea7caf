// SPDX-License-Identifier: GPL-3.0-or-later

// Command dsudo is sudo with the default password.
package main

import (
	"os"

	"whonix-networking/pkg/basesys"
	"whonix-networking/pkg/cli"
)

func main() {
	os.Exit(cli.Main(basesys.Dsudo))
}
