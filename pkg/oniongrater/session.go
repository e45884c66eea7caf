// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/torctl"
)

const (
	filteredReply = "510 Command filtered\r\n"
	okReply       = "250 OK\r\n"
	quitReply     = "250 closing connection\r\n"

	partialLine = 60 * time.Second
	dataMax     = 64 << 10  // of a data block that is swallowed
	outgoingMax = 100 << 10 // of a line to Tor
)

// Why a session ends on the client's side.
var (
	errQuit    = errors.New("client quit")
	errHTTP    = errors.New("this is HTTP, not the control protocol")
	errData    = errors.New("the data block is too long")
	errPartial = errors.New("a line was not completed in time")
)

// session is one client's connection. One goroutine reads its lines and waits
// for the replies; replies and events are written by the one that reads from Tor,
// so that they keep Tor's order.
type session struct {
	p       *proxy
	c       *net.TCPConn
	prompt  *socket  // the same
	holding *holding // of memory
	out     *outbox
	from    netip.Addr
	lines   *torctl.LineReader
	link    *link
	filter  *Filter
	values  Values
	remote  bool // not on this machine
	desc    string
	ctx     context.Context
	cancel  context.CancelFunc

	refusals limiter // of the goroutine that reads lines

	mu       sync.Mutex
	why      error                // the reason why it ended, when that is known
	wanted   []string             // events that Tor was asked for
	rules    map[string]EventRule // of subscribed and unsuppressed events
	services map[string]struct{}  // onion services that end with the connection to Tor
	streams  ownStreams           // of the goroutine that reads from Tor
}

// run serves the client until it, Tor or the proxy ends the connection.
func (s *session) run() error {
	var running sync.WaitGroup
	running.Add(1)
	go func() {
		defer running.Done()
		s.link.run(s.ctx)
	}()
	err := s.serve()
	if err == nil || errors.Is(err, errQuit) {
		_ = s.out.wait()
		s.part()
	}
	s.cancel()
	s.c.Close()
	running.Wait()
	return s.reason(err)
}

// part ends the connection so that the last reply arrives: the kernel would
// abort it if something were unread.
func (s *session) part() {
	_ = s.c.CloseWrite() // it may be gone
	raw, err := s.c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		buf := make([]byte, 4<<10)
		for range 16 {
			if n, err := unix.Read(int(fd), buf); n <= 0 || err != nil {
				break
			}
		}
		return true
	})
}

// end ends the session from another goroutine.
func (s *session) end(err error) {
	s.mu.Lock()
	if s.why == nil {
		s.why = err
	}
	s.mu.Unlock()
	s.cancel()
	s.c.Close()
}

// reason is the first cause of the end: what another goroutine said, what went
// wrong in writing, or what the reading ended with.
func (s *session) reason(err error) error {
	slow := s.out.reason() // not under s.mu: the outbox may end the session under its own lock
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.why != nil:
		return s.why
	case slow != nil:
		return slow
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errPartial
	case err == nil, errors.Is(err, io.EOF):
		return errQuit
	}
	return err
}

// serve handles line after line; the next one is taken when the reply to the
// last was written.
func (s *session) serve() error {
	for first := true; ; first = false {
		line, err := s.lines.Next()
		if err != nil {
			return err
		}
		if first && httpRequest(line) {
			return errHTTP
		}
		if err := s.line(line); err != nil {
			return err
		}
		if err := s.out.wait(); err != nil {
			return err
		}
	}
}

// httpRequest recognises the first line that a web page has a browser send to
// whatever port it likes (defect 26).
func httpRequest(line []byte) bool {
	method, rest, _ := strings.Cut(string(line), " ")
	target, version, ok := strings.Cut(rest, " ")
	return ok && method != "" && target != "" && strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && strings.HasPrefix(version, "HTTP/")
}

// line handles one line.
func (s *session) line(line []byte) error {
	if torctl.Blank(line) {
		s.say("ignoring received empty (or whitespace-only) line")
		return nil
	}
	if line[0] == '+' {
		text := string(line)
		if err := s.swallow(); err != nil {
			return err
		}
		return s.refuse(text, torctl.Command{})
	}
	c, ok := torctl.Split(line)
	if !ok {
		return s.bad(string(line))
	}
	name := upperASCII(c.Name)
	if s.p.requests() {
		s.say2("-> ", loggable(string(line)))
	}
	if name == "QUIT" {
		s.answer(quitReply)
		return errQuit
	}
	d, allowed := s.filter.Match(name, c.Arguments, s.values)
	builtin := s.builtin(name)
	if builtin == nil && allowed && d.Reply != nil {
		return s.local(d.Reply)
	}
	if _, _, err := s.link.wait(s.ctx); err != nil {
		return err
	}
	if builtin != nil {
		return builtin(c)
	}
	return s.forward(c, name, d, allowed)
}

// builtin is what handles a command that no rule is asked about.
func (s *session) builtin(name string) func(torctl.Command) error {
	switch name {
	case "PROTOCOLINFO":
		return s.protocolInfo
	case "AUTHENTICATE", "TAKEOWNERSHIP", "RESETCONF":
		return func(torctl.Command) error { return s.answer(okReply) }
	case "SETEVENTS":
		return s.setEvents
	}
	return nil
}

// protocolInfo tells that no login is needed.
func (s *session) protocolInfo(torctl.Command) error {
	_, version, err := s.link.wait(s.ctx)
	if err != nil {
		return err
	}
	return s.answer("250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor=\"" + version + "\"\r\n" + okReply)
}

// swallow takes the data block that an opened line announces (defect 9).
func (s *session) swallow() error {
	for total := 0; ; {
		line, err := s.lines.Next()
		if err != nil {
			return err
		}
		if string(line) == "." {
			return nil
		}
		if total += len(line) + 1; total > dataMax {
			return errData
		}
	}
}

// answer writes a reply of our own.
func (s *session) answer(text string) error {
	s.logReply(text)
	return s.out.sendReply([]byte(text))
}

// local answers by a rule's own words, without Tor.
func (s *session) local(lines []string) error {
	if len(lines) == 0 {
		return s.answer(okReply)
	}
	return s.answer(strings.Join(lines, "\r\n") + "\r\n")
}

// bad refuses a line that is not one command.
func (s *session) bad(line string) error {
	if ok, missed := s.refusals.allow(time.Now()); ok {
		s.missed(missed)
		s.say("received bad line (escapes made explicit): '" + loggable(line) + "'")
	}
	s.p.counters.refused("", redact(line))
	return s.answer(filteredReply)
}

// refuse refuses a command, and tells which rule would allow it.
func (s *session) refuse(line string, c torctl.Command) error {
	if ok, missed := s.refusals.allow(time.Now()); ok {
		s.missed(missed)
		s.say("command filtered: " + loggable(line))
		if hint := suggest(c, s.values); hint != "" {
			s.say("a profile allows it with: " + hint)
		}
	}
	s.p.refused(s, line, c)
	return s.answer(filteredReply)
}

// warn tells of something that refuses a line, as often as refusals are told.
func (s *session) warn(text string) {
	if ok, missed := s.refusals.allow(time.Now()); ok {
		s.missed(missed)
		s.say(text)
	}
}

func (s *session) missed(count int) {
	if count > 0 {
		s.say(fmt.Sprintf("%d more records of refused lines were left out", count))
	}
}

// say logs about this client.
func (s *session) say(text string) { s.say2(": ", text) }

func (s *session) say2(separator, text string) {
	if separator != ": " {
		separator = ": " + separator
	}
	s.p.log.print(s.desc + separator + text)
}

// logReply logs what is sent to the client, in debug mode.
func (s *session) logReply(text string) {
	if !s.p.o.debug {
		return
	}
	text = strings.TrimRight(text, "\r\n")
	if strings.Contains(text, "\n") {
		s.say2("<- ", "(multi-line)\n"+block(text))
		return
	}
	s.say2("<- ", loggable(text))
}

// logRewrite logs a change.
func (s *session) logRewrite(kind, old, changed string) {
	if old == changed || kind == "command" && !s.p.o.debug || !s.p.requests() {
		return
	}
	s.say("rewrote " + kind + ":\n" + block(old) + "\nto:\n" + block(changed))
}

// present tells whether the client still has its side open.
func (s *session) present() bool {
	raw, err := s.c.SyscallConn()
	if err != nil {
		return false
	}
	here := false
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		here = err == nil && info.State == unix.BPF_TCP_ESTABLISHED
	})
	return err == nil && here
}

// peer is an address as it is compared: without zone, and one of IPv4 as such.
func peer(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// addressText is an address as it is put before a colon.
func addressText(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}
