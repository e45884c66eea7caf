// SPDX-License-Identifier: GPL-3.0-or-later

// Command uwtexec executes a wrapped program under the name it was called by.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/uwt"
)

func main() {
	os.Exit(cli.Direct("uwtexec", uwt.Exec))
}
