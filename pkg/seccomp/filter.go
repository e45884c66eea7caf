// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Action is what the kernel does with a system call: a SECCOMP_RET_* value.
type Action uint32

// Actions without a value of their own.
const (
	Allow  Action = unix.SECCOMP_RET_ALLOW
	Notify Action = unix.SECCOMP_RET_USER_NOTIF
)

// Fail makes the call return errno without being made.
func Fail(errno unix.Errno) Action {
	return Action(unix.SECCOMP_RET_ERRNO | uint32(errno)&unix.SECCOMP_RET_DATA)
}

// Arg is a condition on the low 32 bits of an argument: all that the kernel
// looks at where the argument is an int. With Mask applied they must be one of
// the values.
type Arg struct {
	Index int // 0 to 5
	Mask  uint32
	OneOf []uint32
}

// Rule says what is done with a system call. A rule without numbers is for
// every call of the convention.
type Rule struct {
	Numbers []uint32
	Mask    uint32 // applied to the call's number first; 0 means all bits
	Args    []Arg  // all of them must hold
	Do      Action
}

// Convention is the rules for calls that come by one architecture's way in.
// The first rule that fits counts.
type Convention struct {
	Arch  uint32 // AUDIT_ARCH_*
	Rules []Rule
}

// Filter is rules for all conventions.
type Filter struct {
	Conventions []Convention
	Other       Action // calls by any other way in
}

// Offsets in struct seccomp_data. An argument is 8 bytes; both architectures
// we know have the low half first.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
	argSize      = 8
	argCount     = 6
)

// ErrTooLong says that a filter has more rules than its jumps can cross.
var ErrTooLong = errors.New("the filter is too long")

// Assemble returns the filter as a program for the kernel. What no rule of a
// convention is about is allowed.
func (f Filter) Assemble() ([]unix.SockFilter, error) {
	a := &assembler{}
	a.load(offsetArch)
	for _, c := range f.Conventions {
		next := a.label()
		a.unlessEqual(c.Arch, next)
		for _, r := range c.Rules {
			if err := a.rule(r); err != nil {
				return nil, err
			}
		}
		a.ret(Allow)
		a.place(next)
		// The accumulator still has the architecture: the jump here was
		// made before anything else was loaded.
	}
	a.ret(f.Other)
	return a.finish()
}

func (a *assembler) rule(r Rule) error {
	next := a.label()
	if len(r.Numbers) > 0 {
		a.load(offsetNumber)
		a.oneOf(r.Mask, r.Numbers, next)
	}
	for _, arg := range r.Args {
		if arg.Index < 0 || arg.Index >= argCount || len(arg.OneOf) == 0 {
			return fmt.Errorf("a condition on argument %d with %d values is none", arg.Index, len(arg.OneOf))
		}
		a.load(uint32(offsetArgs + argSize*arg.Index))
		a.oneOf(arg.Mask, arg.OneOf, next)
	}
	a.ret(r.Do)
	a.place(next)
	return nil
}
