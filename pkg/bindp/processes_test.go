// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/netlab"
)

func listenIn(n *netlab.Namespace, address string) (l net.Listener, err error) {
	err = n.Do(func() error {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// background starts a run. The functions return its next line, and wait for its
// end.
func background(t *testing.T, n *netlab.Namespace, r run) (in io.WriteCloser, line func() string, finish func() ended) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := r.command(ctx, t)
	cmd.Stderr = os.Stderr
	// Pipes of our own: those of the command would be closed with the program,
	// and its descendants have them too.
	theirIn, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close(); input.Close() })
	cmd.Stdin, cmd.Stdout = theirIn, theirOut
	err = n.Do(cmd.Start)
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := out.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	line = func() string {
		if !lines.Scan() {
			return fmt.Sprintf("no line: %v", lines.Err())
		}
		return lines.Text()
	}
	finish = func() ended {
		_ = cmd.Wait() // the code tells
		return ended{code: cmd.ProcessState.ExitCode(), pid: cmd.ProcessState.Pid()}
	}
	return input, line, finish
}

// helperOf is the helper's process, from a marker that a probe printed.
func helperOf(t *testing.T, line string) (pid int, marker string) {
	t.Helper()
	marker, ok := strings.CutPrefix(line, "marker ")
	number, _, _ := strings.Cut(marker, ":")
	pid, err := strconv.Atoi(number)
	if !ok || err != nil || !alive(marker) {
		t.Fatalf("%q names no helper that lives", line)
	}
	return pid, marker
}

// waitEnd waits until a process has ended.
func waitEnd(t *testing.T, pid int, limit time.Duration) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(limit); ; {
		n, err := unix.Poll(fds, max(int(time.Until(deadline).Milliseconds()), 0))
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			t.Errorf("process %d did not end within %v: %v", pid, limit, err)
		}
		return
	}
}

// TestAcceptance24: the program is the caller's child and nobody's parent, and
// the helper lives as long as anybody needs it.
func TestAcceptance24(t *testing.T) {
	n := newNetwork(t)
	env := []string{"BIND_ADDR=" + addrA}
	for _, mode := range filterModes() {
		t.Run(string(mode), func(t *testing.T) {
			for code, steps := range map[int][]string{7: {"process exit 7"}, 0: {"process pid"}, -1: {"process die"}} {
				got := run{env: env, args: probing(t, mode, append([]string{"process pid", "process children"}, steps...)...)}.in(t, n)
				if !strings.HasPrefix(got.out, fmt.Sprintf("pid %d\nchildren []\n", got.pid)) || got.code != code || got.err != "" {
					t.Errorf("%+v, want code %d", got, code)
				}
			}
			input, line, finish := background(t, n, run{env: env, args: probing(t, mode, "process marker", "wait")})
			pid, _ := helperOf(t, line())
			input.Close()
			finish()
			waitEnd(t, pid, time.Second+exitDelay)
		})
	}
}

// TestDescendants: what was started by the program is served when the program
// itself has ended, and the helper ends with the last one.
func TestDescendants(t *testing.T) {
	for _, mode := range filterModes() {
		n := newNetwork(t)
		input, line, finish := background(t, n, run{env: []string{"BIND_ADDR=" + addrA, "BIND_PORT=4444"}, args: probing(t, mode,
			"process marker", "spawn wait; socket tcp; bind 127.0.0.1:7777; name; wait")})
		pid, marker := helperOf(t, line())
		finish()
		if !alive(marker) {
			t.Fatalf("mode %s: the helper has ended before the last process", mode)
		}
		fmt.Fprintln(input)
		for _, want := range []string{"bind ok", "name " + addrA + ":4444"} {
			if got := line(); got != want {
				t.Errorf("mode %s: %q, want %q", mode, got, want)
			}
		}
		input.Close()
		waitEnd(t, pid, time.Second+exitDelay)
	}
}

// TestHelperKilled: without the helper calls fail.
func TestHelperKilled(t *testing.T) {
	for _, mode := range filterModes() {
		n := newNetwork(t)
		input, line, finish := background(t, n, run{env: []string{"BIND_ADDR=" + addrA}, args: probing(t, mode,
			"socket tcp", "process marker", "wait", "bind 127.0.0.1:7777", "connect 127.0.0.1:9", "listen")})
		pid, _ := helperOf(t, line())
		if err := unix.Kill(pid, unix.SIGTERM); err != nil { // is ignored
			t.Fatal(err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitEnd(t, pid, patience)
		input.Close()
		for _, want := range []string{"bind ENOSYS", "connect ENOSYS"} {
			if got := line(); got != want {
				t.Errorf("mode %s: %q, want %q", mode, got, want)
			}
		}
		finish()
	}
}

// TestJobControl: what a terminal does to a job, it does to the program, under
// the same number; the helper stays out of it.
func TestJobControl(t *testing.T) {
	n := newNetwork(t)
	for _, mode := range filterModes() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		cmd := run{env: []string{"BIND_ADDR=" + addrA}, args: probing(t, mode, "process marker", "wait")}.command(ctx, t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Do(cmd.Start); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		helper, marker := helperOf(t, strings.TrimSpace(line))
		signalJob(t, cmd.Process.Pid, unix.SIGTSTP, unix.WUNTRACED, unix.WaitStatus.Stopped)
		signalJob(t, cmd.Process.Pid, unix.SIGCONT, unix.WCONTINUED, unix.WaitStatus.Continued)
		if !alive(marker) {
			t.Errorf("mode %s: the helper has ended", mode)
		}
		if err := unix.Kill(-cmd.Process.Pid, unix.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != unix.SIGINT {
			t.Errorf("mode %s: ended with %v", mode, cmd.ProcessState)
		}
		waitEnd(t, helper, time.Second+exitDelay)
	}
}

// signalJob sends a signal to a process group and waits for what it does to its
// leader.
func signalJob(t *testing.T, pid int, sig unix.Signal, options int, want func(unix.WaitStatus) bool) {
	t.Helper()
	if err := unix.Kill(-pid, sig); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &status, options, nil); err != unix.EINTR {
			if err != nil || !want(status) {
				t.Fatalf("after %v: status %#x, %v", sig, status, err)
			}
			return
		}
	}
}

// TestNested: the kernel allows one listener; the outer launcher's counts.
func TestNested(t *testing.T) {
	for _, mode := range filterModes() {
		n := newNetwork(t)
		steps := []string{"socket tcp", "bind 127.0.0.1:7777", "listen", "name"}
		nested := append([]string{"--mode=" + string(mode), "--argv0=" + launcherName, "--", self(t)}, probing(t, mode, steps...)...)
		want := "bind ok\nlisten ok\nname " + addrA + ":7777\n"
		got := run{env: []string{"BIND_ADDR=" + addrA}, args: nested}.in(t, n)
		if got.out != want || got.err != "" || got.code != 0 {
			t.Errorf("mode %s, same settings: %+v", mode, got)
		}
		changed := append([]string{"--mode=" + string(mode), "--", "/usr/bin/env", "BIND_ADDR=" + addrB, "bash", "-c",
			`exec -a "$0" "$@"`, launcherName, self(t)}, probing(t, mode, steps...)...)
		got = run{env: []string{"BIND_ADDR=" + addrA}, args: changed}.in(t, n)
		if got.out != want || got.err != "bindp-launcher: warning: already inside a bindp-launcher; its settings stay: BIND_ADDR="+addrA+"\n" || got.code != 0 {
			t.Errorf("mode %s, other settings: %+v", mode, got)
		}
	}
}

// TestHelperIsNobodysBusiness: its descriptors, directory, session, and that
// it cannot be traced.
func TestHelperIsNobodysBusiness(t *testing.T) {
	n := newNetwork(t)
	input, line, finish := background(t, n, run{env: []string{"BIND_ADDR=" + addrA}, args: probing(t, ModeAddress, "process marker", "wait")})
	defer finish()
	defer input.Close()
	pid, _ := helperOf(t, line())
	dir := fmt.Sprintf("/proc/%d", pid)
	for i := range execx.OrphanSocket {
		if link, err := os.Readlink(fmt.Sprintf("%s/fd/%d", dir, i)); err != nil || link != os.DevNull {
			t.Errorf("descriptor %d is %s: %v", i, link, err)
		}
	}
	if cwd, err := os.Readlink(dir + "/cwd"); err != nil || cwd != "/" {
		t.Errorf("directory %s: %v", cwd, err)
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d: %v", sid, err)
	}
	if cmdline, err := readProc(dir + "/cmdline"); err != nil || !strings.HasPrefix(cmdline, HelperName+"\x00") {
		t.Errorf("name %q: %v", cmdline, err)
	}
	environ, err := readProc(dir + "/environ")
	if err != nil || environ != "BIND_ADDR="+addrA+"\x00" {
		t.Errorf("environment %q: %v", environ, err)
	}
}
