// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"whonix-networking/pkg/seccomp"
)

// TestFilter: what each filter does with the calls that matter, and that all
// others are allowed.
func TestFilter(t *testing.T) {
	native, compat := seccomp.Native(), seccomp.Compat()
	denied := seccomp.Fail(unix.ENOSYS)
	const any = 12345
	type call struct {
		arch, number uint32
		args         [3]uint32
	}
	type row struct {
		name           string
		call           call
		address, value seccomp.Action
	}
	rows := []row{
		{"bind", call{native.Arch, native.Bind, [3]uint32{any, any, any}}, seccomp.Notify, seccomp.Notify},
		{"connect", call{native.Arch, native.Connect, [3]uint32{}}, seccomp.Notify, seccomp.Notify},
		{"listen", call{native.Arch, native.Listen, [3]uint32{}}, seccomp.Allow, seccomp.Notify},
		{"socket", call{native.Arch, native.Socket, [3]uint32{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, unix.IPPROTO_TCP}}, seccomp.Allow, seccomp.Notify},
		{"datagram socket", call{native.Arch, native.Socket, [3]uint32{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK, 0}}, seccomp.Allow, seccomp.Notify},
		{"raw socket", call{native.Arch, native.Socket, [3]uint32{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP}}, seccomp.Allow, seccomp.Allow},
		{"ICMP socket", call{native.Arch, native.Socket, [3]uint32{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}}, seccomp.Allow, seccomp.Allow},
		{"UNIX socket", call{native.Arch, native.Socket, [3]uint32{unix.AF_UNIX, unix.SOCK_STREAM, 0}}, seccomp.Allow, seccomp.Allow},
		{"IPv6 socket", call{native.Arch, native.Socket, [3]uint32{unix.AF_INET6, unix.SOCK_STREAM, 0}}, seccomp.Allow, seccomp.Allow},
		{"io_uring_setup", call{native.Arch, native.IoUringSetup, [3]uint32{}}, denied, denied},
		{"32-bit io_uring_setup", call{compat.Arch, compat.IoUringSetup, [3]uint32{}}, denied, denied},
		{"32-bit bind", call{compat.Arch, compat.Bind, [3]uint32{}}, seccomp.Notify, seccomp.Notify},
		{"32-bit connect", call{compat.Arch, compat.Connect, [3]uint32{}}, seccomp.Notify, seccomp.Notify},
		{"32-bit write", call{compat.Arch, 4, [3]uint32{}}, seccomp.Allow, seccomp.Allow},
		{"unknown convention", call{0x1234, native.Bind, [3]uint32{}}, denied, denied},
	}
	if compat.Socketcall != 0 {
		rows = append(rows,
			row{"bundled bind", call{compat.Arch, compat.Socketcall, [3]uint32{seccomp.SocketcallBind}}, seccomp.Notify, denied},
			row{"bundled connect", call{compat.Arch, compat.Socketcall, [3]uint32{seccomp.SocketcallConnect}}, seccomp.Notify, denied},
			row{"bundled listen", call{compat.Arch, compat.Socketcall, [3]uint32{seccomp.SocketcallListen}}, seccomp.Allow, seccomp.Allow})
	}
	if seccomp.ForeignBit != 0 {
		rows = append(rows,
			row{"x32 bind", call{native.Arch, native.Bind | seccomp.ForeignBit, [3]uint32{}}, denied, denied},
			row{"x32 write", call{native.Arch, unix.SYS_WRITE | seccomp.ForeignBit, [3]uint32{}}, denied, denied})
	}
	for number := range uint32(600) {
		if number != native.Bind && number != native.Connect && number != native.Listen && number != native.Socket && number != native.IoUringSetup {
			rows = append(rows, row{"other", call{native.Arch, number, [3]uint32{any, any, any}}, seccomp.Allow, seccomp.Allow})
		}
	}
	for _, c := range []struct {
		mode Mode
		ipv6 bool
	}{{ModeAddress, false}, {ModeAddress, true}, {ModeValue, false}, {ModeValue, true}} {
		mode, vm := c.mode, interpreter(t, c.mode, c.ipv6)
		for _, r := range rows {
			want := r.address
			if mode == ModeValue {
				want = r.value
				if c.ipv6 && r.name == "IPv6 socket" {
					want = seccomp.Notify
				}
			}
			words := []uint32{r.call.number, r.call.arch, 0, 0, r.call.args[0], 0, r.call.args[1], 0, r.call.args[2], 0, 0, 0, 0, 0, 0, 0}
			var packet []byte
			for _, w := range words { // the interpreter reads network byte order
				packet = append(packet, byte(w>>24), byte(w>>16), byte(w>>8), byte(w))
			}
			got, err := vm.Run(packet)
			if err != nil || seccomp.Action(uint32(got)) != want {
				t.Errorf("mode %s, %s (%d): %#x, want %#x, %v", mode, r.name, r.call.number, got, want, err)
			}
		}
	}
}

func interpreter(t *testing.T, mode Mode, ipv6 bool) *bpf.VM {
	t.Helper()
	program, err := FilterFor(mode, ipv6).Assemble()
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

// TestLadder: which mode is used when the probe failed, and when not.
func TestLadder(t *testing.T) {
	for _, c := range []struct {
		asked   Mode
		refused error
		want    Mode
	}{
		{ModeAuto, nil, ModeAddress}, {ModeAuto, unix.EPERM, ModeValue},
		{ModeAddress, nil, ModeAddress}, {ModeAddress, unix.EPERM, ""},
		{ModeValue, nil, ModeValue}, {ModeValue, unix.EPERM, ModeValue},
	} {
		got, err := ladder(c.asked, c.refused)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s with %v: %s, %v; want %s", c.asked, c.refused, got, err, c.want)
		}
	}
}

// TestParseStatus: files that are not what they should be are errors.
func TestParseStatus(t *testing.T) {
	const good = "Name:\tx\nTgid:\t7\nUid:\t1\t2\t3\t4\nCapEff:\t0000000000000400\n"
	p, err := parseStatus(good)
	if err != nil || p.group != 7 || p.fsuid != 4 || p.effective != 0x400 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"", "Tgid:\t7\n", "Tgid:\tx\nUid:\t1\t2\t3\t4\nCapEff:\t0\n", "Tgid:\t7\nUid:\t1\t2\t3\nCapEff:\t0\n", "Tgid:\t7\nUid:\t1\t2\t3\t4\nCapEff:\tg\n"} {
		if p, err := parseStatus(bad); err == nil {
			t.Errorf("%q: %+v", bad, p)
		}
	}
}
