// SPDX-License-Identifier: GPL-3.0-or-later

// Package e2e installs the Debian packages on a Gateway and a Workstation, boots
// both with systemd beside an Internet that has a Tor network, and uses them as
// a person would. All of it is in tests with the build tag e2e, which
// scripts/e2e runs: they need Debian systems that it prepares.
package e2e
