// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

// ABI is a system call convention and the numbers that some calls have in it.
type ABI struct {
	Arch         uint32 // AUDIT_ARCH_*
	Socket       uint32
	Bind         uint32
	Connect      uint32
	Listen       uint32
	Socketcall   uint32 // 0 where there is none
	IoUringSetup uint32
}

// Numbers of calls inside socketcall(2), from <linux/net.h>.
const (
	SocketcallSocket  = 1
	SocketcallBind    = 2
	SocketcallConnect = 3
	SocketcallListen  = 4
)
