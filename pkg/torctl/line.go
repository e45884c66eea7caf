// SPDX-License-Identifier: GPL-3.0-or-later

package torctl

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// MaxLine is the longest line that is taken from a controller, without its LF.
const MaxLine = 10 << 10

// ErrLineTooLong says that a controller sent more than MaxLine bytes without LF.
var ErrLineTooLong = errors.New("line too long")

// LineReader takes apart what a controller sends. A line ends in LF; a CR before
// it does not belong to the line, any other one does.
type LineReader struct {
	src      io.Reader
	deadline func(time.Time) error // of src; may be nil
	patience time.Duration         // how long a line may be incomplete
	buf      []byte
	start    int  // of what was not delivered yet
	armed    bool // a deadline is set
}

// NewLineReader reads lines. A line that is incomplete for longer than patience
// ends in the error of src's deadline, which deadline sets; nil means there is
// no such limit. There is none for the time between lines.
func NewLineReader(src io.Reader, deadline func(time.Time) error, patience time.Duration) *LineReader {
	return &LineReader{src: src, deadline: deadline, patience: patience}
}

// Next is the next line without its end. It is valid until the next call. At
// the end of the stream an unterminated rest is dropped.
func (r *LineReader) Next() ([]byte, error) {
	seen := r.start
	for {
		if i := bytes.IndexByte(r.buf[seen:], '\n'); i >= 0 {
			line := r.buf[r.start : seen+i]
			r.start = seen + i + 1
			if len(line) > MaxLine {
				return nil, ErrLineTooLong
			}
			return bytes.TrimSuffix(line, []byte("\r")), r.arm(false)
		}
		if len(r.buf)-r.start > MaxLine {
			return nil, ErrLineTooLong
		}
		r.room()
		seen = len(r.buf)
		if err := r.arm(seen > 0); err != nil {
			return nil, err
		}
		n, err := r.src.Read(r.buf[seen:cap(r.buf)])
		r.buf = r.buf[:seen+n]
		if n == 0 && err == nil {
			err = io.ErrNoProgress
		}
		if n == 0 {
			return nil, err
		}
	}
}

// Buffered reports whether a complete line is there already.
func (r *LineReader) Buffered() bool { return bytes.IndexByte(r.buf[r.start:], '\n') >= 0 }

// room makes place behind what was read, first where lines were delivered.
func (r *LineReader) room() {
	const small, most = 512, MaxLine + 2
	if r.start > 0 {
		r.buf = r.buf[:copy(r.buf, r.buf[r.start:])]
		r.start = 0
	}
	if len(r.buf) < cap(r.buf) {
		return
	}
	grown := make([]byte, len(r.buf), min(max(small, 4*cap(r.buf)), most))
	copy(grown, r.buf)
	r.buf = grown
}

// arm sets the deadline when a line has begun and clears it when it is there.
func (r *LineReader) arm(partial bool) error {
	if r.deadline == nil || partial == r.armed {
		return nil
	}
	r.armed = partial
	if !partial {
		return r.deadline(time.Time{})
	}
	return r.deadline(time.Now().Add(r.patience))
}

// Command is a controller's line, split.
type Command struct {
	Name      string // as typed
	Separator string // the blanks behind it
	Arguments string // the rest, blanks at its end included
}

// Split splits a line. It fails for a line that begins with a blank, is empty,
// or holds a byte that no command needs: allowed are 0x20 to 0x7E, and TAB in
// the separator. Tor reads C strings and takes more bytes for blanks than any
// regular expression would; none of them gets past here.
func Split(line []byte) (Command, bool) {
	name := 0
	for name < len(line) && line[name] != ' ' && line[name] != '\t' {
		name++
	}
	args := name
	for args < len(line) && (line[args] == ' ' || line[args] == '\t') {
		args++
	}
	if name == 0 || !Printable(line[:name]) || !Printable(line[args:]) {
		return Command{}, false
	}
	return Command{Name: string(line[:name]), Separator: string(line[name:args]), Arguments: string(line[args:])}, true
}

// Printable reports bytes from 0x20 to 0x7E only.
func Printable[T string | []byte](text T) bool {
	for i := 0; i < len(text); i++ {
		if text[i] < 0x20 || text[i] > 0x7e {
			return false
		}
	}
	return true
}

// Blank reports a line of blanks only.
func Blank(line []byte) bool { return len(bytes.Trim(line, " \t")) == 0 }
