// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package bindp

// exitDelay is how long programs wait before they exit.
const exitDelay = 0
