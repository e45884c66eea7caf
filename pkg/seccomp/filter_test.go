// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// run lets the interpreter of golang.org/x/net decide about a call.
func run(t interface{ Fatal(...any) }, program []unix.SockFilter, call Call) Action {
	raw := make([]bpf.RawInstruction, len(program))
	for i, ins := range program {
		raw[i] = bpf.RawInstruction{Op: ins.Code, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	instructions, all := bpf.Disassemble(raw)
	if !all {
		t.Fatal("the program has instructions that are none")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	// The interpreter reads packets, in network byte order; the kernel reads
	// each word of the structure in its own.
	b := make([]byte, offsetArgs+argSize*argCount)
	binary.BigEndian.PutUint32(b[offsetNumber:], uint32(call.Number))
	binary.BigEndian.PutUint32(b[offsetArch:], call.Arch)
	for i, a := range call.Args {
		binary.BigEndian.PutUint32(b[offsetArgs+argSize*i:], uint32(a))
		binary.BigEndian.PutUint32(b[offsetArgs+argSize*i+4:], uint32(a>>32))
	}
	verdict, err := vm.Run(b)
	if err != nil {
		t.Fatal(err)
	}
	return Action(uint32(verdict))
}

// decide says the same as the program without being one.
func decide(f Filter, call Call) Action {
	for _, c := range f.Conventions {
		if c.Arch != call.Arch {
			continue
		}
		for _, r := range c.Rules {
			if fits(r, call) {
				return r.Do
			}
		}
		return Allow
	}
	return f.Other
}

func fits(r Rule, call Call) bool {
	in := func(mask, v uint32, values []uint32) bool {
		if mask != 0 {
			v &= mask
		}
		for _, w := range values {
			if v == w {
				return true
			}
		}
		return false
	}
	if len(r.Numbers) > 0 && !in(r.Mask, uint32(call.Number), r.Numbers) {
		return false
	}
	for _, a := range r.Args {
		if !in(a.Mask, uint32(call.Args[a.Index]), a.OneOf) {
			return false
		}
	}
	return true
}

// TestAssembleProperty: whatever the rules are, the program decides as they
// say.
func TestAssembleProperty(t *testing.T) {
	small := rapid.Uint32Range(0, 5)
	values := rapid.SliceOfN(small, 1, 4)
	mask := rapid.SampledFrom([]uint32{0, 1, 3, 7, allBits})
	arg := rapid.Custom(func(t *rapid.T) Arg {
		return Arg{rapid.IntRange(0, 5).Draw(t, "index"), mask.Draw(t, "mask"), values.Draw(t, "values")}
	})
	rule := rapid.Custom(func(t *rapid.T) Rule {
		return Rule{
			Numbers: rapid.SliceOfN(small, 0, 4).Draw(t, "numbers"),
			Mask:    mask.Draw(t, "number mask"),
			Args:    rapid.SliceOfN(arg, 0, 2).Draw(t, "args"),
			Do:      rapid.SampledFrom([]Action{Allow, Notify, Fail(unix.ENOSYS), Fail(unix.EPERM)}).Draw(t, "action"),
		}
	})
	convention := rapid.Custom(func(t *rapid.T) Convention {
		return Convention{Arch: small.Draw(t, "arch"), Rules: rapid.SliceOfN(rule, 0, 5).Draw(t, "rules")}
	})
	rapid.Check(t, func(t *rapid.T) {
		f := Filter{Conventions: rapid.SliceOfN(convention, 0, 3).Draw(t, "conventions"), Other: Fail(unix.EACCES)}
		program, err := f.Assemble()
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			call := Call{Number: int32(small.Draw(t, "number")), Arch: small.Draw(t, "arch")}
			for i := range call.Args {
				call.Args[i] = uint64(small.Draw(t, "arg")) | uint64(small.Draw(t, "high"))<<32
			}
			if got, want := run(t, program, call), decide(f, call); got != want {
				t.Fatalf("%+v: %#x, want %#x", call, got, want)
			}
		}
	})
}

func TestAssembleRefuses(t *testing.T) {
	many := make([]uint32, jumpMax+2)
	for name, f := range map[string]Filter{
		"a jump too far":      {Conventions: []Convention{{Rules: []Rule{{Numbers: many}}}}},
		"no such argument":    {Conventions: []Convention{{Rules: []Rule{{Args: []Arg{{Index: 6, OneOf: []uint32{1}}}}}}}},
		"a negative argument": {Conventions: []Convention{{Rules: []Rule{{Args: []Arg{{Index: -1, OneOf: []uint32{1}}}}}}}},
		"no values":           {Conventions: []Convention{{Rules: []Rule{{Args: []Arg{{Index: 1}}}}}}},
	} {
		if program, err := f.Assemble(); err == nil {
			t.Errorf("%s: assembled to %d instructions", name, len(program))
		}
	}
	if _, err := Install(nil); !errors.Is(err, ErrTooLong) {
		t.Errorf("an empty program: %v", err)
	}
}

func TestFail(t *testing.T) {
	if Fail(unix.ENOSYS) != 0x50026 {
		t.Errorf("%#x", Fail(unix.ENOSYS))
	}
}
