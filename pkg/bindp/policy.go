// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"golang.org/x/sys/unix"

	"whonix-networking/pkg/seccomp"
)

// Mode is a way to rewrite.
type Mode string

// The ways, see bindp-launcher(1).
const (
	ModeAuto    Mode = "auto"    // the first of the next three that works
	ModeAddress Mode = "address" // the helper reads the address that the program passes
	ModeValue   Mode = "value"   // the helper makes the program's sockets
	ModePreload Mode = "preload" // a preloaded library
	ModeNone    Mode = "none"    // no rewriting
)

// Modes are all of them, as the option names them.
func Modes() []Mode { return []Mode{ModeAuto, ModeAddress, ModeValue, ModePreload, ModeNone} }

// typeMask are the bits of socket(2)'s type that are the type, SOCK_TYPE_MASK
// of <linux/net.h>.
const typeMask = 0xf

// FilterFor is the filter of one of the two modes that have one. Calls that
// could bind or connect unseen fail: io_uring_setup(2), the x32 convention, and
// whatever way in we do not know. With ipv6 ModeValue makes the program's IPv6
// sockets too.
func FilterFor(mode Mode, ipv6 bool) seccomp.Filter {
	denied := seccomp.Fail(unix.ENOSYS)
	native, compat := seccomp.Native(), seccomp.Compat()
	var rules []seccomp.Rule
	if seccomp.ForeignBit != 0 {
		rules = append(rules, seccomp.Rule{
			Numbers: []uint32{seccomp.ForeignBit}, Mask: seccomp.ForeignBit, Do: denied,
		})
	}
	rules = append(rules, reported(mode, native, ipv6)...)
	rules = append(rules, seccomp.Rule{Numbers: []uint32{native.IoUringSetup}, Do: denied})
	compatRules := append(reported(mode, compat, ipv6), seccomp.Rule{Numbers: []uint32{compat.IoUringSetup}, Do: denied})
	if compat.Socketcall != 0 {
		do := denied // its arguments are in memory, which ModeValue does not read
		if mode == ModeAddress {
			do = seccomp.Notify
		}
		compatRules = append(compatRules, seccomp.Rule{
			Numbers: []uint32{compat.Socketcall},
			Args:    []seccomp.Arg{{Index: 0, OneOf: []uint32{seccomp.SocketcallBind, seccomp.SocketcallConnect}}},
			Do:      do,
		})
	}
	return seccomp.Filter{
		Conventions: []seccomp.Convention{{Arch: native.Arch, Rules: rules}, {Arch: compat.Arch, Rules: compatRules}},
		Other:       denied,
	}
}

// reported are the calls of a convention that the helper answers.
func reported(mode Mode, abi seccomp.ABI, ipv6 bool) []seccomp.Rule {
	if mode == ModeAddress {
		return []seccomp.Rule{{Numbers: []uint32{abi.Bind, abi.Connect}, Do: seccomp.Notify}}
	}
	families := []uint32{unix.AF_INET}
	if ipv6 {
		families = append(families, unix.AF_INET6)
	}
	return []seccomp.Rule{
		{
			Numbers: []uint32{abi.Socket},
			Args: []seccomp.Arg{
				{Index: 0, OneOf: families},
				{Index: 1, Mask: typeMask, OneOf: []uint32{unix.SOCK_STREAM, unix.SOCK_DGRAM}},
				{Index: 2, OneOf: []uint32{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP}},
			},
			Do: seccomp.Notify,
		},
		{Numbers: []uint32{abi.Bind, abi.Listen, abi.Connect}, Do: seccomp.Notify},
	}
}
