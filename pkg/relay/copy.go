// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Copy relays between a and b as an Engine does, by Go's own means: for a
// program with one connection, whose ends need not be sockets. It closes both
// when both have ended. Idle is not looked at.
func (r Relay) Copy(a, b Stream) (Moved, error) {
	var moved Moved
	ended := make(chan error, 2)
	var oneEnded atomic.Bool
	direction := func(to, from Stream, count *int64) {
		err := r.copy(to, from, count, &oneEnded)
		if err == nil && r.Linger > 0 && !oneEnded.Swap(true) {
			err = to.SetReadDeadline(time.Now().Add(r.Linger)) // the other direction's
		}
		if err != nil && !errors.Is(err, net.ErrClosed) {
			Abort(a)
			Abort(b)
		}
		ended <- err
	}
	go direction(b, a, &moved.AToB)
	go direction(a, b, &moved.BToA)
	err := <-ended
	if second := <-ended; err == nil {
		err = second
	}
	a.Close()
	b.Close()
	return moved, err
}

// copy moves bytes until from ends, which it passes on to to.
func (r Relay) copy(to, from Stream, count *int64, oneEnded *atomic.Bool) error {
	const size = 64 << 10
	buffer := make([]byte, size)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
			*count += int64(n)
		}
		silent := errors.Is(err, os.ErrDeadlineExceeded) && oneEnded.Load()
		switch {
		case err == io.EOF || silent:
			return to.CloseWrite()
		case err != nil:
			return err
		case oneEnded.Load():
			if err := from.SetReadDeadline(time.Now().Add(r.Linger)); err != nil {
				return err
			}
		}
	}
}
