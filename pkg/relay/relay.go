// SPDX-License-Identifier: GPL-3.0-or-later

// Package relay joins two stream connections: bytes go both ways until both
// sides have ended, an end of one direction is passed on and leaves the other
// open, and an abort is passed on as an abort, so that nobody takes half a
// stream for a whole one.
package relay

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stream is a connection of which one direction can be ended.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// Conn is a stream that is one socket: a *net.TCPConn or a *net.UnixConn.
type Conn interface {
	Stream
	syscall.Conn
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
}

// Moved is how many bytes went each way.
type Moved struct{ AToB, BToA int64 }

// Join relays between a and b, which it takes over and closes, until both have
// ended or ctx has. The error is that of the direction that failed first; both
// sides were aborted then. A direction that is silent for longer than Linger has
// ended without an error.
func (e *Engine) Join(ctx context.Context, r Relay, a, b Conn) (Moved, error) {
	type outcome struct {
		moved Moved
		err   error
	}
	near, err := takeOver(a)
	if err != nil {
		Abort(b)
		return Moved{}, err
	}
	far, err := takeOver(b)
	if err != nil {
		abort(near)
		return Moved{}, err
	}
	ended := make(chan outcome, 1)
	j := newJoint(e, r, near, far, func(m Moved, err error) { ended <- outcome{m, err} })
	if !e.do(j.start) {
		abort(near)
		abort(far)
		return Moved{}, net.ErrClosed
	}
	stop := context.AfterFunc(ctx, func() { _ = e.do(func() { j.abort(context.Cause(ctx)) }) })
	defer stop()
	o := <-ended
	return o.moved, o.err
}

// takeOver has a connection go on under a descriptor that Go's poller does not
// know.
func takeOver(c Conn) (fd int, err error) {
	if fd, err = duplicate(c); err != nil {
		Abort(c)
		return -1, err
	}
	c.Close()
	return fd, nil
}

// Abort closes a connection; a TCP peer sees a reset, not an end.
func Abort(c net.Conn) {
	if tcp, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // fails on a closed connection only
	}
	c.Close()
}

// resets has the close of a TCP socket be a reset.
func resets(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // fails on no socket
}

func abort(fd int) {
	resets(fd)
	unix.Close(fd)
}

// KeepAlive has dead peers noticed, and small messages sent at once.
func KeepAlive(c Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { keepAlive(int(fd)) })
}
