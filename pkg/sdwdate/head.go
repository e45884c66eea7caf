// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Limits of an answer's head (D6). Nothing behind it is read.
const (
	headMax       = 32 << 10
	lineMax       = 8 << 10
	fieldsMax     = 100
	interimMax    = 5 // answers 1xx before the final one
	statusLineMin = len("HTTP/1.1 200")
)

// Errors of a head that the caller tells apart.
var (
	errNoAnswer = errors.New("the server closed the connection without an answer")
	errHead     = errors.New("malformed answer")
)

func badHead(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errHead, fmt.Sprintf(format, args...))
}

// head is what matters of the final answer.
type head struct {
	Status int
	Dates  []string
	Ages   []string
	// First is when the answer's first byte was read.
	First time.Duration
}

// headReader reads heads line by line, with limits, and notes when what came.
type headReader struct {
	in    io.Reader
	now   func() time.Duration
	chunk []byte // read, not yet used
	came  time.Duration
	left  int // of headMax
	space [4 << 10]byte
}

// readHead reads from in until the end of the final answer's head. now is asked
// after every read.
func readHead(in io.Reader, now func() time.Duration) (head, error) {
	r := &headReader{in: in, now: now, left: headMax}
	for range interimMax + 1 {
		h, err := r.one()
		if err != nil {
			return head{}, err
		}
		if h.Status >= 200 {
			return h, nil
		}
		if h.Status == 101 {
			return head{}, badHead("another protocol")
		}
	}
	return head{}, badHead("more than %d interim answers", interimMax)
}

func (r *headReader) one() (head, error) {
	if len(r.chunk) == 0 {
		if err := r.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = errNoAnswer
			}
			return head{}, err
		}
	}
	h := head{First: r.came}
	line, err := r.line()
	if err != nil {
		return head{}, err
	}
	if h.Status, err = parseStatus(line); err != nil {
		return head{}, err
	}
	for n := 0; ; n++ {
		line, err := r.line()
		if err != nil || line == "" {
			return h, err
		}
		if n == fieldsMax {
			return head{}, badHead("more than %d fields", fieldsMax)
		}
		name, value, err := parseField(line)
		if err != nil {
			return head{}, err
		}
		switch strings.ToLower(name) {
		case "date":
			h.Dates = append(h.Dates, value)
		case "age":
			h.Ages = append(h.Ages, value)
		}
	}
}

func (r *headReader) fill() error {
	n, err := r.in.Read(r.space[:])
	r.came = r.now()
	r.chunk = r.space[:n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// line is the next line without its end, CRLF or LF.
func (r *headReader) line() (string, error) {
	var line []byte
	for {
		if len(r.chunk) == 0 {
			if err := r.fill(); err != nil {
				if errors.Is(err, io.EOF) {
					return "", badHead("it ends before its head does")
				}
				return "", err
			}
		}
		part, rest, complete := bytes.Cut(r.chunk, []byte("\n"))
		used := len(r.chunk) - len(rest)
		if r.left -= used; r.left < 0 {
			return "", badHead("a head of more than %d bytes", headMax)
		}
		line = append(line, part...)
		if len(line) > lineMax {
			return "", badHead("a line of more than %d bytes", lineMax)
		}
		if r.chunk = rest; complete {
			break
		}
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	if i := bytes.IndexAny(line, "\x00\r"); i >= 0 {
		return "", badHead("byte %#02x in a line", line[i])
	}
	return string(line), nil
}

// parseStatus reads a status line, RFC 9112, 4.
func parseStatus(line string) (int, error) {
	if len(line) < statusLineMin || !strings.HasPrefix(line, "HTTP/1.") || line[7] != '0' && line[7] != '1' || line[8] != ' ' ||
		len(line) > statusLineMin && line[statusLineMin] != ' ' {
		return 0, badHead("no status line of HTTP/1")
	}
	status, err := strconv.ParseUint(line[9:12], 10, 16)
	if err != nil || status < 100 || status > 599 {
		return 0, badHead("status %s", strconv.Quote(line[9:12]))
	}
	return int(status), nil
}

// parseField reads a field line, RFC 9112, 5; folded ones are refused.
func parseField(line string) (name, value string, err error) {
	if line[0] == ' ' || line[0] == '\t' {
		return "", "", badHead("a folded line")
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok || name == "" || strings.ContainsAny(name, " \t") {
		return "", "", badHead("a line that is no field")
	}
	return name, strings.Trim(value, " \t"), nil
}

// unixtime is the time that the head states.
func (h head) unixtime() (int64, error) {
	for _, age := range h.Ages {
		if seconds, err := strconv.ParseUint(age, 10, 64); err != nil || seconds > 0 {
			return 0, errDateStale
		}
	}
	if len(h.Dates) != 1 {
		return 0, errDateLength
	}
	return parseDate(h.Dates[0])
}
