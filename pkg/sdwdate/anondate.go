// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// What a clock that is too slow for Tor may be set to, forward only: the middle
// of the consensus, the begin of a certificate that Tor has met, or the floor.

const fileCertificateSet = "tor_certificate_lifetime_set"

// certificateReach bounds a date that comes from whoever has answered a TLS
// handshake: it cannot be undone (D32).
const certificateReach = 5 * 365 * 24 * time.Hour

// knowledge is what Tor knows of the time.
type knowledge struct {
	Window      window // zero where there is no consensus
	Certificate string // the begin of a certificate that was refused; empty where there is none
	CertAllowed bool   // by configuration, and not yet in this boot
}

// candidate is a time to set a slow clock to.
type candidate struct {
	Time            time.Time
	Why             string
	FromCertificate bool
}

// repairTo decides what a clock that shows now may be set to. A consensus that Tor
// holds is signed, and proves that its begin has passed; a certificate's date is
// the word of whoever answered a handshake. So the word counts only where Tor
// has no consensus at all, or where the consensus says itself that the clock is
// slow. Where it does not, the clock may be fast already, and a step forward by
// years on such a word could not be taken back by what only goes forward (D32).
func repairTo(now time.Time, b bounds, k knowledge) (candidate, bool) {
	var list []candidate
	if w := k.Window; !w.After.IsZero() && now.Before(w.After) {
		list = append(list, candidate{w.After.Add(w.Until.Sub(w.After) / 2), "the middle of Tor's consensus", false})
	}
	contradicted := !k.Window.After.IsZero() && !now.Before(k.Window.After)
	if k.CertAllowed && k.Certificate != "" && !contradicted {
		const form = "Jan _2 15:04:05 2006 GMT"
		if t, err := time.Parse(form, k.Certificate); err == nil && !t.After(time.Unix(b.Floor, 0).Add(certificateReach)) {
			list = append(list, candidate{t, "the begin of a relay's certificate", true})
		}
	}
	if floor := time.Unix(b.Floor, 0); now.Before(floor) {
		list = append(list, candidate{floor, "the minimum time", false})
	}
	for _, c := range list {
		if forward(now, c.Time, b.Floor, b.Ceiling) {
			return c, true
		}
	}
	return candidate{}, false
}

// certificateOf finds the last certificate in Tor's log that it refused for its
// time.
func certificateOf(log string) string {
	if !strings.Contains(log, "Certificate not yet valid.") && !strings.Contains(log, "Certificate already expired.") {
		return ""
	}
	const before, behind = "certificate lifetime runs from ", " through"
	i := strings.LastIndex(log, before)
	if i < 0 {
		return ""
	}
	from, _, ok := strings.Cut(log[i+len(before):], behind)
	if !ok {
		return ""
	}
	return from
}

// Where Tor's log is, and how much of its end counts.
const (
	torLog       = "/run/tor/log"
	torLogMax    = 1 << 20
	journalctl   = "/usr/bin/journalctl"
	journalLines = "2000"
)

// readTorLog is the end of Tor's log: of the file, or of this boot's journal.
func readTorLog(ctx context.Context, root fsx.Root) string {
	if text, err := tail(root.Path(torLog), torLogMax); err == nil {
		return text
	}
	if !root.Exists(journalctl) {
		return ""
	}
	out := &bounded{most: torLogMax}
	cmd := execx.Cmd{Path: root.Path(journalctl), Stdout: out, Stderr: io.Discard,
		Args: []string{"--boot", "--unit=tor@default.service", "--output=cat", "--no-pager", "--lines=" + journalLines}}
	_ = cmd.Run(ctx) // without a journal there is nothing to know
	return out.data.String()
}

func tail(path string, most int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", path)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, max(0, fi.Size()-most), most))
	return string(data), err
}
