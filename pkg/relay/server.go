// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Server relays what its listeners accept.
type Server struct {
	Relay
	// Dial connects to the destination, anew for each connection. What it returns
	// has keepalive set, as Go's dialler does; what is accepted has it too.
	Dial func(context.Context) (Conn, error)
	// Allow, if any, says whether a client may connect.
	Allow func(client net.Addr) bool
	// Max is how many connections are relayed at a time; more wait in the
	// listeners' queues. 0 is no limit.
	Max int
	// Once is to serve one connection only.
	Once bool
	// ExitIdle is how long to stay when the last connection has ended; not
	// before the first. 0 is for ever, less is no time.
	ExitIdle time.Duration
	// Log gets what goes wrong, one line each; nothing of it ends the server.
	Log func(text string)

	mu      sync.Mutex
	open    map[Conn]struct{} // nil when all was aborted
	count   int
	full    bool
	idle    *time.Timer
	slots   chan struct{}
	serving sync.WaitGroup
}

// LimitText is logged when a connection has to wait; systemd-socket-proxyd has
// it so, and refuses.
const LimitText = "Hit connection limit, refusing connection."

// Limits of the server.
const (
	dialLimit   = 30 * time.Second
	idlePipes   = 64
	pauseOnFull = 100 * time.Millisecond // after an accept that found no descriptor
)

// acceptor is a listener that can be told to stop waiting.
type acceptor interface {
	net.Listener
	SetDeadline(time.Time) error
}

// Serve relays until ctx ends, or nobody has been there for ExitIdle; then
// closes the listeners and waits for the connections that are open, for no
// longer than drain; what is left then is aborted. No connection that was
// accepted is dropped before that. The listeners are TCP's or unix's.
func (s *Server) Serve(ctx context.Context, drain time.Duration, listeners ...net.Listener) {
	s.open = map[Conn]struct{}{}
	s.idle = time.NewTimer(time.Hour)
	s.idle.Stop() // not before the first connection
	if s.Pipes == nil {
		s.Pipes = NewPipes(idlePipes)
		defer s.Pipes.close()
	}
	if s.Max > 0 {
		s.slots = make(chan struct{}, s.Max)
	}
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	for s.accepting(ctx, working, listeners) {
	}
	for _, l := range listeners {
		l.Close()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serving.Wait()
	}()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	select {
	case <-done:
		return
	case <-time.After(drain):
	}
	cancel()
	s.abortAll()
	<-done
}

// accepting accepts on all listeners. It is to be called again if somebody has
// come in the moment in which the server was idle for long enough.
func (s *Server) accepting(ctx, working context.Context, listeners []net.Listener) (again bool) {
	round, stop := context.WithCancel(ctx)
	defer stop()
	var loops sync.WaitGroup
	for _, l := range listeners {
		loops.Add(1)
		go func() {
			defer loops.Done()
			s.accept(round, working, l)
		}()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		loops.Wait()
	}()
	select {
	case <-ended:
		return false
	case <-ctx.Done():
	case <-s.idle.C:
	}
	stop()
	setDeadline(listeners, time.Unix(1, 0)) // long ago
	<-ended
	if ctx.Err() != nil || s.Connections() == 0 {
		return false
	}
	setDeadline(listeners, time.Time{})
	return true
}

func setDeadline(listeners []net.Listener, t time.Time) {
	for _, l := range listeners {
		_ = l.(acceptor).SetDeadline(t) // fails on a closed listener only
	}
}

// Connections is how many there are.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *Server) abortAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		Abort(c)
	}
	s.open = nil
}

// accept serves one listener until ctx ends.
func (s *Server) accept(ctx, working context.Context, l net.Listener) {
	failing := false
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			failing = false
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded): // of a round that has ended
			setDeadline([]net.Listener{l}, time.Time{})
			continue
		default:
			s.cannotAccept(ctx, err, failing)
			failing = true
			continue
		}
		if s.Allow != nil && !s.Allow(c.RemoteAddr()) {
			s.Log(fmt.Sprintf("refused a connection from %v", c.RemoteAddr()))
			c.Close()
			continue
		}
		s.begin(ctx, working, c.(Conn))
		if s.Once {
			l.Close()
			return
		}
	}
}

// cannotAccept says so once, and waits until that may have changed.
func (s *Server) cannotAccept(ctx context.Context, err error, known bool) {
	if !known {
		s.Log(fmt.Sprintf("Failed to accept: %v", err))
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		s.Pipes.close() // those that are not in use
	}
	select {
	case <-ctx.Done():
	case <-time.After(pauseOnFull):
	}
}

// begin starts to serve a connection. At the limit it waits for a slot: one
// connection of each listener waits here, the rest in the listener's queue.
func (s *Server) begin(ctx, working context.Context, c Conn) {
	s.counted(1)
	slot := s.acquire(ctx)
	s.serving.Add(1)
	go func() {
		defer s.serving.Done()
		defer s.counted(-1)
		if slot || s.acquire(working) {
			defer s.release()
			s.serve(working, c)
		}
		c.Close()
	}()
}

// acquire waits for a slot.
func (s *Server) acquire(ctx context.Context) bool {
	if s.slots == nil {
		return true
	}
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	s.mu.Lock()
	first := !s.full
	s.full = true
	s.mu.Unlock()
	if first {
		s.Log(LimitText)
	}
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) release() {
	if s.slots != nil {
		<-s.slots
		s.mu.Lock()
		defer s.mu.Unlock()
		s.full = s.full && len(s.slots) > cap(s.slots)/2 // or each that waits would be logged
	}
}

// track keeps a connection where abortAll finds it, or aborts it if that has
// been.
func (s *Server) track(c Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		Abort(c)
		return
	}
	s.open[c] = struct{}{}
}

func (s *Server) forget(c Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

func (s *Server) counted(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count += by
	if s.ExitIdle != 0 {
		s.idle.Stop()
		if s.count == 0 {
			s.idle.Reset(max(s.ExitIdle, 0))
		}
	}
}

// serve relays one connection.
func (s *Server) serve(ctx context.Context, c Conn) {
	s.track(c)
	defer s.forget(c)
	dialing, cancel := context.WithTimeout(ctx, dialLimit)
	to, err := s.Dial(dialing)
	cancel()
	if err != nil {
		s.Log(err.Error())
		return
	}
	s.track(to)
	defer s.forget(to)
	_, _ = s.Relay.Join(c, to)
}

// KeepAlive has dead peers noticed, and small messages sent at once.
func KeepAlive(c Conn) {
	const interval = 60 * time.Second
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: interval, Interval: interval}) // fails on a closed connection only
		_ = tcp.SetNoDelay(true)
	}
}
