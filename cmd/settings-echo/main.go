// SPDX-License-Identifier: GPL-3.0-or-later

// Command settings-echo prints where the Gateway is.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/stackedtor"
)

func main() {
	os.Exit(cli.Main(stackedtor.SettingsEcho))
}
