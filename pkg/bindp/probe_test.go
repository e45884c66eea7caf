// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/seccomp"
)

// Names under which the test binary is another program.
const (
	launcherName   = "bindp-launcher"
	probeName      = "probe"
	restrictedName = "restricted"
)

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case launcherName, HelperName:
		os.Exit(cli.Main(Run))
	case restrictedName:
		os.Exit(restricted())
	case probeName:
		p := probe{fd: -1, input: bufio.NewScanner(os.Stdin)}
		for _, step := range os.Args[1:] {
			p.do(step)
		}
	default:
		os.Exit(m.Run())
	}
}

// restricted becomes the launcher, on a machine that permits nobody to look
// into processes: as ptrace_scope 3 does, for this process and its children.
func restricted() int {
	runtime.LockOSThread()
	filter := seccomp.Filter{
		Conventions: []seccomp.Convention{{Arch: seccomp.Native().Arch, Rules: []seccomp.Rule{{
			Numbers: []uint32{unix.SYS_PROCESS_VM_READV, unix.SYS_PIDFD_GETFD}, Do: seccomp.Fail(unix.EPERM),
		}}}},
		Other: seccomp.Allow,
	}
	program, err := filter.Assemble()
	if err != nil {
		return 2
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return 2
	}
	os.Args[0] = launcherName
	err = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	fmt.Fprintln(os.Stderr, err)
	return 2
}

// probe is a program that does with a socket what its arguments say, one after
// the other, and prints what came of it. It makes system calls directly, as
// static programs do.
type probe struct {
	fd    int
	input *bufio.Scanner
}

func (p *probe) do(step string) {
	word, arg, _ := strings.Cut(step, " ")
	switch word {
	case "socket":
		p.socket(arg)
	case "bind":
		p.say("bind", bindRaw(p.fd, encode(arg)))
	case "connect":
		a := encode(arg)
		_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(p.fd), uintptr(unsafe.Pointer(&a[0])), uintptr(len(a)))
		p.say("connect", errno)
	case "listen":
		p.say("listen", unix.Listen(p.fd, 5))
	case "close":
		p.say("close", unix.Close(p.fd))
	case "name":
		a, err := localAddress(p.fd)
		if err != nil {
			p.say("name", err)
			return
		}
		fmt.Println("name", decode(a))
	case "set":
		p.set(arg)
	case "get":
		p.get(arg)
	case "accept":
		p.accept()
	default:
		p.more(word, arg)
	}
}

func (p *probe) more(word, arg string) {
	switch word {
	case "null":
		_, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(p.fd), 0, sizeInet4)
		p.say("null", errno)
	case "length":
		n, _ := strconv.Atoi(arg)
		a := make([]byte, maxAddress+1)
		_, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(p.fd), uintptr(unsafe.Pointer(&a[0])), uintptr(n))
		p.say("length", errno)
	case "constant":
		p.constant(arg)
	case "flip":
		p.flip(arg)
	case "uring":
		_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
		p.say("uring", errno)
	case "drop":
		p.say("drop", errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)))
	case "process":
		p.process(arg)
	case "wait": // for a line or the end of standard input
		p.input.Scan()
	case "spawn":
		p.spawn(arg, os.Stdout)
	case "quiet":
		p.spawn(arg, nil)
	case "measure":
		p.measure(arg)
	default:
		fmt.Println("unknown step", word)
	}
}

// say prints the name of the error, as it is in <errno.h>, or ok.
func (p *probe) say(what string, err error) {
	var errno unix.Errno
	switch {
	case err == nil, errors.As(err, &errno) && errno == 0:
		fmt.Println(what, "ok")
	case errno != 0:
		fmt.Println(what, unix.ErrnoName(errno))
	default:
		fmt.Println(what, err)
	}
}

func (p *probe) socket(arg string) {
	kinds := map[string][2]int{
		"tcp": {unix.AF_INET, unix.SOCK_STREAM}, "udp": {unix.AF_INET, unix.SOCK_DGRAM},
		"tcp6": {unix.AF_INET6, unix.SOCK_STREAM}, "udp6": {unix.AF_INET6, unix.SOCK_DGRAM},
		"unix": {unix.AF_UNIX, unix.SOCK_STREAM},
	}
	var err error
	p.fd, err = unix.Socket(kinds[arg][0], kinds[arg][1]|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.say("socket", err)
	}
}

var probeOptions = map[string][2]int{
	"reuseaddr": {unix.SOL_SOCKET, unix.SO_REUSEADDR}, "reuseport": {unix.SOL_SOCKET, unix.SO_REUSEPORT},
	"transparent": {unix.SOL_IP, unix.IP_TRANSPARENT}, "nodelay": {unix.SOL_TCP, unix.TCP_NODELAY},
	"v6only": {unix.SOL_IPV6, unix.IPV6_V6ONLY}, "noport": {unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT},
	"keepalive": {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
}

func (p *probe) set(arg string) {
	name, value, _ := strings.Cut(arg, " ")
	n, _ := strconv.Atoi(value)
	p.say("set", unix.SetsockoptInt(p.fd, probeOptions[name][0], probeOptions[name][1], n))
}

func (p *probe) get(arg string) {
	switch arg {
	case "cloexec":
		n, _ := unix.FcntlInt(uintptr(p.fd), unix.F_GETFD, 0)
		fmt.Println(arg, n)
	default:
		n, err := unix.GetsockoptInt(p.fd, probeOptions[arg][0], probeOptions[arg][1])
		fmt.Println(arg, n, err)
	}
}

// accept takes one connection, closes it, and tells what it was.
func (p *probe) accept() {
	fd, _, err := unix.Accept(p.fd)
	if err != nil {
		p.say("accept", err)
		return
	}
	a, _ := localAddress(fd)
	p.say("accept at "+decode(a), unix.Close(fd))
}

// constant binds with an address in memory that cannot be written.
func (p *probe) constant(arg string) {
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		p.say("constant", err)
		return
	}
	a := encode(arg)
	copy(page, a)
	err = unix.Mprotect(page, unix.PROT_READ)
	p.say("constant", errors.Join(err, bindRaw(p.fd, page[:len(a)])))
	fmt.Println("unchanged", slices.Equal(page[:len(a)], a))
}

// flip binds many sockets to an address that another thread changes all the
// while, and prints what they were bound to.
func (p *probe) flip(arg string) {
	n, _ := strconv.Atoi(arg)
	shared := encode("127.0.0.1:0")
	one, other := encode("127.0.0.1:0"), encode("127.0.0.9:0")
	var stop atomic.Bool
	done := make(chan struct{})
	word := (*uint32)(unsafe.Pointer(&shared[offsetAddr4]))
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i++ {
			from := one
			if i%2 == 0 {
				from = other
			}
			atomic.StoreUint32(word, *(*uint32)(unsafe.Pointer(&from[offsetAddr4])))
		}
	}()
	seen := map[string]int{}
	for range n {
		fd, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err := bindRaw(fd, shared); err != nil {
			seen[err.Error()]++
			continue
		}
		a, _ := localAddress(fd)
		seen[netip.MustParseAddrPort(decode(a)).Addr().String()]++
		unix.Close(fd)
	}
	stop.Store(true)
	<-done
	fmt.Println("flip", seen)
}

func (p *probe) process(arg string) {
	word, value, _ := strings.Cut(arg, " ")
	n, _ := strconv.Atoi(value)
	switch word {
	case "pid":
		fmt.Println("pid", os.Getpid())
	case "privileges":
		status, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "NoNewPrivs:") {
				fmt.Println(strings.Fields(line))
			}
		}
	case "marker":
		fmt.Println("marker", os.Getenv(variableActive))
	case "exit":
		os.Exit(n)
	case "die":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "stop":
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
	case "children":
		paths, _ := filepath.Glob("/proc/self/task/*/children")
		var all []string
		for _, path := range paths {
			data, _ := os.ReadFile(path)
			all = append(all, strings.Fields(string(data))...)
		}
		fmt.Println("children", all)
	}
}

// spawn starts the steps, separated by semicolons, as another process, in a
// session of its own, and does not wait for it.
func (p *probe) spawn(arg string, out *os.File) {
	self, _ := os.Executable()
	cmd := exec.CommandContext(context.Background(), self)
	cmd.Args = append([]string{probeName}, strings.Split(arg, "; ")...)
	cmd.Stdin = os.Stdin
	if out != nil {
		cmd.Stdout = out
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		p.say("spawn", err)
	}
}

// measure prints how long so many calls took: of bind or connect on new
// sockets, without what it takes to make and close these.
func (p *probe) measure(arg string) {
	what, count, _ := strings.Cut(arg, " ")
	n, _ := strconv.Atoi(count)
	a := encode("127.0.0.1:53")
	call := map[string]uintptr{"bind": unix.SYS_BIND, "connect": unix.SYS_CONNECT}[what]
	var took time.Duration
	if what == "getpid" {
		start := time.Now()
		for range n {
			unix.Getpid()
		}
		took = time.Since(start)
	} else {
		for range n {
			fd, _ := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			start := time.Now()
			_, _, errno := unix.Syscall(call, uintptr(fd), uintptr(unsafe.Pointer(&a[0])), uintptr(len(a)))
			took += time.Since(start)
			if errno != 0 {
				fmt.Println(errno)
				return
			}
			unix.Close(fd)
		}
	}
	fmt.Println(took)
}

// encode makes a struct sockaddr of text: an address and port, or a path.
func encode(text string) []byte {
	if strings.HasPrefix(text, "/") {
		a := []byte{unix.AF_UNIX, 0}
		return append(append(a, text...), 0)
	}
	ap := netip.MustParseAddrPort(text)
	var a []byte
	if ap.Addr().Is4() {
		a = newInet4()
		copy(a[offsetAddr4:], ap.Addr().AsSlice())
	} else {
		a = newInet6()
		copy(a[offsetAddr6:], ap.Addr().AsSlice())
	}
	a[offsetPort], a[offsetPort+1] = byte(ap.Port()>>8), byte(ap.Port())
	return a
}

func decode(a []byte) string {
	switch {
	case isInet4(a, false):
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[offsetAddr4:])), port(a)).String()
	case isInet6(a):
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[offsetAddr6:])), port(a)).String()
	}
	return strings.TrimRight(string(a[min(sizeFamily, len(a)):]), "\x00")
}
