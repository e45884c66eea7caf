// SPDX-License-Identifier: GPL-3.0-or-later

// Command anon-auth-autogen makes an onion service that only clients with a key
// can reach. By its other name it installs such a key on the client's side.
package main

import (
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/onionauth"
)

func main() {
	os.Exit(cli.Main(onionauth.Run))
}
