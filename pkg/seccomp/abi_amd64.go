// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

import "golang.org/x/sys/unix"

// ForeignBit marks the calls of the x32 convention, which otherwise come by
// the native way in; see arch/x86/include/uapi/asm/unistd.h of Linux.
const ForeignBit = 0x40000000

// Native is the convention of 64-bit programs.
func Native() ABI {
	return ABI{
		Arch:         unix.AUDIT_ARCH_X86_64,
		Socket:       unix.SYS_SOCKET,
		Bind:         unix.SYS_BIND,
		Connect:      unix.SYS_CONNECT,
		Listen:       unix.SYS_LISTEN,
		IoUringSetup: unix.SYS_IO_URING_SETUP,
	}
}

// Compat is the convention of 32-bit programs, from
// arch/x86/entry/syscalls/syscall_32.tbl of Linux.
func Compat() ABI {
	return ABI{
		Arch:         unix.AUDIT_ARCH_I386,
		Socket:       359,
		Bind:         361,
		Connect:      362,
		Listen:       363,
		Socketcall:   102,
		IoUringSetup: 425,
	}
}
