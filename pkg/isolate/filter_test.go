// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"whonix-networking/pkg/seccomp"
)

// TestSocketFilter: which sockets can be made, by which way in.
func TestSocketFilter(t *testing.T) {
	native, compat := seccomp.Native(), seccomp.Compat()
	refused, missing := seccomp.Fail(unix.EAFNOSUPPORT), seccomp.Fail(unix.ENOSYS)
	for _, bundled := range []bool{false, true} {
		vm := interpreter(t, socketFilter(bundled))
		decide := func(arch, number, first uint32) seccomp.Action {
			packet := make([]byte, 64) // struct seccomp_data, in network byte order
			binary.BigEndian.PutUint32(packet, number)
			binary.BigEndian.PutUint32(packet[4:], arch)
			binary.BigEndian.PutUint32(packet[16:], first)
			got, err := vm.Run(packet)
			if err != nil {
				t.Fatal(err)
			}
			return seccomp.Action(uint32(got))
		}
		for family := range uint32(64) {
			want := refused
			switch family {
			case unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET:
				want = seccomp.Allow
			}
			for _, abi := range []seccomp.ABI{native, compat} {
				if got := decide(abi.Arch, abi.Socket, family); got != want {
					t.Errorf("family %d by %#x: %#x, want %#x", family, abi.Arch, got, want)
				}
			}
		}
		for number := range uint32(600) {
			if number != native.Socket && number != native.IoUringSetup {
				if got := decide(native.Arch, number, unix.AF_VSOCK); got != seccomp.Allow {
					t.Errorf("call %d: %#x", number, got)
				}
			}
		}
		rows := [][4]uint32{ // by what, which call, its first argument; what is done
			{native.Arch, native.IoUringSetup, 1, uint32(missing)}, {compat.Arch, compat.IoUringSetup, 1, uint32(missing)},
			{0x1234, native.Socket, unix.AF_INET, uint32(missing)},
		}
		if seccomp.ForeignBit != 0 {
			rows = append(rows, [4]uint32{native.Arch, native.Socket | seccomp.ForeignBit, unix.AF_INET, uint32(missing)})
		}
		if compat.Socketcall != 0 {
			socket := missing
			if bundled {
				socket = seccomp.Allow
			}
			rows = append(rows, [4]uint32{compat.Arch, compat.Socketcall, seccomp.SocketcallSocket, uint32(socket)},
				[4]uint32{compat.Arch, compat.Socketcall, seccomp.SocketcallConnect, uint32(seccomp.Allow)})
		}
		for _, r := range rows {
			if got := decide(r[0], r[1], r[2]); uint32(got) != r[3] {
				t.Errorf("bundled %v: %#x %d %d: %#x, want %#x", bundled, r[0], r[1], r[2], got, r[3])
			}
		}
	}
}

func interpreter(t *testing.T, filter seccomp.Filter) *bpf.VM {
	t.Helper()
	program, err := filter.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	var raw []bpf.RawInstruction
	for _, ins := range program {
		raw = append(raw, bpf.RawInstruction{Op: ins.Code, Jt: ins.Jt, Jf: ins.Jf, K: ins.K})
	}
	instructions, all := bpf.Disassemble(raw)
	vm, err := bpf.NewVM(instructions)
	if err != nil || !all {
		t.Fatalf("not a program: %v", err)
	}
	return vm
}
