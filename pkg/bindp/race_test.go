// SPDX-License-Identifier: GPL-3.0-or-later

//go:build race

package bindp

import "time"

// exitDelay is how much longer than others programs with the race detector may
// take to exit: they wait a second for reports.
const exitDelay = 5 * time.Second
