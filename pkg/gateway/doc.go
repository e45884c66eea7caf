// SPDX-License-Identifier: GPL-3.0-or-later

// Package gateway is what the Gateway needs around its Tor: the list of
// listeners, the files without which Tor does not start, and the checks before
// each start.
package gateway
