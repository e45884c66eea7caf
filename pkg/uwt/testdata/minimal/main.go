// SPDX-License-Identifier: GPL-3.0-or-later

// Command minimal executes the program that a wrapper executes, and does
// nothing else: the floor for benchmarks.
package main

import (
	"os"
	"syscall"
)

func main() {
	argv := append([]string{"/usr/bin/rawdog"}, os.Args[1:]...)
	if err := syscall.Exec("/usr/bin/rawdog.anondist-orig", argv, append(os.Environ(), "LD_PRELOAD="+os.Getenv("LIBRARY"))); err != nil {
		panic(err)
	}
}
