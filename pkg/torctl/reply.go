// SPDX-License-Identifier: GPL-3.0-or-later

package torctl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

// MaxReply is the longest message that is taken from Tor.
const MaxReply = 8 << 20

// Errors of what Tor sends. None can be recovered from on the same connection.
var (
	ErrMalformed = errors.New("malformed message")
	ErrTooLong   = errors.New("message too long")
)

// codeEvent is the code of asynchronous events.
const codeEvent = "650"

// Message is one complete reply or event: Raw is every byte of it, line ends
// included, as it came.
type Message struct {
	Raw []byte
}

// Line is one line of a message, or a data block.
type Line struct {
	Code    string
	Divider byte   // '-', '+' or ' '
	Text    []byte // without code, divider and line end
	Data    []byte // of a block: its lines as they came, without the closing dot
}

// Event reports an asynchronous event.
func (m Message) Event() bool { return bytes.HasPrefix(m.Raw, []byte(codeEvent)) }

// Clone is a copy that stays valid after the message was delivered.
func (m Message) Clone() Message { return Message{Raw: bytes.Clone(m.Raw)} }

// Code is the code of the last line, which is the one that counts.
func (m Message) Code() string {
	code := ""
	for l := range m.Lines() {
		code = l.Code
	}
	return code
}

// OK reports success.
func (m Message) OK() bool { return m.Code() == "250" }

// Last is the last line without line end: `250 OK`, or the error.
func (m Message) Last() string {
	raw := bytes.TrimSuffix(m.Raw, []byte("\r\n"))
	return string(raw[bytes.LastIndexByte(raw, '\n')+1:])
}

// Err is nil for success and a *ReplyError else.
func (m Message) Err() error {
	if m.OK() {
		return nil
	}
	return &ReplyError{Text: m.Last()}
}

// ReplyError is Tor's refusal of a command.
type ReplyError struct {
	Text string // code and reason
}

// Error is what Tor said, without control bytes.
func (e *ReplyError) Error() string { return fmt.Sprintf("tor: %q", e.Text) }

// Lines are the message's lines in order. The message must be well formed, as
// those of Reader are.
func (m Message) Lines() iter.Seq[Line] {
	return func(yield func(Line) bool) {
		rest := m.Raw
		for len(rest) > 0 {
			var text []byte
			text, rest = cutLine(rest)
			l := Line{Code: string(text[:3]), Divider: text[3], Text: text[4:]}
			if l.Divider == '+' {
				l.Data, rest = cutData(rest)
			}
			if !yield(l) {
				return
			}
		}
	}
}

// cutLine takes the line that ends at the first CRLF.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil
	}
	return bytes.TrimSuffix(b[:i], []byte("\r")), b[i+1:]
}

// cutData takes a data block: up to the line that is a dot alone.
func cutData(b []byte) (data, rest []byte) {
	for at := 0; ; {
		line, after := cutLine(b[at:])
		if string(line) == "." || after == nil {
			return b[:at], after
		}
		at = len(b) - len(after)
	}
}

// Unstuff is the content of a data block: dots doubled at the begin of lines
// are single again, and lines end in LF.
func Unstuff(data []byte) string {
	var out []byte
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		if len(line) > 0 && line[0] == '.' {
			line = line[1:]
		}
		out = append(append(out, line...), '\n')
	}
	return string(out)
}

// Reader takes messages apart that come from Tor. It is strict: lines end in
// CRLF and nothing else, a code is three digits, and a message is either all
// event or all reply.
type Reader struct {
	src   io.Reader
	limit int
	take  func(bytes int) error // see Take
	buf   []byte                // what was read
	start int                   // of the message in buf
}

// Take has take asked before the buffer grows by so many bytes; an error of it
// ends the reading. When the buffer shrinks it gets a negative number.
func (r *Reader) Take(take func(bytes int) error) { r.take = take }

// NewReader reads messages of at most limit bytes.
func NewReader(src io.Reader, limit int) *Reader {
	return &Reader{src: src, limit: limit}
}

// Sizes of the buffer: of a quiet connection, and the most that is kept.
const (
	smallBuffer = 2 << 10
	keepBuffer  = 64 << 10
)

// Next is the next message. It is valid until the next call.
func (r *Reader) Next() (Message, error) {
	r.discard()
	at, data, event := r.start, false, false
	for first := true; ; {
		end := bytes.IndexByte(r.buf[at:], '\n')
		for end < 0 {
			seen := len(r.buf) - at
			if err := r.fill(); err != nil {
				return Message{}, err
			}
			if end = bytes.IndexByte(r.buf[at+seen:], '\n'); end >= 0 {
				end += seen
			}
		}
		line := r.buf[at : at+end]
		at += end + 1
		if len(line) == 0 || line[len(line)-1] != '\r' {
			return Message{}, fmt.Errorf("%w: a line ends without CR", ErrMalformed)
		}
		line = line[:len(line)-1]
		switch {
		case data:
			data = string(line) != "."
			continue
		case !statusLine(line):
			return Message{}, fmt.Errorf("%w: no status line: %.40q", ErrMalformed, line)
		case first:
			event, first = string(line[:3]) == codeEvent, false
		case event != (string(line[:3]) == codeEvent):
			return Message{}, fmt.Errorf("%w: an event within a reply: %.40q", ErrMalformed, line)
		}
		switch line[3] {
		case '+':
			data = true
		case ' ':
			m := Message{Raw: r.buf[r.start:at:at]}
			r.start = at
			return m, nil
		}
	}
}

// statusLine reports three digits and a divider.
func statusLine(line []byte) bool {
	if len(line) < 4 || line[3] != '-' && line[3] != '+' && line[3] != ' ' {
		return false
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// discard drops the message that was delivered, and a buffer that grew large.
func (r *Reader) discard() {
	switch rest := len(r.buf) - r.start; {
	case rest == 0 && cap(r.buf) > keepBuffer:
		r.Release()
	case rest == 0:
		r.buf = r.buf[:0]
	case r.start > 0:
		r.buf = r.buf[:copy(r.buf, r.buf[r.start:])]
	}
	r.start = 0
}

// Release drops the buffer, and the message that was delivered with it.
func (r *Reader) Release() {
	if r.take != nil {
		_ = r.take(-cap(r.buf)) // giving back cannot fail
	}
	r.buf, r.start = nil, 0
}

// grow makes room for more of the message.
func (r *Reader) grow() error {
	size := min(max(smallBuffer, 2*cap(r.buf)), r.limit)
	if r.take != nil {
		if err := r.take(size - cap(r.buf)); err != nil {
			return err
		}
	}
	grown := make([]byte, len(r.buf), size)
	copy(grown, r.buf)
	r.buf = grown
	return nil
}

// fill reads more of the message.
func (r *Reader) fill() error {
	if len(r.buf) >= r.limit {
		return ErrTooLong
	}
	if len(r.buf) == cap(r.buf) {
		if err := r.grow(); err != nil {
			return err
		}
	}
	n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf = r.buf[:len(r.buf)+n]
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	if errors.Is(err, io.EOF) && len(r.buf) > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}
