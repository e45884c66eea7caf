// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

import "golang.org/x/sys/unix"

// ForeignBit would mark calls of a second convention behind the native way in,
// which arm64 does not have.
const ForeignBit = 0

// Native is the convention of 64-bit programs.
func Native() ABI {
	return ABI{
		Arch:         unix.AUDIT_ARCH_AARCH64,
		Socket:       unix.SYS_SOCKET,
		Bind:         unix.SYS_BIND,
		Connect:      unix.SYS_CONNECT,
		Listen:       unix.SYS_LISTEN,
		IoUringSetup: unix.SYS_IO_URING_SETUP,
	}
}

// Compat is the convention of 32-bit programs, from arch/arm/tools/syscall.tbl
// of Linux. The old socketcall is not in that of the kernel for arm64.
func Compat() ABI {
	return ABI{
		Arch:         unix.AUDIT_ARCH_ARM,
		Socket:       281,
		Bind:         282,
		Connect:      283,
		Listen:       284,
		IoUringSetup: 425,
	}
}
