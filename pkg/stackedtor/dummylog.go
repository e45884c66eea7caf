// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/torrc"
)

// journal writes what Tor would log, where the configuration wants it.
type journal struct {
	env cli.Env

	mu   sync.Mutex
	outs []output
	std  map[string]*unread // standard streams, by name
}

// output is one of the places.
type output struct {
	torrc.Log
	only string // lines with this text; all if empty
	to   io.Writer
	file *os.File // to be closed
}

func newJournal(env cli.Env) *journal {
	return &journal{env: env, std: map[string]*unread{torrc.ToStdout: newUnread(env.Stdout), torrc.ToStderr: newUnread(env.Stderr)}}
}

// byDefault logs as Tor does where the configuration has no Log.
func (j *journal) byDefault(q torrc.Quiet) {
	least := map[torrc.Quiet]torrc.Severity{torrc.Verbose: torrc.Notice, torrc.Hush: torrc.Warn}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drop()
	if s, ok := least[q]; ok {
		j.outs = []output{{Log: torrc.LogTo(torrc.ToStdout, s), to: j.std[torrc.ToStdout]}}
	}
}

// drop forgets the places.
func (j *journal) drop() {
	for _, o := range j.outs {
		if o.file != nil {
			o.file.Close()
		}
	}
	j.outs = nil
}

// open logs to what the configuration names. What cannot be opened is
// returned; the others count.
func (j *journal) open(logs []torrc.Log) (problems []error) {
	var outs []output
	for _, l := range logs {
		o, err := j.output(l)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		outs = append(outs, o)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drop()
	j.outs = outs
	return problems
}

func (j *journal) output(l torrc.Log) (output, error) {
	switch {
	case l.To == torrc.ToStdout || l.Path == "/dev/stdout":
		return output{Log: l, to: j.std[torrc.ToStdout]}, nil
	case l.To == torrc.ToStderr || l.Path == "/dev/stderr":
		return output{Log: l, to: j.std[torrc.ToStderr]}, nil
	case l.To == torrc.ToSyslog:
		return output{Log: l, to: syslog{}}, nil
	}
	f, err := openLog(l.Path, false)
	return output{Log: l, to: f, file: f}, err
}

// also logs lines with a text to one more file.
func (j *journal) also(path, text string) error {
	f, err := openLog(path, true)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.outs = append(j.outs, output{Log: torrc.LogTo(torrc.ToFile, torrc.Notice), only: text, to: f, file: f})
	return nil
}

func openLog(path string, create bool) (*os.File, error) {
	p, err := openPlace(path, create)
	if err != nil {
		return nil, err
	}
	defer p.close()
	return p.appendTo()
}

// say logs a line.
func (j *journal) say(s torrc.Severity, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?' // a path may be anything, a line is one
		}
		return r
	}, text)
	now := time.Now
	if j.env.Now != nil {
		now = j.env.Now
	}
	line := fmt.Sprintf("%s [%s] %s\n", now().Format("Jan 02 15:04:05.000"), s, text)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, o := range j.outs {
		if o.Wants(s) && strings.Contains(text, o.only) {
			_, _ = io.WriteString(o.to, line) // a log that cannot be written is none
		}
	}
}

// close waits a little until everything is written.
func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drop()
	for _, u := range j.std {
		u.close()
	}
	j.std = nil
}

// unread is a stream that perhaps nobody reads: writing never waits, and no
// more is written than fits a pipe.
type unread struct {
	to    io.Writer
	lines chan string
	done  chan struct{}
	once  sync.Once
	left  int
}

const (
	unreadLines = 256
	unreadBytes = 8 << 10 // a pipe has room for eight times as much
	unreadWait  = time.Second
)

func newUnread(to io.Writer) *unread {
	u := &unread{to: to, lines: make(chan string, unreadLines), done: make(chan struct{}), left: -1}
	if f, ok := to.(*os.File); ok {
		if fi, err := f.Stat(); err == nil && fi.Mode()&os.ModeNamedPipe != 0 {
			u.left = unreadBytes
		}
	}
	return u
}

// Write takes a line; one too many is lost.
func (u *unread) Write(line []byte) (int, error) {
	u.once.Do(func() {
		go func() {
			defer close(u.done)
			for l := range u.lines {
				_, _ = io.WriteString(u.to, l) // the reader may be gone
			}
		}()
	})
	if u.left >= 0 && len(line) > u.left {
		return len(line), nil
	}
	if u.left >= 0 {
		u.left -= len(line)
	}
	select {
	case u.lines <- string(line):
	default:
	}
	return len(line), nil
}

func (u *unread) close() {
	started := true
	u.once.Do(func() { started = false })
	if !started {
		return
	}
	close(u.lines)
	select {
	case <-u.done:
	case <-time.After(unreadWait):
	}
}

// syslog is the system's log; see syslog(3).
type syslog struct{}

func (syslog) Write(line []byte) (int, error) {
	c, err := net.Dial("unixgram", "/dev/log")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	const daemonNotice = 3<<3 | 5
	_, text, _ := strings.Cut(string(line), "[") // it has a time of its own
	_ = c.SetWriteDeadline(time.Now().Add(unreadWait))
	_, err = fmt.Fprintf(c, "<%d>Tor[%d]: [%s", daemonNotice, os.Getpid(), strings.TrimSuffix(text, "\n"))
	return len(line), err
}
