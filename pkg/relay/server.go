// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Server relays what its listeners accept.
type Server struct {
	Relay
	// Dial connects to the destination, anew for each connection.
	Dial func(context.Context) (Conn, error)
	// Max is how many connections are relayed at a time; more wait in the
	// listeners' queues. 0 is no limit.
	Max int
	// Log gets what goes wrong, one line each; nothing of it ends the server.
	Log func(text string)
	// Changed, if any, is told how many connections there are whenever that
	// changes. It must not call the server.
	Changed func(count int)

	mu    sync.Mutex
	open  map[Conn]struct{}
	count int
	full  bool
	slots chan struct{}
	wg    sync.WaitGroup
}

// Limits of the server.
const (
	dialLimit   = 30 * time.Second
	idlePipes   = 64
	pauseOnFull = 100 * time.Millisecond // after an accept that found no descriptor
)

// Serve relays until ctx ends, then closes the listeners and waits for the
// connections that are open, for no longer than drain; what is left then is
// aborted.
func (s *Server) Serve(ctx context.Context, drain time.Duration, listeners ...net.Listener) {
	s.open = map[Conn]struct{}{}
	if s.Pipes == nil {
		s.Pipes = NewPipes(idlePipes)
		defer s.Pipes.close()
	}
	if s.Max > 0 {
		s.slots = make(chan struct{}, s.Max)
	}
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var accepting sync.WaitGroup
	for _, l := range listeners {
		accepting.Add(1)
		go func() {
			defer accepting.Done()
			s.accept(ctx, working, l)
		}()
	}
	<-ctx.Done()
	for _, l := range listeners {
		l.Close()
	}
	accepting.Wait()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.wg.Wait()
	}()
	select {
	case <-done:
		return
	case <-time.After(drain):
	}
	cancel()
	s.abortAll()
	<-done
}

func (s *Server) abortAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		Abort(c)
	}
}

// accept serves one listener until ctx ends.
func (s *Server) accept(ctx, working context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.Log(fmt.Sprintf("Failed to accept: %v", err))
			select {
			case <-ctx.Done():
			case <-time.After(pauseOnFull):
			}
			continue
		}
		// At the limit one connection of each listener waits here, the rest in the
		// listener's queue.
		if !s.acquire(ctx) {
			c.Close()
			return
		}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			defer s.release()
			s.serve(working, c.(Conn))
		}()
	}
}

// acquire waits for a slot.
func (s *Server) acquire(ctx context.Context) bool {
	if s.slots == nil {
		return ctx.Err() == nil
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
		s.Log("Hit connection limit, refusing connection.")
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
		s.full = false
		s.mu.Unlock()
	}
}

// track keeps a connection where abortAll finds it.
func (s *Server) track(c Conn, here int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if here > 0 {
		s.open[c] = struct{}{}
	} else {
		delete(s.open, c)
	}
}

func (s *Server) counted(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count += by
	if s.Changed != nil {
		s.Changed(s.count) // in the order of the changes
	}
}

// serve relays one connection.
func (s *Server) serve(ctx context.Context, c Conn) {
	s.counted(1)
	defer s.counted(-1)
	defer c.Close()
	s.track(c, 1)
	defer s.track(c, -1)
	dialing, cancel := context.WithTimeout(ctx, dialLimit)
	to, err := s.Dial(dialing)
	cancel()
	if err != nil {
		s.Log(err.Error())
		return
	}
	s.track(to, 1)
	defer s.track(to, -1)
	KeepAlive(c)
	KeepAlive(to)
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
