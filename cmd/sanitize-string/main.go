// SPDX-License-Identifier: GPL-3.0-or-later

// Command sanitize-string makes text safe for terminals and logs.
package main

import (
	"context"
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/sdwdate"
)

func main() {
	// A signal ends it as it ends any filter.
	os.Exit(cli.Run(context.Background(), cli.OS(), sdwdate.SanitizeString))
}
