// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The calls on which the tests play: numbers that the Go runtime never uses on
// a thread of its own accord.
const playedCall = unix.SYS_GETPGID

func played(do Action) Filter {
	return Filter{
		Conventions: []Convention{{Arch: Native().Arch, Rules: []Rule{{Numbers: []uint32{playedCall}, Do: do}}}},
		Other:       Fail(unix.ENOSYS),
	}
}

// roleVariable makes the test binary play a filtered program.
const roleVariable = "SECCOMP_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		runtime.LockOSThread()
		os.Exit(filteredProgram(role))
	}
	os.Exit(m.Run())
}

// Descriptors of the filtered program.
const (
	listenerSocket = 3 // takes the listener, and then says when to go on
	pipeToReplace  = 4
)

// filteredProgram hands its listener over, makes calls, and prints what they
// returned.
func filteredProgram(role string) int {
	program, err := played(Notify).Assemble()
	if err != nil {
		return 2
	}
	fd, err := Install(program)
	if err != nil {
		fmt.Println(err)
		return 2
	}
	if role == "twice" {
		_, err := Install(program)
		fmt.Println(errors.Is(err, ErrListening))
		return 0
	}
	if err := unix.Sendmsg(listenerSocket, []byte{1}, unix.UnixRights(fd), nil, 0); err != nil {
		return 2
	}
	unix.Close(fd)
	if _, err := unix.Read(listenerSocket, make([]byte, 1)); err != nil {
		return 2
	}
	for i := range uintptr(callCount) {
		value, errno := call(i)
		fmt.Println(value, int(errno))
	}
	if role == "files" {
		flags, _ := unix.FcntlInt(pipeToReplace, unix.F_GETFD, 0)
		added, _ := unix.FcntlInt(addedFile, unix.F_GETFD, 0)
		fmt.Println(flags, added)
		_, _ = unix.Write(pipeToReplace, []byte("replaced "))
		_, _ = unix.Write(addedFile, []byte("added"))
	}
	return 0
}

const (
	callCount = 99
	addedFile = 5 // the lowest free number of the filtered program, made sure of below
)

// filtered starts the filtered program and returns its listener, a function
// that lets it go on, and one that waits for its end and returns its output.
func filtered(t *testing.T, role string, files ...*os.File) (l *Listener, goOn func(), output func() string) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "pair")
	t.Cleanup(func() { unix.Close(pair[0]) })
	var out strings.Builder
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{roleVariable + "=" + role}
	cmd.Stdout = &out
	cmd.ExtraFiles = append([]*os.File{theirs}, files...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if n > 0 {
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil {
			t.Fatal(err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			t.Fatal(err)
		}
		if l, err = NewListener(fds[0]); err != nil {
			t.Fatal(err)
		}
	}
	goOn = func() {
		if _, err := unix.Write(pair[0], []byte{1}); err != nil {
			t.Error(err)
		}
	}
	output = func() string {
		if err := cmd.Wait(); err != nil {
			t.Errorf("the filtered program: %v: %s", err, out.String())
		}
		return out.String()
	}
	return l, goOn, output
}

func call(arg uintptr) (int, unix.Errno) {
	r, _, errno := unix.RawSyscall(playedCall, arg, 0, 0)
	return int(r), errno
}

// TestServe: each answer arrives, and the end of the last thread ends Serve.
func TestServe(t *testing.T) {
	l, goOn, output := filtered(t, "calls")
	defer l.Close()
	if err := l.CheckInjection(); err != nil {
		t.Error(err)
	}
	goOn()
	err := l.Serve(context.Background(), 3, func(n *Notification) {
		if !l.Valid(n) || n.Call.Arch != Native().Arch || n.Call.Number != playedCall || n.TID == 0 {
			t.Errorf("notification %+v", n)
		}
		var err error
		switch n.Call.Args[0] % 3 {
		case 0:
			err = l.Return(n, int64(n.Call.Args[0])+1000)
		case 1:
			err = l.Fail(n, unix.ENOTNAM)
		case 2:
			err = l.Continue(n)
		}
		if err != nil {
			t.Error(err)
		}
		if l.Valid(n) || l.Fail(n, unix.EPERM) == nil {
			t.Error("an answered call can be answered again")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(output()), "\n")
	if len(lines) != callCount {
		t.Fatalf("%d calls returned, want %d", len(lines), callCount)
	}
	for i, line := range lines {
		var value, errno int
		if _, err := fmt.Sscan(line, &value, &errno); err != nil {
			t.Fatal(err)
		}
		switch {
		case i%3 == 0 && (value != i+1000 || errno != 0),
			i%3 == 1 && unix.Errno(errno) != unix.ENOTNAM,
			i%3 == 2 && unix.Errno(errno) == unix.ENOTNAM: // else the kernel's own answer about process i
			t.Errorf("call %d: %s", i, line)
		}
	}
}

// TestFiles: descriptors arrive where they should, with the flag asked for.
func TestFiles(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	l, goOn, output := filtered(t, "files", null)
	defer l.Close()
	goOn()
	var turn atomic.Int32
	err = l.Serve(context.Background(), 1, func(n *Notification) {
		var err error
		switch turn.Add(1) {
		case 1:
			err = l.ReplaceFile(n, int(w.Fd()), addedFile, false) // takes that number, whatever is free
			err = errors.Join(err, l.Return(n, 0))
		case 2:
			err = l.ReturnFile(n, int(w.Fd()), true)
		case 3:
			err = errors.Join(l.ReplaceFile(n, int(w.Fd()), pipeToReplace, true), l.Return(n, 7))
		default:
			err = l.Return(n, 0)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	lines := strings.Split(strings.TrimSpace(output()), "\n")
	var number int
	if _, err := fmt.Sscan(lines[1], &number); err != nil || number <= pipeToReplace {
		t.Errorf("the added descriptor is %q", lines[1])
	}
	if lines[2] != "7 0" || lines[callCount] != "1 0" {
		t.Errorf("third call %q, flags %q", lines[2], lines[callCount])
	}
	if written, err := io.ReadAll(r); err != nil || string(written) != "replaced added" {
		t.Errorf("%q came through the pipe: %v", written, err)
	}
}

// TestServeEndsWithContext: after the end of the context nobody answers, and
// closing the listener makes the calls fail.
func TestServeEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	l, goOn, output := filtered(t, "calls")
	cancel()
	if err := l.Serve(ctx, 1, func(*Notification) { t.Error("served") }); err != nil {
		t.Fatal(err)
	}
	l.Close()
	goOn()
	want := strings.Repeat(fmt.Sprintln(-1, int(unix.ENOSYS)), callCount)
	if got := output(); got != want {
		t.Errorf("without a listener: %q", got)
	}
}

// TestSecondListener: the kernel allows one.
func TestSecondListener(t *testing.T) {
	_, _, output := filtered(t, "twice")
	if got := output(); got != "true\n" {
		t.Errorf("a second listener: %q", got)
	}
}
