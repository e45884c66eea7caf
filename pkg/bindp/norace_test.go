// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package bindp

// exitDelay is how much longer than usual programs may take to exit.
const exitDelay = 0
