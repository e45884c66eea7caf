// SPDX-License-Identifier: GPL-3.0-or-later

package execx

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// signalMax is the highest signal number of Linux.
const signalMax = 64

// sigIgnore is SIG_IGN of <signal.h>.
const sigIgnore = 1

// signalSetBytes is the size of the kernel's signal set, as rt_sigaction(2)
// wants to be told.
const signalSetBytes = 8

// sigaction is the kernel's struct sigaction, see rt_sigaction(2).
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// InheritedIgnored returns the signals that were ignored when this program was
// started, in rising order. The Go runtime has handlers for some of them now,
// so that its signal state no longer tells: systemd starts programs with PIPE
// ignored, a shell's background job has INT and QUIT ignored, nohup(1) HUP.
func InheritedIgnored() []syscall.Signal {
	known, ignoring := noted()
	var list []syscall.Signal
	for sig := syscall.Signal(1); sig <= signalMax; sig++ {
		bit := uint64(1) << (sig - 1)
		if known&bit == 0 { // the runtime never touched it
			var now sigaction
			if rtSigaction(sig, nil, &now) == nil && now.handler == sigIgnore {
				ignoring |= bit
			}
		}
		if ignoring&bit != 0 {
			list = append(list, sig)
		}
	}
	return list
}

// Replace puts the program at path in the place of this one, as execve(2)
// does, with the signals ignored that were ignored for this one and the soft
// limit of open files that this one was started with. It returns only when
// that failed, with everything as before.
func Replace(path string, argv, env []string) error {
	// Go routines of the runtime may start threads until exec; dispositions
	// belong to the process, so it does not matter which thread sets them.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	restore := ignore(InheritedIgnored())
	err := syscall.Exec(path, argv, env)
	restore()
	return fmt.Errorf("execute %s: %w", path, err)
}

// ignore ignores the signals, and returns a function that puts back what was.
// It goes past os/signal, which would tell the runtime: between here and exec
// there is nobody to handle them.
func ignore(signals []syscall.Signal) (restore func()) {
	saved := make([]sigaction, len(signals))
	for i, sig := range signals {
		// KILL and STOP, which cannot be ignored, are never in the list; the
		// call cannot fail otherwise.
		_ = rtSigaction(sig, &sigaction{handler: sigIgnore}, &saved[i])
	}
	return func() {
		for i, sig := range signals {
			_ = rtSigaction(sig, &saved[i], nil)
		}
	}
}

func rtSigaction(sig syscall.Signal, set, get *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), signalSetBytes, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
