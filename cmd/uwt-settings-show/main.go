// SPDX-License-Identifier: GPL-3.0-or-later

// Command uwt-settings-show says at login whether wrapped programs are stream-isolated.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/uwt"
)

func main() {
	os.Exit(cli.Main(uwt.Show))
}
