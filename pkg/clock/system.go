// SPDX-License-Identifier: GPL-3.0-or-later

package clock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// system is the kernel's clock.
type system struct{}

// System is the clock of this machine.
func System() Clock { return system{} }

// Now is CLOCK_REALTIME, without the monotonic reading of time.Now, which
// would make differences of two of them blind for steps.
func (system) Now() time.Time { return time.Unix(0, int64(read(unix.CLOCK_REALTIME))) }

// Sample is the tightest of several readings: a process may be interrupted
// between any two calls.
func (system) Sample() Sample {
	const (
		tries = 8
		tight = 20 * time.Microsecond
	)
	best := Sample{Spread: math.MaxInt64}
	for range tries {
		before := read(unix.CLOCK_MONOTONIC)
		s := Sample{
			Real: time.Unix(0, int64(read(unix.CLOCK_REALTIME))),
			Boot: read(unix.CLOCK_BOOTTIME),
			Raw:  read(unix.CLOCK_MONOTONIC_RAW),
		}
		s.Spread = read(unix.CLOCK_MONOTONIC) - before
		s.Monotonic = before + s.Spread/2
		if s.Spread < best.Spread {
			best = s
		}
		if best.Spread < tight {
			break
		}
	}
	return best
}

func read(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(fmt.Sprintf("clock_gettime: clock %d: %v", id, err)) // the kernel has all of them since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// adjust calls clock_adjtime(2). Its result other than -1 is the clock's
// state; TIME_ERROR, "not synchronised", is normal.
func adjust(what string, t *unix.Timex) error {
	if _, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, t); err != nil {
		return fmt.Errorf("clock_adjtime: %s: %w", what, err)
	}
	return nil
}

// Step adds an offset in microseconds: ADJ_NANO would leave STA_NANO set for
// every later reader. The microseconds are not negative even where the offset
// is.
func (system) Step(by time.Duration) error {
	us := by.Microseconds()
	seconds := us / 1e6
	if us%1e6 < 0 {
		seconds--
	}
	return adjust(fmt.Sprintf("step by %v", by), &unix.Timex{
		Modes: unix.ADJ_SETOFFSET,
		Time:  unix.Timeval{Sec: seconds, Usec: us - seconds*1e6},
	})
}

func (system) Discipline() (Discipline, error) {
	var t unix.Timex
	if err := adjust("read", &t); err != nil {
		return Discipline{}, err
	}
	return Discipline{Tick: t.Tick, Frequency: t.Freq, Status: t.Status}, nil
}

func (system) SetTick(tick int64) error {
	return adjust(fmt.Sprintf("set tick %d", tick), &unix.Timex{Modes: unix.ADJ_TICK, Tick: tick})
}

func (system) SetStatus(status int32) error {
	return adjust(fmt.Sprintf("set status %#x", status), &unix.Timex{Modes: unix.ADJ_STATUS, Status: status})
}

func (system) SingleShot(offset time.Duration) error {
	return adjust(fmt.Sprintf("single shot of %v", offset), &unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: offset.Microseconds()})
}

func (system) SingleShotLeft() (time.Duration, error) {
	t := unix.Timex{Modes: unix.ADJ_OFFSET_SS_READ}
	if err := adjust("read single shot", &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Offset) * time.Microsecond, nil
}

// never is a time that no timer reaches.
const never = math.MaxInt64

// watch is three descriptors that poll(2) waits for.
type watch struct {
	steps    int // a timer that is never due, and cancelled when the clock makes a step
	deadline int // a timer on CLOCK_BOOTTIME
	end      int // an eventfd: the context ended
}

// Watch opens the descriptors; see timerfd_create(2) for
// TFD_TIMER_CANCEL_ON_SET.
func (system) Watch() (Watch, error) {
	w := &watch{steps: -1, deadline: -1, end: -1}
	err := w.open()
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("watch the clock: %w", err)
	}
	return w, nil
}

func (w *watch) open() (err error) {
	if w.steps, err = unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return err
	}
	if w.deadline, err = unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return err
	}
	if w.end, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	return w.arm()
}

func (w *watch) arm() error {
	at := unix.ItimerSpec{Value: unix.Timespec{Sec: never}}
	err := unix.TimerfdSettime(w.steps, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &at, nil)
	if errors.Is(err, unix.ECANCELED) { // a step since it was armed last; it is armed again all the same
		return nil
	}
	return err
}

func (w *watch) Close() error {
	for _, fd := range []int{w.steps, w.deadline, w.end} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	return nil
}

func (w *watch) Wait(ctx context.Context, d time.Duration) (Wake, error) {
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(read(unix.CLOCK_BOOTTIME) + max(d, 1)))}
	if err := unix.TimerfdSettime(w.deadline, unix.TFD_TIMER_ABSTIME, &at, nil); err != nil {
		return Ended, fmt.Errorf("wait: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _, _ = unix.Write(w.end, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer stop()
	fds := []unix.PollFd{
		{Fd: int32(w.end), Events: unix.POLLIN}, {Fd: int32(w.steps), Events: unix.POLLIN}, {Fd: int32(w.deadline), Events: unix.POLLIN},
	}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return Ended, fmt.Errorf("wait: %w", err)
		}
		drain(w.end) // an earlier context may have written late
		if ctx.Err() != nil {
			return Ended, nil
		}
		if err := drain(w.steps); errors.Is(err, unix.ECANCELED) {
			return Stepped, w.arm()
		}
		if drain(w.deadline) == nil {
			return Elapsed, nil
		}
	}
}

// drain reads the counter of a timer or an eventfd; EAGAIN if nothing has
// happened.
func drain(fd int) error {
	var counter [8]byte
	_, err := unix.Read(fd, counter[:])
	return err
}
