// SPDX-License-Identifier: GPL-3.0-or-later

// Package seccomp assembles filters of system calls, installs them on a thread
// with a listener, and answers what the listener reports, see seccomp(2) and
// seccomp_unotify(2). Which calls are reported and what the answers are is for
// others to say.
package seccomp
