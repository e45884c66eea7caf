// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// Icons that readers of the status know.
const (
	iconSuccess = "success"
	iconBusy    = "busy"
	iconError   = "error"
)

// Files in the folder of the status, besides those of apply.
const (
	fileStatus    = "status"
	fileMessage   = "msg"
	fileFail      = "fail"
	fileSleepLong = "sleep_long"
	fileHealth    = "health.json"
)

const statusMax = 16 << 10

// statusFolder is what others read of the daemon.
type statusFolder struct {
	root   fsx.Root
	path   string
	silent bool // nothing is written
}

// renderStatus is the status as other programs parse it: as Python's json prints
// it, ASCII only.
func renderStatus(icon, message string) string {
	return `{"icon": ` + jsonText(icon) + `, "message": ` + jsonText(message) + `}`
}

func jsonText(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
	}
	b.WriteByte('"')
	return b.String()
}

// set writes status and message. The status keeps its inode, which sdwdate-gui
// watches, and is never empty or cut: it does not shrink, what is short is
// padded, and it grows by blanks first (D20).
func (s statusFolder) set(icon, message string) error {
	if s.silent {
		return nil
	}
	if err := s.write(renderStatus(icon, message)); err != nil {
		return err
	}
	if old, err := s.root.ReadFile(s.path+"/"+fileMessage, statusMax); err == nil && string(old) == message {
		return nil
	}
	return s.root.WriteAtomic(s.path+"/"+fileMessage, []byte(message), publicFile)
}

func (s statusFolder) write(text string) error {
	f, err := os.OpenFile(s.root.Path(s.path+"/"+fileStatus), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, publicFile)
	if err != nil {
		return err
	}
	defer f.Close()
	defer alone(f)()
	old, err := io.ReadAll(io.LimitReader(f, statusMax))
	if err != nil {
		return err
	}
	if string(bytes.TrimRight(old, " \n")) == text {
		return nil
	}
	if grow := len(text) - len(old); grow > 0 {
		if _, err := f.WriteAt(bytes.Repeat([]byte(" "), grow), int64(len(old))); err != nil {
			return err
		}
	}
	if pad := len(old) - len(text); pad > 0 {
		text += strings.Repeat(" ", pad)
	}
	_, err = f.WriteAt([]byte(text), 0)
	return err
}

// How long to wait for readers to close the file; one that keeps it open cannot
// stop us.
const (
	leaseLimit = time.Second
	leaseSpin  = 1000 // times, before it pauses
	leasePause = time.Millisecond
)

// alone waits until nobody else has the file open, and keeps others from opening
// it until the function that it returns is called: a write lease, see fcntl(2).
// A write is not atomic by itself: whoever reads meanwhile can get the begin of
// the new content and the end of the old one.
func alone(f *os.File) (release func()) {
	end := time.Now().Add(leaseLimit)
	for i := 0; ; i++ {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err == nil {
			return func() {
				_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) // closing releases it too
			}
		} else if !errors.Is(err, unix.EAGAIN) || time.Now().After(end) {
			return func() {}
		}
		if i > leaseSpin {
			time.Sleep(leasePause)
		}
	}
}

// create makes an empty file, in place.
func (s statusFolder) create(name string) error {
	if s.silent {
		return nil
	}
	return s.root.Touch(s.path+"/"+name, publicFile)
}

func (s statusFolder) remove(name string) error {
	if s.silent {
		return nil
	}
	return s.root.Remove(s.path + "/" + name)
}

func (s statusFolder) has(name string) bool { return s.root.Exists(s.path + "/" + name) }

// health is the status for machines. Times are of CLOCK_BOOTTIME, in seconds:
// the other clock is what is in question.
type health struct {
	State      string   `json:"state"` // an icon
	Reason     string   `json:"reason"`
	Since      float64  `json:"since"`
	ClockSet   bool     `json:"clock_set"` // since boot
	Checked    float64  `json:"checked"`   // the last good round; 0 is none
	Offset     float64  `json:"offset"`    // that it found, in seconds
	Radius     float64  `json:"radius"`    // how far off that may be
	Sources    []int    `json:"sources"`   // pools whose answers were used
	Slewing    float64  `json:"slewing"`   // seconds still to be corrected
	NextTry    float64  `json:"next_try"`  // 0: now
	Failures   int      `json:"failures"`  // in a row
	Complaints []string `json:"complaints,omitempty"`
}

func (s statusFolder) writeHealth(h health) error {
	if s.silent {
		return nil
	}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return s.root.WriteAtomic(s.path+"/"+fileHealth, append(data, '\n'), publicFile)
}

// errNoStatus says that there is nothing to show.
var errNoStatus = errors.New("sdwdate has not run since boot")

// readStatus is what the daemon said last.
func (s statusFolder) readStatus() (icon, message string, h health, err error) {
	data, err := s.root.ReadFile(s.path+"/"+fileStatus, statusMax)
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		return "", "", h, errNoStatus
	}
	var status struct{ Icon, Message string }
	if err := json.Unmarshal(data, &status); err != nil {
		return "", "", h, fmt.Errorf("%s/%s: %w", s.path, fileStatus, err)
	}
	if data, err := s.root.ReadFile(s.path+"/"+fileHealth, statusMax); err == nil {
		if err := json.Unmarshal(data, &h); err != nil {
			return "", "", h, fmt.Errorf("%s/%s: %w", s.path, fileHealth, err)
		}
	}
	return status.Icon, status.Message, h, nil
}

// folders are where status and state are kept: for the daemon's account its home
// and /var/lib; for a person below /home one folder.
func folders(home string) (status, state string, err error) {
	const name, stateDir = "sdwdate", "/var/lib/sdwdate"
	home = filepath.Clean(home)
	switch {
	case filepath.Dir(home) == "/home":
		return home + "/" + name, home + "/" + name, nil
	case !filepath.IsAbs(home) || filepath.Base(home) != name:
		return "", "", fmt.Errorf("the home directory %q does not end in /%s: run sdwdate as its own account", home, name)
	default:
		return home, stateDir, nil
	}
}

// bootSeconds is a time of CLOCK_BOOTTIME for health.
func bootSeconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
