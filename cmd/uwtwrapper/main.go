// SPDX-License-Identifier: GPL-3.0-or-later

// Command uwtwrapper stands in the place of programs and runs them stream-isolated.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/uwt"
)

func main() {
	os.Exit(cli.Direct("uwtwrapper", uwt.Wrapper))
}
