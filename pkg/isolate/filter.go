// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"debug/elf"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/elfx"
	"whonix-networking/pkg/seccomp"
)

// families are the address families of which the program may have sockets:
// those that the network namespace confines and the firewall knows, and what
// stays on this machine. vsock(7), by which a virtual machine talks to its
// host, belongs to no network namespace; of others it depends on the kernel.
func families() []uint32 {
	return []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET}
}

// socketFilter refuses sockets of other families, and what could make them
// unseen: io_uring, the x32 convention, and socketcall(2), whose arguments a
// filter cannot see. Programs of 32 bits need that one (bundled): the C library
// makes all their sockets by it.
func socketFilter(bundled bool) seccomp.Filter {
	missing := seccomp.Fail(unix.ENOSYS)
	native, compat := seccomp.Native(), seccomp.Compat()
	rules := func(abi seccomp.ABI) []seccomp.Rule {
		return []seccomp.Rule{
			{Numbers: []uint32{abi.Socket}, Args: []seccomp.Arg{{Index: 0, OneOf: families()}}, Do: seccomp.Allow},
			{Numbers: []uint32{abi.Socket}, Do: seccomp.Fail(unix.EAFNOSUPPORT)},
			{Numbers: []uint32{abi.IoUringSetup}, Do: missing},
		}
	}
	nativeRules, compatRules := rules(native), rules(compat)
	if seccomp.ForeignBit != 0 {
		foreign := seccomp.Rule{Numbers: []uint32{seccomp.ForeignBit}, Mask: seccomp.ForeignBit, Do: missing}
		nativeRules = slices.Insert(nativeRules, 0, foreign)
	}
	if compat.Socketcall != 0 && !bundled {
		compatRules = append(compatRules, seccomp.Rule{
			Numbers: []uint32{compat.Socketcall}, Args: []seccomp.Arg{{Index: 0, OneOf: []uint32{seccomp.SocketcallSocket}}}, Do: missing,
		})
	}
	return seccomp.Filter{
		Conventions: []seccomp.Convention{{Arch: native.Arch, Rules: nativeRules}, {Arch: compat.Arch, Rules: compatRules}},
		Other:       missing,
	}
}

// restrictSockets puts the filter in force for this thread and what it
// executes, for good. Without CAP_SYS_ADMIN in the namespace, which nobody but
// root has at this point, the kernel wants no_new_privs. That is wanted here
// too: a file's capabilities would count inside.
func restrictSockets(program, pathList string) error {
	filter, err := socketFilter(bits32(program, pathList)).Assemble()
	if err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if have[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		if err := seccomp.NoNewPrivileges(); err != nil {
			return err
		}
	}
	return seccomp.Restrict(filter)
}

// bits32 reports whether the program, or what interprets it, is one of 32 bits.
// What cannot be read counts as none.
func bits32(program, pathList string) bool {
	chain, _ := elfx.Chain(program, pathList)
	return slices.ContainsFunc(chain, func(f elfx.File) bool { return f.Kind == elfx.ELF && f.Class == elf.ELFCLASS32 })
}
