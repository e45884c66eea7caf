// SPDX-License-Identifier: GPL-3.0-or-later

// Command uwt runs any command with Tor circuits of its own.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/isolate"
)

func main() {
	os.Exit(cli.Main(isolate.Command))
}
