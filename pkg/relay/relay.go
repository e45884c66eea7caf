// SPDX-License-Identifier: GPL-3.0-or-later

// Package relay joins two stream connections: bytes go both ways until both
// sides have ended, an end of one direction is passed on and leaves the other
// open, and an abort is passed on as an abort, so that nobody takes half a
// stream for a whole one.
package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a stream of which one direction can be ended. A *net.TCPConn and a
// *net.UnixConn are; between those the kernel moves the bytes, by splice(2).
type Conn interface {
	net.Conn
	CloseWrite() error
}

// ErrIdle says that nothing was moved for longer than Relay.Idle.
var ErrIdle = errors.New("the connection was idle for too long")

// Relay is how to join connections. The zero value has no limit.
type Relay struct {
	// Idle is how long both directions may be silent; 0 means for ever. The end
	// comes no earlier, and up to half as long later.
	Idle time.Duration
}

// Moved is how many bytes went each way.
type Moved struct{ AToB, BToA int64 }

// Join relays between a and b, and closes both. The error is that of the
// direction that failed first; both sides were aborted then. To end a relay
// from outside, close its connections.
func (r Relay) Join(a, b Conn) (Moved, error) {
	j := &joint{idle: r.Idle}
	j.last.Store(time.Now().UnixNano())
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
	idle time.Duration
	last atomic.Int64 // when bytes were last seen, of either direction

	once sync.Once
	err  error
}

// pump moves bytes from src to dst until src ends.
func (j *joint) pump(dst, src Conn) (moved int64) {
	for {
		n, err := j.window(dst, src)
		moved += n
		switch {
		case err == nil: // src has ended
			if err := dst.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
				j.abort(dst, src, err)
			}
			return moved
		case !errors.Is(err, os.ErrDeadlineExceeded):
			j.abort(dst, src, err)
			return moved
		case n > 0:
			j.last.Store(time.Now().UnixNano())
		case time.Since(time.Unix(0, j.last.Load())) >= j.idle:
			j.abort(dst, src, ErrIdle)
			return moved
		}
	}
}

// window moves bytes until src ends, or for half of the idle time: the kernel
// does not tell when it moved some, so it is asked again and again.
func (j *joint) window(dst, src Conn) (int64, error) {
	if j.idle > 0 {
		if err := src.SetReadDeadline(time.Now().Add(j.idle / 2)); err != nil {
			return 0, err
		}
	}
	return io.Copy(dst, src)
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
