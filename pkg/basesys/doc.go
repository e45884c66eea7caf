// SPDX-License-Identifier: GPL-3.0-or-later

// Package basesys is the base system's settings and the programs around them:
// the table of every documented setting and the check that it is in force, the
// helpers that PAM runs at logins, the copy of a user's start-up files, and what
// fills a new home.
package basesys
