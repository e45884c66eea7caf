// SPDX-License-Identifier: GPL-3.0-or-later

// Command sclockadj moves the clock gradually, never backwards.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.Sclockadj))
}
