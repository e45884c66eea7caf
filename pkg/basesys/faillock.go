// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"whonix-networking/pkg/fsx"
)

const faillockConf = "/etc/security/faillock.conf"

// tallyRecord is the size of a record of the tally of pam_faillock(8): source[52],
// reserved, status and time, of 2, 2 and 8 bytes in the machine's order.
const (
	tallyRecord = 64
	tallyValid  = 1 // of the status
)

// faillock is what faillock.conf(5) says, as far as it matters here.
type faillock struct {
	dir          string
	deny         int
	failInterval time.Duration
	unlockTime   string
	denyRoot     bool
}

// readFaillock reads the configuration. Of several lines of one key the last
// counts; what follows a # is a comment (defect D-18).
func readFaillock(root fsx.Root) (faillock, error) {
	f := faillock{dir: "/var/run/faillock", deny: 3, failInterval: 900 * time.Second, unlockTime: "600"}
	keys, err := faillockKeys(root)
	if err != nil {
		return f, err
	}
	for key, v := range keys {
		n, bad := 0, error(nil)
		switch key {
		case "dir":
			f.dir = v.text
		case "deny":
			n, bad = strconv.Atoi(v.text)
			f.deny = n
		case "fail_interval":
			n, bad = strconv.Atoi(v.text)
			f.failInterval = time.Duration(n) * time.Second
		case "unlock_time":
			f.unlockTime = v.text
		case "even_deny_root", "root_unlock_time":
			f.denyRoot = true // the latter implies the former
		}
		if bad != nil || n < 0 {
			return f, fmt.Errorf("%s:%d: %s: no number: %q", faillockConf, v.line, key, printable(v.text))
		}
	}
	if !strings.HasPrefix(f.dir, "/") || strings.Contains(f.dir, "..") {
		return f, fmt.Errorf("%s: dir: no full path: %q", faillockConf, printable(f.dir))
	}
	return f, nil
}

// value is a word of configuration, and where it stands.
type value struct {
	text string
	line int
}

func faillockKeys(root fsx.Root) (map[string]value, error) {
	keys := map[string]value{}
	data, err := root.ReadFile(faillockConf, fileMax)
	if errors.Is(err, fs.ErrNotExist) {
		return keys, nil
	}
	if err != nil {
		return nil, err
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		key, text, _ := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); key != "" {
			keys[key] = value{strings.TrimSpace(text), n}
		}
	}
	return keys, nil
}

// failures counts the failures that pam_faillock counts: valid records, younger
// than the interval (defect D-18).
func (f faillock) failures(root fsx.Root, user string, now time.Time) (int, error) {
	data, err := root.ReadFile(f.dir+"/"+user, fileMax)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n := 0
	for ; len(data) >= tallyRecord; data = data[tallyRecord:] {
		status := binary.NativeEndian.Uint16(data[54:])
		at := time.Unix(int64(binary.NativeEndian.Uint64(data[56:])), 0)
		if status&tallyValid != 0 && now.Sub(at) < f.failInterval {
			n++
		}
	}
	return n, nil
}
