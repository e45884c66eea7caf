// SPDX-License-Identifier: GPL-3.0-or-later

package clock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// LeasePath is where sdwdate and sclockadj note that they have changed the
// kernel's tick, which does not end with them.
const LeasePath = "/run/sdwdate/slew.lease"

const (
	leaseMode = 0o644
	leaseMax  = 4096
	bootPath  = "/proc/sys/kernel/random/boot_id"
)

// Lease says how the clock was before its rate was changed, and who did it.
type Lease struct {
	Boot      string        `json:"boot_id"` // empty where a sandbox hides it
	PID       int           `json:"pid"`
	Begun     uint64        `json:"pid_begun"` // when that process did, see proc_pid_stat(5); 0: not known
	Tick      int64         `json:"baseline_tick"`
	Frequency int64         `json:"baseline_frequency"`
	Set       int64         `json:"set_tick"`
	Offset    time.Duration `json:"offset_ns"`
	Raw       time.Duration `json:"raw_start_ns"` // CLOCK_MONOTONIC_RAW
}

// errLease says that a lease is there which tells nothing.
var errLease = errors.New("damaged")

// valid reports whether the numbers are possible.
func (l Lease) valid() bool {
	inside := func(tick int64) bool { return tick >= MinTick && tick <= MaxTick }
	return inside(l.Tick) && inside(l.Set) && l.Raw >= 0
}

// ofThisBoot reports whether the lease was written since the machine was
// started. Where the boot's name is hidden on one side (ProcSubset=pid), a
// lease from the future is of another boot.
func (l Lease) ofThisBoot(boot string, now Sample) bool {
	if l.Boot != "" && boot != "" {
		return l.Boot == boot
	}
	return l.Raw <= now.Raw
}

// Alive reports whether the process that wrote the lease still runs. Another one
// that was given its number later is told from it, where it can be seen.
func (l Lease) Alive(root fsx.Root) bool {
	if l.PID <= 0 {
		return false
	}
	if begun := processBegin(root, l.PID); begun != 0 && l.Begun != 0 {
		return begun == l.Begun
	}
	err := unix.Kill(l.PID, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}

// processBegin is when a process began, in ticks since the machine did; 0 where
// there is none or it is hidden.
func processBegin(root fsx.Root, pid int) uint64 {
	const size, field = 4096, 22 - 3 // counted from the third, behind the name in parentheses
	data, err := root.ReadFile(fmt.Sprintf("/proc/%d/stat", pid), size)
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(f) <= field {
		return 0
	}
	begun, _ := strconv.ParseUint(f[field], 10, 64) // 0 for what is no number
	return begun
}

// bootID is the name of this boot, or empty.
func bootID(root fsx.Root) string {
	const size = 64
	data, err := root.ReadFile(bootPath, size)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// readLease returns fs.ErrNotExist without one, and errLease for one that
// cannot be understood. The directory belongs to the account sdwdate, and root
// reads it too: no link is followed.
func readLease(root fsx.Root, path string) (Lease, error) {
	f, err := os.OpenFile(root.Path(path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return Lease{}, fmt.Errorf("%s: %w: a link", path, errLease)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Lease{}, fs.ErrNotExist
	}
	if err != nil {
		return Lease{}, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return Lease{}, fmt.Errorf("%s: %w: no regular file", path, errLease)
	}
	data, err := io.ReadAll(io.LimitReader(f, leaseMax+1))
	if err != nil {
		return Lease{}, err
	}
	var l Lease
	if len(data) > leaseMax || json.Unmarshal(data, &l) != nil || !l.valid() {
		return Lease{}, fmt.Errorf("%s: %w", path, errLease)
	}
	return l, nil
}

func writeLease(root fsx.Root, path string, l Lease) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return root.WriteAtomic(path, append(data, '\n'), leaseMode)
}

// Current returns the lease of this boot, if there is one.
func Current(c Clock, root fsx.Root, path string) (Lease, bool) {
	l, err := readLease(root, path)
	return l, err == nil && l.ofThisBoot(bootID(root), c.Sample())
}

// Restore undoes what a process left behind that died while it slewed: the
// tick goes back to what it was, a single shot ends, the lease goes. It returns
// what it did, empty if there was nothing to do. A tick that is not the one of the
// lease belongs to somebody else, and is left alone.
func Restore(c Clock, root fsx.Root, path string) (done string, err error) {
	l, err := readLease(root, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, errLease):
		// It was there, so the tick may be ours: a clock at a wrong rate for
		// ever is worse than another program's tick set to normal once.
		l = Lease{Tick: NormalTick}
		done = err.Error() + ": "
	case err != nil:
		return "", err
	case !l.ofThisBoot(bootID(root), c.Sample()):
		return "removed a lease of an earlier boot", root.Remove(path)
	}
	d, err := c.Discipline()
	if err != nil {
		return "", err
	}
	switch {
	case d.Tick == l.Tick:
		done += fmt.Sprintf("the tick is %d already", d.Tick)
	case l.Set != 0 && d.Tick != l.Set:
		done += fmt.Sprintf("the tick is %d, which is another program's: left alone", d.Tick)
	default:
		if err := c.SetTick(l.Tick); err != nil {
			return "", err
		}
		if err := c.SingleShot(0); err != nil {
			return "", err
		}
		done += fmt.Sprintf("set the tick from %d back to %d", d.Tick, l.Tick)
	}
	return done, root.Remove(path)
}

// Left is what remains of the correction, if it is still under way.
func (l Lease) Left(now Sample) time.Duration {
	return l.Offset - scale(now.Raw-l.Raw, float64(l.Set-l.Tick)*TickPPM/1e6)
}
