// SPDX-License-Identifier: GPL-3.0-or-later

// Command sdwdate-wrapper is what people call sdwdate by.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.Wrapper))
}
