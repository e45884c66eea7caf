// SPDX-License-Identifier: GPL-3.0-or-later

// Command sdwdate-clock-jump makes sdwdate start afresh, with a jump of the clock.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	os.Exit(cli.Main(sdwdate.ClockJump))
}
