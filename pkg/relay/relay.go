// SPDX-License-Identifier: GPL-3.0-or-later

// Package relay joins two stream connections: bytes go both ways until both
// sides have ended, an end of one direction is passed on and leaves the other
// open, and an abort is passed on as an abort, so that nobody takes half a
// stream for a whole one.
package relay

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a stream of which one direction can be ended: a *net.TCPConn or a
// *net.UnixConn. The kernel moves the bytes between them, by splice(2).
type Conn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// ErrIdle says that nothing was moved for longer than allowed.
var ErrIdle = errors.New("the connection was idle for too long")

// Relay is how to join connections. The zero value has no limit.
type Relay struct {
	// Idle is how long both directions may be silent; 0 means for ever. Bytes
	// that nobody takes are silence too.
	Idle time.Duration
	// Linger is how long the one direction may be silent after the other has
	// ended; 0 means for ever.
	Linger time.Duration
	// Pipes are shared between relays; nil gives each its own.
	Pipes *Pipes
}

// Moved is how many bytes went each way.
type Moved struct{ AToB, BToA int64 }

// Join relays between a and b, and closes both. The error is that of the
// direction that failed first; both sides were aborted then. A direction that
// is silent for longer than Linger has ended without an error. To end a relay
// from outside, close its connections.
func (r Relay) Join(a, b Conn) (Moved, error) {
	j := &joint{Relay: r, a: a, b: b}
	if j.Pipes == nil {
		const directions = 2
		j.Pipes = NewPipes(directions)
		defer j.Pipes.close()
	}
	j.seen()
	j.arm()
	var moved Moved
	there, back := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(there)
		moved.AToB = j.pump(b, a, back)
	}()
	moved.BToA = j.pump(a, b, there)
	close(back)
	<-there
	a.Close()
	b.Close()
	return moved, j.err
}

// joint is a relay at work.
type joint struct {
	Relay
	a, b Conn
	last atomic.Int64 // when bytes were last moved, in either direction
	half atomic.Bool  // one direction has ended

	once sync.Once
	err  error
}

func (j *joint) seen() { j.last.Store(time.Now().UnixNano()) }

// limit is how long silence may last now; 0 is for ever.
func (j *joint) limit() time.Duration {
	if !j.half.Load() || j.Linger <= 0 {
		return j.Idle
	}
	if j.Idle > 0 {
		return min(j.Idle, j.Linger)
	}
	return j.Linger
}

// arm has whatever waits come back when the silence may have become too long.
func (j *joint) arm() {
	if limit := j.limit(); limit > 0 {
		end := time.Unix(0, j.last.Load()).Add(limit)
		_, _ = j.a.SetDeadline(end), j.b.SetDeadline(end) // fail on closed connections only
	}
}

func (j *joint) silent() bool {
	limit := j.limit()
	return limit > 0 && time.Since(time.Unix(0, j.last.Load())) >= limit
}

// pump moves bytes from src to dst until src ends. other is closed when the
// other direction has ended.
func (j *joint) pump(dst, src Conn, other <-chan struct{}) int64 {
	m, err := newMover(dst, src, j.Pipes, j.seen)
	if err != nil {
		j.abort(err)
		return 0
	}
	defer m.close()
	for {
		err := m.move()
		switch {
		case err == nil: // src has ended
			j.end()
			if err := dst.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ENOTCONN) {
				j.abort(err)
			}
			return m.moved
		case errors.Is(err, syscall.EPIPE):
			j.end()
			j.waste(m, src, other)
			return m.moved
		case !errors.Is(err, os.ErrDeadlineExceeded):
			j.abort(err)
			return m.moved
		case !j.silent():
			j.arm()
		case j.half.Load() && m.left == 0:
			return m.moved
		default:
			j.abort(ErrIdle)
			return m.moved
		}
	}
}

// end notes that one direction has ended; the other has less time now.
func (j *joint) end() {
	j.seen()
	j.half.Store(true)
	j.arm()
}

// waste reads what nobody takes any more: a side that has ended its direction
// and closed, which is EPIPE, has a right to have all of it delivered, and its
// peer may not read before it has been rid of an answer. Once all is delivered
// the peer has a moment to end.
func (j *joint) waste(m *mover, src Conn, other <-chan struct{}) {
	const moment = time.Second
	wasted := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Add(1)
	go func() {
		defer waiting.Done()
		select {
		case <-other:
			_ = src.SetReadDeadline(time.Now().Add(moment)) // fails on a closed connection only
		case <-wasted:
		}
	}()
	for {
		n, err := m.take()
		if n > 0 {
			j.seen()
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !isClosed(other) && !j.silent() {
			j.arm()
			continue
		}
		break
	}
	close(wasted)
	waiting.Wait()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// abort ends both connections at once, and lets both peers know that what they
// got is not everything.
func (j *joint) abort(err error) {
	j.once.Do(func() {
		j.err = err
		Abort(j.a)
		Abort(j.b)
	})
}

// Abort closes a connection; a TCP peer sees a reset, not an end.
func Abort(c net.Conn) {
	if tcp, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // fails on a closed connection only
	}
	c.Close()
}
