// SPDX-License-Identifier: GPL-3.0-or-later

//go:build race

package bindp

import "time"

// exitDelay is how long programs with the race detector wait before they exit.
const exitDelay = time.Second
