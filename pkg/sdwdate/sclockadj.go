// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/fsx"
)

const sclockadjHelp = `usage: sclockadj NANOSECONDS
       sclockadj --restore [HOME] | --status
Moves the clock gradually by an offset, never backwards, and waits until that
is done.
     --restore   undo what a process left that was killed while it did so,
                 also one of somebody whose HOME is below /home
     --status    show the clock's rate and what is still to be done
 -h, --help      show this text
     --version   show the version
`

// mostAdjustment is more than a gradual correction is good for.
const mostAdjustment = 366 * 24 * time.Hour

// sclockadj is one run of the program.
type sclockadj struct {
	env     cli.Env
	clock   clock.Clock
	root    fsx.Root
	lease   string // path
	signals chan os.Signal
}

// Sclockadj is the program sclockadj.
func Sclockadj(ctx context.Context, env cli.Env) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(signals)
	// The caller's context ends on signals too, and does not tell on which.
	return (&sclockadj{env: env, clock: clock.System(), root: fsx.Host, lease: ownLease(env, os.Geteuid()), signals: signals}).run(context.WithoutCancel(ctx))
}

// ownLease is where sdwdate has its lease when this account runs it. Root is not
// led anywhere by its environment.
func ownLease(env cli.Env, euid int) string {
	home, _ := env.Lookup("HOME")
	if status, _, err := folders(home); err == nil && euid != 0 {
		return status + "/" + fileLease
	}
	return clock.LeasePath
}

func (s *sclockadj) run(ctx context.Context) error {
	if len(s.env.Args) == 3 && s.env.Args[1] == "--restore" {
		home := filepath.Clean(s.env.Args[2])
		if filepath.Dir(home) != "/home" {
			return s.misused("%s is no home directory below /home", strconv.Quote(short(home)))
		}
		s.lease = home + "/sdwdate/" + fileLease
		return s.restore()
	}
	if len(s.env.Args) != 2 {
		return s.misused("%d arguments, want one", max(len(s.env.Args)-1, 0))
	}
	switch arg := s.env.Args[1]; arg {
	case "-h", "--help":
		_, err := io.WriteString(s.env.Stdout, sclockadjHelp)
		return err
	case "--restore":
		return s.restore()
	case "--status":
		return s.status()
	default:
		offset, err := parseAdjustment(arg)
		if err != nil {
			return s.misused("%v", err)
		}
		return permitted(s.adjust(ctx, offset))
	}
}

// misused is an error with the original's exit code.
func (s *sclockadj) misused(format string, args ...any) error {
	return &cli.Exit{Code: cli.CodeFailed, Err: cli.WithHint(fmt.Errorf(format, args...), "%s --help", s.env.Name())}
}

// parseAdjustment reads nanoseconds, a whole decimal number with or without a
// sign and nothing else.
func parseAdjustment(text string) (time.Duration, error) {
	digits := strings.TrimLeft(text, "+-")
	if len(text)-len(digits) > 1 || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, fmt.Errorf("%s is no whole number of nanoseconds", strconv.Quote(text))
	}
	ns, err := strconv.ParseInt(text, 10, 64)
	if offset := time.Duration(ns); err != nil || offset.Abs() > mostAdjustment {
		return 0, fmt.Errorf("%s ns are more than 366 days", text)
	}
	if ns == 0 {
		return 0, errors.New("0 ns: there is nothing to do")
	}
	return time.Duration(ns), nil
}

// permitted adds what helps against EPERM.
func permitted(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return cli.WithHint(err, "setting the clock needs the capability CAP_SYS_TIME, which root has outside of containers")
	}
	return err
}

// adjust makes the correction and waits for its end.
func (s *sclockadj) adjust(ctx context.Context, offset time.Duration) (err error) {
	if err := s.alone(); err != nil {
		return err
	}
	slewer, err := clock.NewSlewer(clock.Options{
		Clock: s.clock, Policy: clock.Prompt(), Root: s.root, Lease: s.lease, Log: func(line string) { s.env.Warnf("%s", line) },
	})
	if err != nil {
		return err
	}
	defer func() { err = together(err, slewer.Close()) }() // also while it panics
	ctx, caught := s.untilSignal(ctx)
	_, err = slewer.Start(offset)
	if errors.Is(err, fs.ErrNotExist) { // no folder for the lease
		if err = s.folder(); err == nil {
			_, err = slewer.Start(offset)
		}
	}
	if err != nil {
		return err
	}
	return s.follow(ctx, slewer, caught)
}

// untilSignal is a context that ends on a signal, and what ended it.
func (s *sclockadj) untilSignal(ctx context.Context) (context.Context, func() int) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case sig := <-s.signals:
			cancel(&cli.Exit{Code: 128 + int(sig.(syscall.Signal))})
		case <-ctx.Done():
		}
	}()
	return ctx, func() int {
		var exit *cli.Exit
		if errors.As(context.Cause(ctx), &exit) {
			return exit.Code
		}
		return cli.CodeFailed
	}
}

// follow waits until nothing is left. The end is the kernel's, at its own rate,
// and is looked for from time to time. The kernel takes the last part for done
// when it begins, and makes it in the next second.
func (s *sclockadj) follow(ctx context.Context, slewer *clock.Slewer, caught func() int) error {
	for last := false; ; {
		left, err := slewer.Left()
		if err != nil {
			return err
		}
		none := left == 0 && !slewer.Active()
		if none && last {
			return nil
		}
		last = none
		wake, change, err := slewer.Wait(ctx, time.Second)
		switch {
		case err != nil:
			return err
		case wake == clock.Ended:
			return &cli.Exit{Code: caught()}
		case wake == clock.Stepped && change.Suspended != 0:
			return fmt.Errorf("the machine slept: %d ns of the correction are left", left)
		case wake == clock.Stepped:
			return fmt.Errorf("another program set the clock: %d ns of the correction were left", left)
		}
	}
}

// alone fails while a process that may be called to account moves the clock: two
// would take each other's rate for the normal one, and to undo what a living one
// does would leave it believing that it goes on.
func (s *sclockadj) alone() error {
	if l, ok := clock.Current(s.clock, s.root, s.lease); ok && l.Alive(s.root) {
		return cli.WithHint(fmt.Errorf("process %d is moving the clock", l.PID), "it puts the rate in order when it is ended: kill %d", l.PID)
	}
	return nil
}

// folder makes the folder of the lease.
func (s *sclockadj) folder() error {
	if s.lease == clock.LeasePath {
		return prepareStatus(s.root)
	}
	return s.root.MkdirAll(filepath.Dir(s.lease), 0o755)
}

func (s *sclockadj) restore() error {
	if err := s.alone(); err != nil {
		return err
	}
	done, err := clock.Restore(s.clock, s.root, s.lease)
	if done != "" {
		fmt.Fprintln(s.env.Stdout, done)
	}
	return permitted(err)
}

func (s *sclockadj) status() error {
	d, err := s.clock.Discipline()
	if err != nil {
		return err
	}
	left, err := s.clock.SingleShotLeft()
	if err != nil {
		return err
	}
	fmt.Fprintf(s.env.Stdout, "tick: %d\nfrequency: %+.3f ppm\n", d.Tick, float64(d.Frequency)/(1<<16))
	if l, ok := clock.Current(s.clock, s.root, s.lease); ok {
		fmt.Fprintf(s.env.Stdout, "process: %d\nnormal tick: %d\n", l.PID, l.Tick)
		left += l.Left(s.clock.Sample())
	}
	_, err = fmt.Fprintf(s.env.Stdout, "remaining: %d ns\n", left)
	return err
}
