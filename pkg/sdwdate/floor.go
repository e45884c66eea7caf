// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"whonix-networking/pkg/fsx"
)

// Limits of all times. Each release moves them.
const (
	builtinFloor   = 1793491200 // 2026-11-01 00:00:00 UTC, the release's date
	builtinCeiling = 1999936800 // 2033-05-17 10:00:00 UTC
)

// floorTolerance is how far before the floor a time may lie: clocks of servers
// differ (D3).
const floorTolerance = 100

// Files of the floor. The last two of each list are the administrator's.
const (
	floorFile      = "/var/lib/sdwdate/time-replay-protection-utc-unixtime"
	floorHumanFile = "/var/lib/sdwdate/time-replay-protection-utc-humanreadable"
	ceilingFile    = "/etc/maximum-unixtime"
)

func floorOverrides() []string {
	return []string{"/usr/local/etc/minimum-unixtime.override", "/etc/minimum-unixtime.override"}
}

// releaseFile is the earliest time that a release of the distribution knows.
const releaseFile = "/usr/share/timesanitycheck/minimum_unixtime"

func floorFiles() []string {
	return []string{releaseFile, floorFile, "/etc/minimum-unixtime", "/usr/local/etc/minimum-unixtime"}
}

// bounds are the times between which a time must lie.
type bounds struct {
	Floor, Ceiling int64
}

// errUnixtime says that a file does not hold ten digits.
var errUnixtime = errors.New("not a unixtime of 10 digits")

// readUnixtime reads a file that holds a time.
func readUnixtime(root fsx.Root, path string) (int64, error) {
	const digits, most = 10, 64
	data, err := root.ReadFile(path, most)
	if errors.Is(err, fsx.ErrTooLarge) {
		return 0, fmt.Errorf("%s: %w", path, errUnixtime)
	}
	if err != nil {
		return 0, err
	}
	text := strings.TrimRight(string(data), " \t\r\n")
	if len(text) != digits || strings.Trim(text, "0123456789") != "" {
		return 0, fmt.Errorf("%s: %w", path, errUnixtime)
	}
	return strconv.ParseInt(text, 10, 64)
}

// loadBounds reads the earliest and the latest time that count. An override
// that is there decides alone, also when it is lower; a bad one is an error.
// Other bad files do not count, and are named in notices (D22).
func loadBounds(root fsx.Root) (b bounds, notices []string, err error) {
	b = bounds{builtinFloor, builtinCeiling}
	if t, err := readUnixtime(root, ceilingFile); err == nil {
		b.Ceiling = t
	} else if !errors.Is(err, fs.ErrNotExist) {
		notices = append(notices, err.Error()+": it does not count")
	}
	for _, path := range floorOverrides() {
		t, err := readUnixtime(root, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return b, notices, err
		}
		b.Floor = t
		return b, notices, nil
	}
	for _, path := range floorFiles() {
		t, err := readUnixtime(root, path)
		switch {
		case err == nil:
			b.Floor = max(b.Floor, t)
		case !errors.Is(err, fs.ErrNotExist):
			notices = append(notices, err.Error()+": it does not count")
		}
	}
	return b, notices, nil
}

// releaseBounds are the times that are possible at all, whatever this machine
// has seen: what timesanitycheck holds the clock against.
func releaseBounds(root fsx.Root) bounds {
	b := bounds{builtinFloor, builtinCeiling}
	if t, err := readUnixtime(root, releaseFile); err == nil {
		b.Floor = t
	}
	if t, err := readUnixtime(root, ceilingFile); err == nil {
		b.Ceiling = t
	}
	return b
}

// verdict is what a check says of a time.
type verdict string

const (
	sane verdict = "sane"
	slow verdict = "slow"
	fast verdict = "fast"
)

// judge tells whether a time lies within the bounds.
func (b bounds) judge(t int64) verdict {
	switch {
	case t < b.Floor-floorTolerance:
		return slow
	case t > b.Ceiling:
		return fast
	default:
		return sane
	}
}
