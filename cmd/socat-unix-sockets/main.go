// SPDX-License-Identifier: GPL-3.0-or-later

// Command socat-unix-sockets serves the redirections that drop-ins start.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/stackedtor"
)

func main() {
	os.Exit(cli.Main(stackedtor.Redirects))
}
