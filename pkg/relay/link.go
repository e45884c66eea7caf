// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// link is a client of a server, from when it was accepted to its end.
type link struct {
	*serving
	client  int
	server  int       // while a connection to it is being made
	began   time.Time // to connect
	limit   timer     // of connecting
	joint   *joint    // once both sides are there
	aborted bool
}

// begin connects to the destination.
func (l *link) begin() {
	if l.To == nil || l.To.known == nil {
		l.dial()
		return
	}
	l.began = l.Engine.now
	l.limit.fire = l.waited
	l.connect()
}

// dial has a name or a proxy asked, which takes its time.
func (l *link) dial() {
	l.dials.Add(1)
	go func() {
		defer l.dials.Done()
		ctx, cancel := context.WithTimeout(l.working, dialLimit)
		defer cancel()
		dial := l.Dial
		if l.To != nil {
			dial = l.To.Dial
		}
		c, err := dial(ctx)
		fd := -1
		if err == nil {
			fd, err = takeOver(c)
		}
		if !l.Engine.do(func() { l.connected(fd, err) }) && err == nil {
			abort(fd)
		}
	}()
}

// connect connects to an address that is known.
func (l *link) connect() {
	fd, err := l.To.connect()
	switch {
	case err == nil:
		l.connected(fd, nil)
	case errors.Is(err, unix.EAGAIN): // the queue of a unix socket is full
		const pause = 10 * time.Millisecond
		l.Engine.set(&l.limit, pause)
	case errors.Is(err, unix.EINPROGRESS):
		l.server = fd
		l.Engine.set(&l.limit, dialLimit)
		if err := l.Engine.watch(fd, unix.EPOLLOUT|unix.EPOLLET, l); err != nil {
			l.decided(err)
		}
	default:
		l.connected(-1, l.To.explain(err))
	}
}

// waited tries again, or gives up.
func (l *link) waited() {
	switch {
	case l.Engine.now.Sub(l.began) >= dialLimit:
		l.decided(os.ErrDeadlineExceeded)
	case l.server == 0:
		l.connect()
	}
}

// ready: the connection is made, or cannot be.
func (l *link) ready(uint32) {
	errno, err := unix.GetsockoptInt(l.server, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = os.NewSyscallError("connect", unix.Errno(errno))
	}
	l.decided(err)
}

func (l *link) decided(err error) {
	fd := l.server
	l.server = 0
	if err == nil {
		l.connected(fd, nil)
		return
	}
	if fd != 0 {
		l.Engine.close(fd)
	}
	l.connected(-1, l.To.explain(err))
}

// connected joins the client with the server, or lets it go.
func (l *link) connected(fd int, err error) {
	l.Engine.unset(&l.limit)
	switch {
	case l.aborted:
		if err == nil {
			abort(fd)
		}
	case err != nil:
		l.log(err.Error())
		unix.Close(l.client)
		l.ended(l)
	default:
		l.joint = newJoint(l.Engine, l.Relay, l.client, fd, func(Moved, error) { l.ended(l) })
		l.joint.start()
	}
}

// abort ends a link at once.
func (l *link) abort(err error) {
	l.aborted = true
	if l.joint != nil {
		l.joint.abort(err)
		return
	}
	l.Engine.unset(&l.limit)
	if l.server != 0 {
		l.Engine.close(l.server)
	}
	abort(l.client)
	l.ended(l)
}
