// SPDX-License-Identifier: GPL-3.0-or-later

package torctl

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// messages reads all of a stream.
func messages(src io.Reader, limit int) (out []string, err error) {
	r := NewReader(src, limit)
	for {
		m, err := r.Next()
		if err != nil {
			return out, err
		}
		out = append(out, string(m.Raw))
	}
}

// TestReader: messages come whole, byte for byte, however the stream is cut.
func TestReader(t *testing.T) {
	want := []string{
		"250 OK\r\n",
		"250-version=1\r\n250 OK\r\n",
		"250+x=\r\n..dot\r\n650 no event\r\n\r\n.\r\n250 OK\r\n",
		"650-CONF_CHANGED\r\n650-A=1\r\n650 OK\r\n",
		"650+HS_DESC_CONTENT a\r\nfoo\r\n.\r\n650 OK\r\n",
		"250-a=\x00\xff\r\r\n250 \r\n",
	}
	all := strings.Join(want, "")
	for name, src := range map[string]io.Reader{
		"whole": strings.NewReader(all), "bytes": iotest.OneByteReader(strings.NewReader(all)), "halves": iotest.HalfReader(strings.NewReader(all)),
	} {
		got, err := messages(src, 1<<10)
		if d := cmp.Diff(want, got); d != "" || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v: %s", name, err, d)
		}
	}
}

// TestReaderRefuses: what is not exactly a message ends the stream.
func TestReaderRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"250 OK\n":                          ErrMalformed,
		"250-a\r\n250 OK\n":                 ErrMalformed,
		"250+a\r\nx\n.\r\n250 OK\r\n":       ErrMalformed,
		"\r\n":                              ErrMalformed,
		"25\r\n":                            ErrMalformed,
		"2x0 OK\r\n":                        ErrMalformed,
		"250_OK\r\n":                        ErrMalformed,
		"250-a\r\nb\r\n250 OK\r\n":          ErrMalformed,
		"250-a\r\n650 BW 1 1\r\n250 OK\r\n": ErrMalformed,
		"650-a\r\n250 OK\r\n":               ErrMalformed,
		"250 OK":                            io.ErrUnexpectedEOF,
		"250+a\r\nb\r\n":                    io.ErrUnexpectedEOF,
		"250-" + strings.Repeat("x", 100):   ErrTooLong,
		strings.Repeat("250-a\r\n", 20):     ErrTooLong,
		"250+a\r\n" + strings.Repeat("x\r\n", 40): ErrTooLong,
	} {
		if got, err := messages(strings.NewReader(text), 100); !errors.Is(err, want) || len(got) > 0 {
			t.Errorf("%.30q: %q, %v, want %v", text, got, err, want)
		}
	}
}

// TestReaderForgetsLargeBuffers: one long reply does not cost memory for ever.
func TestReaderForgetsLargeBuffers(t *testing.T) {
	long := "250-" + strings.Repeat("x", 1<<20) + "\r\n250 OK\r\n"
	r := NewReader(strings.NewReader(long+"250 OK\r\n"), MaxReply)
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) || cap(r.buf) > keepBuffer {
		t.Errorf("%v, %d bytes kept", err, cap(r.buf))
	}
}

func TestMessage(t *testing.T) {
	m := Message{Raw: []byte("250-a=b\r\n250+c=\r\n..x\r\ny\r\n.\r\n551 no\r\n")}
	var got []Line
	for l := range m.Lines() {
		got = append(got, l)
	}
	want := []Line{
		{Code: "250", Divider: '-', Text: []byte("a=b")},
		{Code: "250", Divider: '+', Text: []byte("c="), Data: []byte("..x\r\ny\r\n")},
		{Code: "551", Divider: ' ', Text: []byte("no")},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if m.OK() || m.Event() || m.Last() != "551 no" || Unstuff(got[1].Data) != ".x\ny\n" {
		t.Errorf("%v %v %q %q", m.OK(), m.Event(), m.Last(), Unstuff(got[1].Data))
	}
	var refused *ReplyError
	if err := m.Err(); !errors.As(err, &refused) || refused.Text != "551 no" {
		t.Errorf("%v", err)
	}
}

// lines reads all of what a controller sends.
func lines(src io.Reader) (out []string, err error) {
	r := NewLineReader(src, nil, 0)
	for {
		l, err := r.Next()
		if err != nil {
			return out, err
		}
		out = append(out, string(l))
	}
}

// TestLineReader: 10240 bytes before the LF are served, one more is not.
func TestLineReader(t *testing.T) {
	full := strings.Repeat("x", MaxLine)
	for _, c := range []struct {
		in   string
		want []string
		err  error
	}{
		{"a\r\nb\n\r\n\nc", []string{"a", "b", "", ""}, io.EOF},
		{"a\rb\r\r\n", []string{"a\rb\r"}, io.EOF},
		{full + "\nb\n", []string{full, "b"}, io.EOF},
		{full[1:] + "\r\nb\n", []string{full[1:], "b"}, io.EOF},
		{full + "\r\n", nil, ErrLineTooLong},
		{"a\n" + full + "x\nb\n", []string{"a"}, ErrLineTooLong},
		{"a\n" + full + "x", []string{"a"}, ErrLineTooLong},
	} {
		for name, src := range map[string]io.Reader{"whole": strings.NewReader(c.in), "halves": iotest.HalfReader(strings.NewReader(c.in))} {
			got, err := lines(src)
			if !cmp.Equal(c.want, got) || !errors.Is(err, c.err) {
				t.Errorf("%.20q (%d bytes), %s: %d lines, %v; want %d, %v", c.in, len(c.in), name, len(got), err, len(c.want), c.err)
			}
		}
	}
}

// TestLineReaderDeadline: a deadline is there exactly while a line is incomplete.
func TestLineReaderDeadline(t *testing.T) {
	var set []bool
	deadline := func(at time.Time) error {
		set = append(set, !at.IsZero())
		return nil
	}
	r := NewLineReader(io.MultiReader(strings.NewReader("a\nb\nc"), strings.NewReader("d\ne"), strings.NewReader("f\n")), deadline, time.Minute)
	for _, want := range []string{"a", "b", "cd", "ef"} {
		if l, err := r.Next(); string(l) != want || err != nil {
			t.Fatalf("%q, %v; want %q", l, err, want)
		}
	}
	if want := []bool{true, false, true, false}; !cmp.Equal(want, set) {
		t.Errorf("deadlines %v, want %v", set, want)
	}
}

func TestSplit(t *testing.T) {
	for line, want := range map[string]*Command{
		"GETINFO version":     {"GETINFO", " ", "version"},
		"GETINFO \t version ": {"GETINFO", " \t ", "version "},
		"QUIT":                {"QUIT", "", ""},
		"a b\tc":              nil,
		" a":                  nil,
		"":                    nil,
		"a\x0bb":              nil,
		"a b\x00":             nil,
		"a b\r":               nil,
		"a \x1b":              nil,
		"\x7f a":              nil,
		"a \xc3\xa4":          nil,
	} {
		got, ok := Split([]byte(line))
		if ok != (want != nil) || ok && got != *want {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
}

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{`a "b" \c`: `"a \"b\" \\c"`, "": `""`} {
		got, err := Quote(text)
		back, rest, ok := Unquote(got + " x")
		if got != want || err != nil || back != text || rest != " x" || !ok {
			t.Errorf("%q: %s, %v; back: %q %q %v", text, got, err, back, rest, ok)
		}
	}
	if _, err := Quote("a\nb"); err == nil {
		t.Error("a line feed was quoted")
	}
	if got, _, ok := Unquote(`"\n\t\r\101\\\x"`); got != "\n\t\rA\\x" || !ok {
		t.Errorf("%q %v", got, ok)
	}
	for _, bad := range []string{`"a`, `"a\`, `a`, `"\777"`, ``} {
		if _, _, ok := Unquote(bad); ok {
			t.Errorf("%s was read", bad)
		}
	}
	want := map[string]string{"METHODS": "A,B", "FILE": `x "y`, "bare": "", "e": ""}
	if d := cmp.Diff(want, Assignments(`METHODS=A,B  FILE="x \"y" bare e=`)); d != "" {
		t.Error(d)
	}
}

// FuzzReader: nothing that comes from Tor's side makes the reader fail in
// another way than by an error, and what it delivers is well formed and what
// was sent.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{"250 OK\r\n", "250+a=\r\n.\r\n250 OK\r\n650 BW 1 1\r\n", "650-a\r\n650 OK\r\n", "250-a\n", "\r\n", "250+a\r\n..\r\n"} {
		f.Add([]byte(seed), 64)
	}
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		r := NewReader(iotest.HalfReader(bytes.NewReader(in)), limit&0xffff)
		at := 0
		for {
			m, err := r.Next()
			if err != nil {
				return
			}
			if !bytes.HasPrefix(in[at:], m.Raw) || !bytes.HasSuffix(m.Raw, []byte("\r\n")) {
				t.Fatalf("%q is not what was sent", m.Raw)
			}
			at += len(m.Raw)
			var again []byte
			for l := range m.Lines() {
				again = append(append(append(again, l.Code...), l.Divider), l.Text...)
				again = append(again, "\r\n"...)
				if l.Divider == '+' {
					again = append(append(again, l.Data...), ".\r\n"...)
				}
			}
			if !bytes.Equal(again, m.Raw) {
				t.Fatalf("%q taken apart is %q", m.Raw, again)
			}
			_, _, _ = m.Code(), m.Err(), ParseEvent(m)
			_, _ = ParseProtocolInfo(m)
		}
	})
}

// FuzzLines: lines are what was sent between line feeds, and what Split lets
// through has no byte that Tor could take for something else.
func FuzzLines(f *testing.F) {
	for _, seed := range []string{"GETINFO version\r\n", "a\tb\n", " a\n", "+LOADCONF\r\nx\r\n.\r\n", "a\x00b\n", "\r\n\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, err1 := lines(bytes.NewReader(in))
		cut, err2 := lines(iotest.OneByteReader(bytes.NewReader(in)))
		if !cmp.Equal(whole, cut) || !errors.Is(err2, err1) {
			t.Fatalf("%q: %q %v, byte by byte %q %v", in, whole, err1, cut, err2)
		}
		for _, l := range whole {
			c, ok := Split([]byte(l))
			if !ok {
				continue
			}
			if c.Name+c.Separator+c.Arguments != l {
				t.Fatalf("%q split is %+v", l, c)
			}
			if strings.Trim(c.Separator, " \t") != "" || !Printable(c.Name) || !Printable(c.Arguments) || strings.ContainsAny(c.Name, " \t") {
				t.Fatalf("%q: %+v", l, c)
			}
		}
	})
}

// FuzzQuote: what is quoted reads back, and what reads is never longer.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{`a "b"`, `"\101"`, `A=B C="d\"" e`, `\`, ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if q, err := Quote(text); err == nil {
			if back, rest, ok := Unquote(q); back != text || rest != "" || !ok {
				t.Fatalf("%q quoted is %s, and back %q", text, q, back)
			}
		}
		if v, rest, ok := Unquote(text); ok && len(v)+len(rest)+2 > len(text) {
			t.Fatalf("%q: %q %q", text, v, rest)
		}
		_ = Assignments(text)
	})
}
