// SPDX-License-Identifier: GPL-3.0-or-later

// Command settings-environment-file-update writes where the Gateway is to a file.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/stackedtor"
)

func main() {
	os.Exit(cli.Main(stackedtor.SettingsFile))
}
