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
	// Idle is how long both directions may be silent; 0 means for ever.
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
	j := &joint{Relay: r}
	if j.Pipes == nil {
		const directions = 2
		j.Pipes = NewPipes(directions)
		defer j.Pipes.close()
	}
	j.seen()
	var moved Moved
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		moved.AToB = j.pump(b, a)
	}()
	moved.BToA = j.pump(a, b)
	wg.Wait()
	a.Close()
	b.Close()
	return moved, j.err
}

// joint is a relay at work.
type joint struct {
	Relay
	last atomic.Int64 // when bytes were last seen, of either direction
	half atomic.Bool  // one direction has ended

	once sync.Once
	err  error
}

func (j *joint) seen() { j.last.Store(time.Now().UnixNano()) }

// limit is how long silence may last now; 0 is for ever.
func (j *joint) limit() time.Duration {
	if j.half.Load() && j.Linger > 0 {
		return j.Linger
	}
	return j.Idle
}

// pump moves bytes from src to dst until src ends.
func (j *joint) pump(dst, src Conn) (moved int64) {
	m, err := newMover(dst, src, j.Pipes, j.seen)
	if err != nil {
		j.abort(dst, src, err)
		return 0
	}
	for {
		j.watch(src)
		n, err := m.move()
		moved += n
		switch {
		case err == nil: // src has ended
			j.seen()
			j.half.Store(true)
			if err := dst.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ENOTCONN) {
				j.abort(dst, src, err)
				return moved
			}
			j.watch(dst) // the other direction reads there, and has less time now
			return moved
		case !errors.Is(err, os.ErrDeadlineExceeded):
			j.abort(dst, src, err)
			return moved
		case j.silent():
			if !j.half.Load() {
				j.abort(dst, src, ErrIdle)
			}
			return moved
		}
	}
}

// watch has a read of src end when the silence has become too long.
func (j *joint) watch(src Conn) {
	if limit := j.limit(); limit > 0 {
		_ = src.SetReadDeadline(time.Unix(0, j.last.Load()).Add(limit)) // fails on a closed connection only
	}
}

func (j *joint) silent() bool {
	limit := j.limit()
	return limit > 0 && time.Since(time.Unix(0, j.last.Load())) >= limit
}

// abort ends both connections at once, and lets both peers know that what they
// got is not everything.
func (j *joint) abort(a, b Conn, err error) {
	j.once.Do(func() {
		j.err = err
		Abort(a)
		Abort(b)
	})
}

// Abort closes a connection; a TCP peer sees a reset, not an end.
func Abort(c net.Conn) {
	if tcp, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // fails on a closed connection only
	}
	c.Close()
}
