// SPDX-License-Identifier: GPL-3.0-or-later

//go:build race

package stackedtor

// memoryFactor is how much more memory the race detector may take.
const memoryFactor = 10
