// SPDX-License-Identifier: GPL-3.0-or-later

// Command stream-isolation-test checks that SocksPorts get circuits of their own.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/firewall"
)

func main() {
	os.Exit(cli.Main(firewall.StreamIsolation))
}
