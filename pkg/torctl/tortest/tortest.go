// SPDX-License-Identifier: GPL-3.0-or-later

// Package tortest is a scripted Tor for tests: a control port that logs
// controllers in, answers lines with what the test has told it, sends events and
// drops connections on demand, and remembers what it received.
package tortest

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
)

// Version is what the scripted Tor says it is.
const Version = "0.4.9.11"

// Tor is a scripted control port. Set its fields before Serve.
type Tor struct {
	Methods  string // as in PROTOCOLINFO; SAFECOOKIE unless set
	Cookie   []byte // 32 bytes
	Password string

	mu       sync.Mutex
	changed  chan struct{} // closed and made anew when something happened
	answers  map[string]string
	received []string
	logins   int
	conns    map[*session]struct{}
	closed   bool
	listener net.Listener
	running  sync.WaitGroup
}

// session is a connection of a controller.
type session struct {
	tor    *Tor
	c      net.Conn
	in     *bufio.Reader
	write  sync.Mutex
	events []string // subscribed
	proof  string   // what the controller must send after AUTHCHALLENGE

	loggedIn, ended bool
}

// Serve takes connections from l until Close.
func (t *Tor) Serve(l net.Listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listener, t.closed = l, false
	if t.conns == nil {
		t.conns, t.changed = map[*session]struct{}{}, make(chan struct{})
	}
	t.running.Add(1)
	go t.accept(l)
}

func (t *Tor) accept(l net.Listener) {
	defer t.running.Done()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s := &session{tor: t, c: c, in: bufio.NewReader(c)}
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			c.Close()
			return
		}
		t.conns[s] = struct{}{}
		t.running.Add(1)
		t.happened()
		t.mu.Unlock()
		go s.serve()
	}
}

// Close closes the port and all connections, and waits for their end. Serve
// may be called again after it, as if Tor was restarted.
func (t *Tor) Close() {
	t.mu.Lock()
	t.closed = true
	t.listener.Close()
	t.mu.Unlock()
	t.Drop()
	t.running.Wait()
}

// Drop closes all connections.
func (t *Tor) Drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.conns {
		s.c.Close()
	}
}

// Answer tells what is sent for a line: the lines of a reply, each ended by CRLF
// here. No lines at all: nothing is sent.
func (t *Tor) Answer(line string, reply ...string) {
	text := ""
	for _, l := range reply {
		text += l + "\r\n"
	}
	t.AnswerRaw(line, text)
}

// AnswerRaw tells the very bytes that are sent for a line.
func (t *Tor) AnswerRaw(line, bytes string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answers == nil {
		t.answers = map[string]string{}
	}
	t.answers[line] = bytes
}

// Emit sends bytes to every controller that has logged in and subscribed to the
// event, and returns how many that were.
func (t *Tor) Emit(event, bytes string) int {
	t.mu.Lock()
	var to []*session
	for s := range t.conns {
		if s.loggedIn && slices.Contains(s.events, event) {
			to = append(to, s)
		}
	}
	t.mu.Unlock()
	for _, s := range to {
		s.send(bytes)
	}
	return len(to)
}

// Received are the lines that came from controllers after their logins.
func (t *Tor) Received() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.received)
}

// Forget empties what was received.
func (t *Tor) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received = nil
}

// Connections is how many controllers are connected.
func (t *Tor) Connections() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// Logins is how many controllers have logged in since the start.
func (t *Tor) Logins() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.logins
}

// Wait waits until the condition, which is asked anew whenever something
// happened, holds.
func (t *Tor) Wait(ctx context.Context, condition func() bool) error {
	for {
		t.mu.Lock()
		changed := t.changed
		t.mu.Unlock()
		if condition() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w; received: %q", ctx.Err(), t.Received())
		}
	}
}

// happened wakes those who wait; mu is held.
func (t *Tor) happened() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (s *session) send(bytes string) {
	s.write.Lock()
	defer s.write.Unlock()
	_, _ = s.c.Write([]byte(bytes)) // a controller may be gone
}

func (s *session) serve() {
	defer s.tor.running.Done()
	defer func() {
		s.c.Close()
		s.tor.mu.Lock()
		delete(s.tor.conns, s)
		s.tor.happened()
		s.tor.mu.Unlock()
	}()
	for !s.ended {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return
		}
		s.line(strings.TrimRight(line, "\r\n"))
	}
}

// line answers one line.
func (s *session) line(line string) {
	t := s.tor
	name, rest, _ := strings.Cut(line, " ")
	if !s.loggedIn {
		s.login(name, rest)
		return
	}
	t.mu.Lock()
	t.received = append(t.received, line)
	reply, scripted := t.answers[line]
	if strings.EqualFold(name, "SETEVENTS") && !scripted {
		s.events = strings.Fields(rest)
	}
	t.happened()
	t.mu.Unlock()
	switch {
	case scripted:
		s.send(reply)
	case line == "GETINFO version":
		s.send("250-version=" + Version + "\r\n250 OK\r\n")
	case strings.EqualFold(name, "SETEVENTS"):
		s.send("250 OK\r\n")
	case strings.EqualFold(name, "QUIT"):
		s.send("250 closing connection\r\n")
		s.ended = true
	default:
		s.send("510 Unrecognized command \"" + name + "\"\r\n")
	}
}

// login answers what may be sent before a login.
func (s *session) login(name, rest string) {
	t := s.tor
	methods := t.Methods
	if methods == "" {
		methods = "COOKIE,SAFECOOKIE"
	}
	switch name {
	case "PROTOCOLINFO":
		s.send("250-PROTOCOLINFO 1\r\n250-AUTH METHODS=" + methods + " COOKIEFILE=\"/elsewhere\\\"s\"\r\n250-VERSION Tor=\"" + Version + "\"\r\n250 OK\r\n")
	case "AUTHCHALLENGE":
		client := strings.TrimPrefix(rest, "SAFECOOKIE ")
		s.proof = t.prove("controller-to-server", client)
		s.send("250 AUTHCHALLENGE SERVERHASH=" + t.prove("server-to-controller", client) + " SERVERNONCE=" + nonce + "\r\n")
	case "AUTHENTICATE":
		if !s.accepts(methods, rest) {
			s.send("515 Authentication failed\r\n")
			s.ended = true
			return
		}
		t.mu.Lock()
		s.loggedIn = true
		t.logins++
		t.happened()
		t.mu.Unlock()
		s.send("250 OK\r\n")
	default:
		s.send("514 Authentication required.\r\n")
		s.ended = true
	}
}

// nonce is the server's; a test needs no better one.
const nonce = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"

// prove is the hash of control-spec's AUTHCHALLENGE, in one direction.
func (t *Tor) prove(direction, client string) string {
	own, _ := hex.DecodeString(nonce)
	theirs, _ := hex.DecodeString(client)
	h := hmac.New(sha256.New, []byte("Tor safe cookie authentication "+direction+" hash"))
	h.Write(slices.Concat(t.Cookie, theirs, own))
	return hex.EncodeToString(h.Sum(nil))
}

func (s *session) accepts(methods, secret string) bool {
	offered := func(m string) bool { return slices.Contains(strings.Split(methods, ","), m) }
	switch {
	case offered("SAFECOOKIE") && secret == s.proof && secret != "":
		return true
	case offered("COOKIE") && secret == hex.EncodeToString(s.tor.Cookie):
		return true
	case offered("HASHEDPASSWORD") && secret == `"`+s.tor.Password+`"`:
		return true
	}
	return offered("NULL")
}
