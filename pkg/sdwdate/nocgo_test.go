// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !cgo

package sdwdate

// withCgo says that dropAmbient is not supported.
const withCgo = false
