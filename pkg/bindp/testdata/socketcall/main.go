// SPDX-License-Identifier: GPL-3.0-or-later

//go:build 386

// Command socketcall is a 32-bit program that binds by socketcall(2), and by
// bind(2) itself, and prints what it is bound to.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

const (
	sysSocketcall  = 102
	sysBind        = 361
	sysConnect     = 362
	sysIoUring     = 425
	callSocket     = 1
	callBind       = 2
	callConnect    = 3
	callListen     = 4
	callGetsockame = 6
)

func socketcall(call uintptr, args ...uintptr) (uintptr, syscall.Errno) {
	block := make([]uintptr, 6)
	copy(block, args)
	r, _, errno := syscall.RawSyscall(sysSocketcall, call, uintptr(unsafe.Pointer(&block[0])), 0)
	return r, errno
}

func address(port uint16) *syscall.RawSockaddrInet4 {
	a := &syscall.RawSockaddrInet4{Family: syscall.AF_INET, Addr: [4]byte{127, 0, 0, 1}}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&a.Port))[:], port)
	return a
}

func name(fd uintptr) string {
	var a syscall.RawSockaddrInet4
	size := uint32(unsafe.Sizeof(a))
	_, errno := socketcall(callGetsockame, fd, uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return errno.Error()
	}
	return fmt.Sprint(a.Addr, binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&a.Port))[:]))
}

func main() {
	a := address(7777)
	fd, errno := socketcall(callSocket, syscall.AF_INET, syscall.SOCK_STREAM, 0)
	fmt.Println("socket", int(errno))
	_, errno = socketcall(callBind, fd, uintptr(unsafe.Pointer(a)), unsafe.Sizeof(*a))
	fmt.Println("bundled bind", int(errno), name(fd))
	_, errno = socketcall(callListen, fd, 5)
	fmt.Println("listen", int(errno), name(fd))
	fd, _ = socketcall(callSocket, syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	_, _, errno = syscall.RawSyscall(sysBind, fd, uintptr(unsafe.Pointer(a)), unsafe.Sizeof(*a))
	fmt.Println("bind", int(errno), name(fd))
	fd, _ = socketcall(callSocket, syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	_, errno = socketcall(callConnect, fd, uintptr(unsafe.Pointer(a)), unsafe.Sizeof(*a))
	fmt.Println("bundled connect", int(errno))
	_, errno = socketcall(callBind, fd, 8, 16)
	fmt.Println("bad address", int(errno))
	_, _, errno = syscall.RawSyscall(sysIoUring, 1, 0, 0)
	fmt.Println("io_uring", int(errno))
	os.Exit(0)
}
