// SPDX-License-Identifier: GPL-3.0-or-later

// Package house holds no code: its tests keep the rules of this repository,
// which package may import which, what every program comes with, and what is
// installed where.
package house
