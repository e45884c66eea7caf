// SPDX-License-Identifier: GPL-3.0-or-later

// Command time-privacy prints a made-up time for faketime(1), a little later each time.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/uwt"
)

func main() {
	os.Exit(cli.Main(uwt.TimePrivacy))
}
