// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

import (
	"golang.org/x/sys/unix"
)

// assembler writes a program of the classic Berkeley Packet Filter in one go.
// Jumps lead forward only, to labels that are placed later.
type assembler struct {
	code    []unix.SockFilter
	places  []int // by label; the label's instruction
	pending []jump
}

// jump is an instruction one of whose branches leads to a label.
type jump struct {
	at, label int
	whenTrue  bool
}

const (
	opLoad      = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd       = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opJumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opReturn    = unix.BPF_RET | unix.BPF_K
	allBits     = ^uint32(0)
	jumpMax     = 255 // instructions that a conditional jump can skip
)

func (a *assembler) emit(op uint16, k uint32) {
	a.code = append(a.code, unix.SockFilter{Code: op, K: k})
}

func (a *assembler) load(offset uint32) { a.emit(opLoad, offset) }
func (a *assembler) ret(do Action)      { a.emit(opReturn, uint32(do)) }

// label returns a new label; place says where it is.
func (a *assembler) label() int {
	a.places = append(a.places, -1)
	return len(a.places) - 1
}

func (a *assembler) place(label int) { a.places[label] = len(a.code) }

func (a *assembler) jumpEqual(k uint32, label int, whenTrue bool) {
	a.pending = append(a.pending, jump{len(a.code), label, whenTrue})
	a.emit(opJumpEqual, k)
}

func (a *assembler) unlessEqual(k uint32, label int) { a.jumpEqual(k, label, false) }

// oneOf goes on behind itself when what is loaded is, under mask, one of the
// values, else to the label. A mask of 0 means all bits.
func (a *assembler) oneOf(mask uint32, values []uint32, otherwise int) {
	if mask != 0 && mask != allBits {
		a.emit(opAnd, mask)
	}
	found := a.label()
	last := len(values) - 1
	for _, v := range values[:last] {
		a.jumpEqual(v, found, true)
	}
	a.unlessEqual(values[last], otherwise)
	a.place(found)
}

// finish resolves the labels.
func (a *assembler) finish() ([]unix.SockFilter, error) {
	for _, j := range a.pending {
		skip := a.places[j.label] - j.at - 1
		if skip < 0 || skip > jumpMax {
			return nil, ErrTooLong
		}
		if j.whenTrue {
			a.code[j.at].Jt = uint8(skip)
		} else {
			a.code[j.at].Jf = uint8(skip)
		}
	}
	if len(a.code) > unix.BPF_MAXINSNS {
		return nil, ErrTooLong
	}
	return a.code, nil
}
