// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/execx"
)

// fetcher is the program that asks one server.
const fetcher = "/usr/bin/url-to-unixtime"

// Limits of a child. What it may print is more than what it has to say.
const (
	childLimit = requestLimit
	childDrain = 2 * time.Second
	stdoutMax  = 4 << 10
	stderrMax  = 4 << 10
	notKilled  = -1 // the exit code of a child that did not exit by itself
)

// how is the way in which the servers of a cycle are asked.
type how struct {
	Proxy     netip.AddrPort
	Method    string
	UserAgent string
}

// outcome is how a request ended.
type outcome struct {
	ID       int
	Exit     int
	TimedOut bool
	Stdout   []byte
	Stderr   []byte
	Span     span
}

// transport carries out orders, for the daemon in children, in tests in a
// simulated network.
type transport interface {
	start(o order, h how)
	// wait returns the next outcome; none when it is until on CLOCK_BOOTTIME,
	// or when the context ends.
	wait(ctx context.Context, until time.Duration) (outcome, bool)
	// stop ends what is still under way, and waits for that.
	stop()
}

// children carries out orders in processes of their own, which have no
// capabilities (D24).
type children struct {
	program  string
	clock    clock.Clock
	limit    time.Duration
	ctx      context.Context
	cancel   context.CancelFunc
	outcomes chan outcome
	running  sync.WaitGroup
}

func newChildren(program string, c clock.Clock) *children {
	k := &children{program: program, clock: c, limit: childLimit, outcomes: make(chan outcome)}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k
}

func (k *children) start(o order, h how) {
	args := []string{"--json", "--method=" + h.Method}
	if h.UserAgent != "" {
		args = append(args, "--user-agent="+h.UserAgent)
	}
	args = append(args, h.Proxy.Addr().String(), strconv.Itoa(int(h.Proxy.Port())), o.Source.URL, "false")
	ctx := k.ctx
	k.running.Add(1)
	go func() {
		defer k.running.Done()
		out := k.run(ctx, args)
		out.ID = o.ID
		select {
		case k.outcomes <- out:
		case <-ctx.Done():
		}
	}()
}

func (k *children) run(ctx context.Context, args []string) outcome {
	ctx, cancel := context.WithTimeout(ctx, k.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.program, args...)
	cmd.Env = append(execx.CleanEnv(nil), "GOMAXPROCS=1", "GOGC=off") // as little runtime as one request needs
	cmd.Dir = "/"
	stdout, stderr := &bounded{most: stdoutMax}, &bounded{most: stderrMax}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = childDrain
	out := outcome{Exit: notKilled}
	before := k.clock.Sample()
	err := startPowerless(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	after := k.clock.Sample()
	out.Span = span{BeginRaw: before.Raw, EndRaw: after.Raw, EndReal: after.Real}
	out.Stdout, out.Stderr = stdout.data.Bytes(), stderr.data.Bytes()
	switch {
	case cmd.ProcessState != nil:
		out.Exit = cmd.ProcessState.ExitCode()
	default:
		out.Stderr = []byte("connect error: " + err.Error())
	}
	out.TimedOut = errors.Is(ctx.Err(), context.DeadlineExceeded)
	return out
}

func (k *children) wait(ctx context.Context, until time.Duration) (outcome, bool) {
	t := time.NewTimer(until - k.clock.Sample().Boot)
	defer t.Stop()
	select {
	case o := <-k.outcomes:
		return o, true
	case <-t.C:
	case <-ctx.Done():
	}
	return outcome{}, false
}

func (k *children) stop() {
	k.cancel()
	k.running.Wait()
	k.ctx, k.cancel = context.WithCancel(context.Background())
}

// startPowerless starts a child without the capabilities of this process. The
// ambient ones, which exec would keep, belong to threads: they are taken from
// the one that forks, for good; only exec ever uses them.
func startPowerless(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	return cmd.Start()
}

// dropAmbient makes sure that no program which this process starts gets its
// capabilities, from whatever thread. It is not supported with cgo, where only
// startPowerless counts.
func dropAmbient() error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	if errno != 0 && errno != syscall.ENOTSUP {
		return errno
	}
	return nil
}

// bounded keeps the begin of what is written to it.
type bounded struct {
	data bytes.Buffer
	most int
}

// Write keeps what fits, and takes the rest for written.
func (b *bounded) Write(p []byte) (int, error) {
	if room := b.most - b.data.Len(); room > 0 {
		b.data.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
