// SPDX-License-Identifier: GPL-3.0-or-later

//go:build linux && cgo

package execx

/*
#include <signal.h>
#include <stdint.h>

static uint64_t seen, ignored;

// Runs before the Go runtime does, which would put its handlers over ignored
// signals. The C library keeps 32 and 33 to itself; nobody ignores those.
__attribute__((constructor)) static void note_dispositions(void)
{
	for (int sig = 1; sig <= 64; sig++) {
		struct sigaction now;
		if (sigaction(sig, 0, &now) == 0) {
			seen |= UINT64_C(1) << (sig - 1);
			if (now.sa_handler == SIG_IGN)
				ignored |= UINT64_C(1) << (sig - 1);
		}
	}
}

static uint64_t seen_signals(void) { return seen; }
static uint64_t ignored_signals(void) { return ignored; }
*/
import "C"

// noted returns what was noted before the runtime started. The race detector
// needs cgo, with which the way of inherited.go is the C library's own.
func noted() (known, ignoring uint64) {
	return uint64(C.seen_signals()), uint64(C.ignored_signals())
}
