// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/syslog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/clock"
)

// Exit codes of anondate-get and anondate-set.
const (
	codeFromCertificate = 2
	codeNothingToSet    = 3
)

// Files that anondate-set leaves behind for whoever looks for the reason.
const (
	fileGetStdout  = "anondate-get-stdout.txt"
	fileGetStderr  = "anondate-get-stderr.txt"
	fileSetCurrent = "anondate-set-current-message.txt"
	fileSetOld     = "anondate-set-old-message.txt"
)

// repairTime is what anondate-get found.
type repairTime struct {
	candidate
	bounds bounds
	lines  []string
}

func (r repairTime) code() int {
	if r.FromCertificate {
		return codeFromCertificate
	}
	return 0
}

// get finds the time that a slow clock may be set to. There is always one: the
// minimum time at least, which may lie before what the clock shows.
func (a *anondate) get(ctx context.Context, certificates bool) (repairTime, error) {
	var r repairTime
	say := func(format string, args ...any) { r.lines = append(r.lines, sanitise(fmt.Sprintf(format, args...))) }
	b, notices, err := loadBounds(a.root)
	for _, n := range notices {
		say("%s", n)
	}
	if err != nil {
		return r, err
	}
	r.bounds = b
	w, err := a.ask(ctx)
	if err != nil {
		say("The consensus is not known: %v", err)
	}
	conf, _ := loadConf(a.root) // --check-config tells what is wrong with it
	k := knowledge{Window: w, CertAllowed: certificates && conf.AnondateTorCert}
	if k.CertAllowed {
		k.Certificate = certificateOf(readTorLog(ctx, a.root))
	}
	now := a.clock.Now()
	found, ok := repairTo(now, b, k)
	switch middle := w.middle(); {
	case ok:
		r.candidate = found
	case !w.After.IsZero() && !now.Before(w.Until) && middle.Unix() >= b.Floor && middle.Unix() <= b.Ceiling:
		r.candidate = candidate{middle, "the middle of Tor's consensus, which is before the clock", false}
	default:
		r.candidate = candidate{time.Unix(b.Floor, 0), "the minimum time, for nothing later is known", false}
	}
	say("%s is %s.", r.Time.UTC().Format(time.DateTime), r.Why)
	return r, nil
}

// middle is where a clock is most probably within the consensus.
func (w window) middle() time.Time { return w.After.Add(w.Until.Sub(w.After) / 2) }

// set sets a slow clock forward, and by a certificate only once a boot,
// whichever account it was that did.
func (a *anondate) set(ctx context.Context) error {
	f, err := a.folder()
	if err != nil {
		return err
	}
	defer f.close()
	r, err := a.get(ctx, !f.has(fileCertificate) && !a.root.Exists(statusDir+"/"+fileCertificate) && !a.root.Exists(anondateDir+"/"+fileCertificate))
	if err != nil {
		return err
	}
	if err := together(f.put(fileGetStdout, r.Time.UTC().Format(time.DateTime)+"\n"), f.put(fileGetStderr, strings.Join(r.lines, "\n")+"\n")); err != nil {
		return err
	}
	now := a.clock.Now()
	code, line := r.code(), ""
	if !forward(now, r.Time, r.bounds.Floor, r.bounds.Ceiling) {
		code, line = codeNothingToSet, fmt.Sprintf("The clock is left alone: %s, %s, is not later.", r.Time.UTC().Format(time.DateTime), r.Why)
	} else {
		if r.FromCertificate { // before: it must not happen twice whatever comes
			if err := f.create(fileCertificate); err != nil {
				return err
			}
		}
		if err := a.jump(r.Time.Sub(now)); err != nil {
			return fmt.Errorf("%s", describeClockError(err))
		}
		line = fmt.Sprintf("The clock was set from %s to %s, %s.", now.UTC().Format(time.DateTime), r.Time.UTC().Format(time.DateTime), r.Why)
	}
	if err := a.tell(f, append(r.lines, line)); err != nil {
		return err
	}
	return exitCode(code)
}

// folder is the one of the account.
func (a *anondate) folder() (*folder, error) {
	if a.euid != 0 {
		return openFolder(a.root, statusDir)
	}
	if err := a.root.MkdirAll(anondateDir, 0o755); err != nil {
		return nil, err
	}
	return openFolder(a.root, anondateDir)
}

// jump steps the clock, and verifies that it moved. A gradual correction of the
// daemon's is ended by the daemon, which sees the step.
func (a *anondate) jump(by time.Duration) error {
	before := a.clock.Sample()
	if err := a.clock.Step(by); err != nil {
		return err
	}
	after := a.clock.Sample()
	if off := clock.Between(before, after).Step - by; off.Abs() > time.Second {
		return fmt.Errorf("%w: by %v instead of %v", clock.ErrNotMoved, by+off, by)
	}
	return nil
}

// tell says what happened, and to the journal only what it did not say the last
// time: without a network the question is asked every minute.
func (a *anondate) tell(f *folder, lines []string) error {
	for _, line := range lines {
		fmt.Fprintf(a.env.Stderr, "____ %s: %s\n", a.env.Name(), line)
	}
	text := strings.Join(lines, "\n") + "\n"
	const most = 64 << 10
	old, err := f.get(fileSetCurrent, most)
	if err == nil && bytes.Equal(old, []byte(text)) {
		return f.put(fileSetOld, text)
	}
	for _, line := range lines {
		a.journal(line)
	}
	return together(f.put(fileSetOld, string(old)), f.put(fileSetCurrent, text))
}

// put writes a file in the place of whatever has the name.
func (f *folder) put(name, text string) error {
	if err := f.create(name); err != nil {
		return err
	}
	fd, err := unix.Openat(f.fd, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = file.WriteString(text)
	return together(err, file.Close())
}

// get reads a regular file.
func (f *folder) get(name string, most int64) ([]byte, error) {
	if !f.has(name) {
		return nil, &os.PathError{Op: "read", Path: name, Err: os.ErrNotExist}
	}
	fd, err := unix.Openat(f.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, most))
}

// toJournal writes a line to the system's log, where there is one.
func toJournal(identifier, line string) {
	w, err := syslog.New(syslog.LOG_INFO|syslog.LOG_DAEMON, identifier)
	if err != nil {
		return
	}
	defer w.Close()
	_ = w.Info(line) // standard error has it too
}
