// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Server relays what its listeners accept.
type Server struct {
	Relay
	// Engine moves the bytes; several servers can have the same.
	Engine *Engine
	// To is the destination.
	To *Dialer
	// Dial, if there is no To, connects to the destination, anew for each
	// connection. What it returns has keepalive set, as Go's dialler does.
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
	// Log gets what goes wrong, one line each; nothing of it ends the server. What
	// it does not take in time is lost: nobody waits for a log.
	Log func(text string)

	connections atomic.Int64
}

// LimitText is logged when a connection has to wait; systemd-socket-proxyd has
// it so, and refuses.
const LimitText = "Hit connection limit, refusing connection."

// Limits of the server.
const (
	dialLimit   = 30 * time.Second
	pauseOnFull = 100 * time.Millisecond // after an accept that found no descriptor
	linesMax    = 64                     // that the log has not taken yet
)

// Connections is how many there are.
func (s *Server) Connections() int { return int(s.connections.Load()) }

// Serve relays until ctx ends, or nobody has been there for ExitIdle; then
// closes the listeners and waits for the connections that are open, for no
// longer than drain; what is left then is aborted. No connection that was
// accepted is dropped before that.
func (s *Server) Serve(ctx context.Context, drain time.Duration, listeners ...*Listener) {
	w := &serving{Server: s, links: map[*link]struct{}{}, gone: make(chan struct{}), lines: make(chan string, linesMax), drain: drain}
	w.idle.fire, w.late.fire, w.pause.fire = w.stop, w.abort, w.resume
	w.working, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer w.cancel()
	for _, l := range listeners {
		w.inlets = append(w.inlets, &inlet{serving: w, Listener: l})
	}
	w.others.Add(1)
	go func() {
		defer w.others.Done()
		for line := range w.lines {
			s.Log(line)
		}
	}()
	_ = s.Engine.do(w.resume)
	end := context.AfterFunc(ctx, func() { _ = s.Engine.do(w.stop) })
	defer end()
	select {
	case <-w.gone:
	case <-s.Engine.ended:
		for _, l := range listeners {
			l.Close()
		}
	}
	w.cancel()
	w.dials.Wait()
	close(w.lines)
	w.others.Wait()
}

// serving is a server at work; it lives in its engine's loop.
type serving struct {
	*Server
	inlets  []*inlet
	links   map[*link]struct{}
	drain   time.Duration
	paused  bool // accepts nothing until there is room
	failing bool // nothing could be accepted, and that was logged
	full    bool // the limit was reached, and that was logged
	stopped bool
	gone    chan struct{}

	idle  timer // nobody has been there for ExitIdle
	late  timer // the time to drain is over
	pause timer // to accept again

	working       context.Context // of what is dialled
	cancel        context.CancelFunc
	dials, others sync.WaitGroup
	lines         chan string
}

// inlet is a listener of a server.
type inlet struct {
	*serving
	*Listener
}

// log hands a line to the log.
func (w *serving) log(text string) {
	select {
	case w.lines <- text:
	default:
	}
}

// resume accepts, again or at last.
func (w *serving) resume() {
	if w.stopped {
		return
	}
	w.paused = false
	for _, in := range w.inlets {
		if err := w.Engine.watch(in.fd, unix.EPOLLIN, in); err != nil {
			w.cannotAccept(err)
			return
		}
	}
}

// suspend accepts nothing until it is resumed.
func (w *serving) suspend() {
	w.paused = true
	for _, in := range w.inlets {
		w.Engine.unwatch(in.fd)
	}
}

// ready accepts one connection; if there is another one, it is called again.
func (in *inlet) ready(uint32) {
	w := in.serving
	if w.Max > 0 && len(w.links) >= w.Max {
		if !w.full {
			w.log(LimitText)
		}
		w.full = true
		w.suspend()
		return
	}
	fd, client, err := in.accept(w.Allow != nil)
	switch {
	case err == nil:
		w.failing = false
	case errors.Is(err, unix.EAGAIN): // somebody else has accepted it
		return
	default:
		w.cannotAccept(err)
		return
	}
	if w.Allow != nil && !w.Allow(client) {
		w.log(fmt.Sprintf("refused a connection from %v", client))
		unix.Close(fd)
		return
	}
	if w.Once {
		w.close()
	}
	w.begin(fd)
}

// cannotAccept says so once, and waits until that may have changed.
func (w *serving) cannotAccept(err error) {
	if !w.failing {
		w.log(fmt.Sprintf("Failed to accept: %v", err))
	}
	w.failing = true
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		w.Engine.pipes.close() // those that are not in use
	}
	w.suspend()
	w.Engine.set(&w.pause, pauseOnFull)
}

// begin serves a client.
func (w *serving) begin(fd int) {
	l := &link{serving: w, client: fd}
	w.links[l] = struct{}{}
	w.connections.Add(1)
	w.Engine.unset(&w.idle)
	l.begin()
}

// ended forgets a link, which makes room for the next.
func (w *serving) ended(l *link) {
	delete(w.links, l)
	w.connections.Add(-1)
	w.full = w.full && len(w.links) > w.Max/2 // or each that waits would be logged
	switch {
	case w.stopped:
		w.finish()
	case len(w.links) == 0 && w.ExitIdle != 0:
		w.Engine.set(&w.idle, max(w.ExitIdle, 0))
	}
	if w.paused && w.pause.place == 0 {
		w.resume()
	}
}

// close closes the listeners.
func (w *serving) close() {
	w.stopped = true
	w.Engine.unset(&w.pause)
	for _, in := range w.inlets {
		w.Engine.unwatch(in.fd)
		in.Close()
	}
	w.inlets = nil
}

// stop ends in order.
func (w *serving) stop() {
	w.close()
	w.Engine.set(&w.late, w.drain)
	w.finish()
}

// abort ends what is left.
func (w *serving) abort() {
	w.cancel()
	for l := range w.links {
		l.abort(context.Canceled)
	}
}

// finish has Serve return when nothing is left.
func (w *serving) finish() {
	if len(w.links) > 0 {
		return
	}
	w.Engine.unset(&w.idle)
	w.Engine.unset(&w.late)
	select {
	case <-w.gone:
	default:
		close(w.gone)
	}
}
