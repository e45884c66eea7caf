// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// Files in the folder of the status.
const (
	fileFirstSuccess = "first_success"
	fileSuccess      = "success"
	fileJumpOnce     = "clock_jump_do_once"
	fileLease        = "slew.lease" // clock.LeasePath
)

// Files in the folder of the state.
const (
	fileFloor      = "time-replay-protection-utc-unixtime"
	fileFloorHuman = "time-replay-protection-utc-humanreadable"
)

const publicFile = 0o644

// Errors of a correction that was not made. The clock is untouched.
var (
	errReplay       = errors.New("the time has passed before")
	errClockChanged = errors.New("the clock was set by something else meanwhile")
)

// journal takes what an administrator is to read.
type journal interface {
	infof(format string, args ...any)
	warnf(format string, args ...any)
	errorf(format string, args ...any)
}

// applier sets the clock and writes down that it did.
type applier struct {
	root   fsx.Root
	slewer *clock.Slewer
	status string // folder
	state  string // folder
	log    journal
}

// apply corrects the clock by an offset that was measured when the clocks
// showed measured. It is errReplay, errClockChanged or clock.ErrSteered when the
// clock was left alone, and EPERM where the capability is missing.
func (a *applier) apply(offset time.Duration, measured clock.Sample, floor, tolerance int64) error {
	now := a.slewer.Clock.Sample()
	if clock.Between(measured, now).Any() {
		return errClockChanged
	}
	c := correction{
		Now: now.Real, Offset: offset, Floor: floor, Tolerance: tolerance,
		First: !a.root.Exists(a.status + "/" + fileFirstSuccess), JumpOnce: a.root.Exists(a.status + "/" + fileJumpOnce),
	}
	for _, line := range c.lines() {
		a.log.infof("%s", line)
	}
	if err := a.set(c); err != nil {
		return err
	}
	if err := a.mark(); err != nil {
		return err
	}
	return a.raiseFloor(c.nextFloor())
}

// set makes the correction, or begins to.
func (a *applier) set(c correction) error {
	switch c.decide() {
	case stepRefused:
		a.log.errorf("Time Replay Protection: ERROR. See above. new_unixtime earlier than time_replay_protection_minium_unixtime_int.")
		return errReplay
	case stepNone:
		a.log.infof("Time difference = 0. Not setting time.")
		return nil
	case stepJump:
		a.log.infof("Instantly setting the time by %+.6f seconds.", c.Offset.Seconds())
		if err := a.slewer.Jump(c.Offset); err != nil {
			return err
		}
		a.log.infof("Time set.")
		return nil
	}
	plan, err := a.slewer.Start(c.Offset)
	if err != nil {
		return err
	}
	a.log.infof("Gradually adjusting the time: %s.", plan)
	if plan.Takes > shortestSleep {
		a.log.infof("This takes longer than one round: each measures what is left, and goes on.")
	}
	return nil
}

// shortestSleep is the shortest time from one round to the next.
const shortestSleep = time.Hour

// mark tells others that the clock is set. Others wait for the files to be
// created in place.
func (a *applier) mark() error {
	if first := a.status + "/" + fileFirstSuccess; !a.root.Exists(first) {
		if err := a.root.Touch(first, publicFile); err != nil {
			return err
		}
	}
	if err := a.root.Remove(a.status + "/" + fileJumpOnce); err != nil {
		return err
	}
	return a.root.Touch(a.status+"/"+fileSuccess, publicFile)
}

// raiseFloor writes the floor down, to be found after a power cut as it was or
// as it is.
func (a *applier) raiseFloor(unixtime int64) error {
	for _, f := range []struct{ name, text string }{
		{fileFloor, strconv.FormatInt(unixtime, 10)},
		{fileFloorHuman, time.Unix(unixtime, 0).UTC().Format(time.DateTime)},
	} {
		path := a.state + "/" + f.name
		if err := a.root.WriteAtomic(path, []byte(f.text), publicFile); err != nil {
			return err
		}
		a.log.infof("Time Replay Protection: write %s to file: %s", f.text, path)
	}
	return a.root.SyncDir(a.state)
}

// repair sets a slow clock to a time that only Tor knows; see forward. It
// reports whether it did.
func (a *applier) repair(to time.Time, floor, ceiling int64) (bool, error) {
	now := a.slewer.Clock.Now()
	if !forward(now, to, floor, ceiling) {
		return false, nil
	}
	if err := a.slewer.Jump(to.Sub(now)); err != nil {
		return false, err
	}
	return true, nil
}

// stop ends a gradual correction, in the words that the log has always had.
func (a *applier) stop() error {
	active := a.slewer.Active()
	if err := a.slewer.Stop(); err != nil {
		return err
	}
	if active {
		a.log.infof("Terminated sclockadj process.")
	} else {
		a.log.infof("sclockadj process not running, ok.")
	}
	return nil
}

// What is run to set the hardware clock, as root.
const (
	leaprunPath   = "/usr/bin/leaprun"
	hwclockAction = "sdwdate-sync-hwclock"
	hwclockPath   = "/usr/sbin/hwclock"
	hwclockLimit  = 30 * time.Second
)

// syncHardwareClock copies the time to the hardware clock, where there is one
// and a helper that may. The result is only logged: the time is set whatever
// becomes of it (D14).
func (a *applier) syncHardwareClock(ctx context.Context) {
	if whonix.Detect(a.root).Qubes || !a.root.IsFile(leaprunPath) || !a.root.IsFile(hwclockPath) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hwclockLimit)
	defer cancel()
	err := execx.Cmd{Path: a.root.Path(leaprunPath), Args: []string{hwclockAction}, Stdout: io.Discard, Stderr: io.Discard}.Run(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.infof("The hardware clock was not synchronised: %v", err)
		return
	}
	a.log.infof("Hardware clock synchronised.")
}

// describeClockError is what the log says of an error of apply.
func describeClockError(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Sprintf("%v (the capability CAP_SYS_TIME is needed)", err)
	}
	return err.Error()
}
