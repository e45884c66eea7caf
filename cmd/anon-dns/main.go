// SPDX-License-Identifier: GPL-3.0-or-later

// Command anon-dns gives the Gateway a resolver in the clear, or takes it away.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/gateway"
)

func main() {
	os.Exit(cli.Main(gateway.DNS))
}
