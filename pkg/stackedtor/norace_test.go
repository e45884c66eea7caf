// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package stackedtor

// memoryFactor is for builds without the race detector.
const memoryFactor = 1
