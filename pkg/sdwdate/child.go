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
	start(orders []order, h how)
	// wait returns the next outcome; none when it is until on CLOCK_BOOTTIME,
	// or when the context ends.
	wait(ctx context.Context, until time.Duration) (outcome, bool)
	// stop ends what is still under way, and waits for that.
	stop()
}

// children carries out orders in processes of their own, which have no
// capabilities (D24). The orders of one pool that come together share a process,
// for a start costs more than a request does. No two pools ever do: a server that
// could take over the process which asks it can lie for its own pool only, as it
// can anyway.
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

func (k *children) start(orders []order, h how) {
	for len(orders) > 0 {
		pool := orders[0].Pool
		var own, others []order
		for _, o := range orders {
			if o.Pool == pool {
				own = append(own, o)
			} else {
				others = append(others, o)
			}
		}
		orders = others
		ctx := k.ctx
		k.running.Add(1)
		go func() {
			defer k.running.Done()
			k.run(ctx, own, h)
		}()
	}
}

// arguments are those of a child.
func (h how) arguments(orders []order) []string {
	args := []string{"--each", "--json", "--method=" + h.Method}
	if h.UserAgent != "" {
		args = append(args, "--user-agent="+h.UserAgent)
	}
	args = append(args, h.Proxy.Addr().String(), strconv.Itoa(int(h.Proxy.Port())))
	for _, o := range orders {
		args = append(args, o.Source.URL)
	}
	return args
}

// run carries out orders in one process, and delivers what becomes of each.
func (k *children) run(whole context.Context, orders []order, h how) {
	ctx, cancel := context.WithTimeout(whole, k.limit)
	defer cancel()
	before := k.clock.Sample()
	tell := newListener(orders, func(out outcome) {
		after := k.clock.Sample()
		out.Span = span{BeginRaw: before.Raw, EndRaw: after.Raw, EndReal: after.Real}
		select {
		case k.outcomes <- out:
		case <-whole.Done():
		}
	})
	cmd := exec.CommandContext(ctx, k.program, h.arguments(orders)...)
	cmd.Env = append(execx.CleanEnv(nil), "GOMAXPROCS=1", "GOGC=off") // as little runtime as a few requests need
	cmd.Dir = "/"
	stderr := &bounded{most: stderrMax}
	cmd.Stdout, cmd.Stderr = tell, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = childDrain
	err := startPowerless(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	out := outcome{Exit: notKilled, Stderr: stderr.data.Bytes(), TimedOut: errors.Is(ctx.Err(), context.DeadlineExceeded)}
	switch {
	case cmd.ProcessState != nil:
		out.Exit = cmd.ProcessState.ExitCode()
	default:
		out.Stderr = []byte("connect error: " + err.Error())
	}
	tell.rest(out)
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
