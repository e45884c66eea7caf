// SPDX-License-Identifier: GPL-3.0-or-later

// Command whonix-socket-proxyd relays connections of sockets that systemd passes.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/stackedtor"
)

func main() {
	os.Exit(cli.Main(stackedtor.Proxyd))
}
