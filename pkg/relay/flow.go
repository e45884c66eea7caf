// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"bytes"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// flow is one direction of a joint. Small messages go through the engine's
// buffer. Where there is more than it holds, a pipe takes the bytes: splice(2)
// moves them without their being copied.
type flow struct {
	joint    *joint
	src, dst *side
	back     *flow // in the other direction
	state    state
	moved    int64

	left   int    // bytes that dst has not taken yet: those in the pipe, or the last of the rest
	held   pipe   // if piped
	rest   []byte // if not
	piped  bool
	bulk   bool // there is much to move, by a pipe
	plain  bool // splice cannot be had
	queued bool // for its next turn
}

// state is how far a flow is.
type state uint8

const (
	flowing state = iota
	wasting       // dst takes no more, what src sends is dropped
	over
)

// little is what is copied more quickly than spliced.
const little = 4 << 10

// portions is how much a flow may move before others have their turn.
const portions = 16

// run moves bytes until there are none, or nobody takes them.
func (f *flow) run() {
	for portion := 0; f.state != over; portion++ {
		switch {
		case f.state == wasting && !f.src.readable:
			return
		case f.state == flowing && (!f.dst.writable || f.left == 0 && !f.src.readable):
			return
		case portion == portions:
			f.joint.engine.queue(f)
			return
		case f.left > 0:
			f.drain()
		case f.bulk && f.state == flowing:
			f.fill()
		default:
			f.take()
		}
	}
}

// fill takes bytes into a pipe.
func (f *flow) fill() {
	p, ok := f.joint.engine.pipes.get()
	if !ok {
		f.take()
		return
	}
	n, errno := splice(f.src.fd, p.w, pipeSize)
	if n > 0 {
		f.held, f.piped, f.left = p, true, n
		f.bulk = n >= little
		return
	}
	f.joint.engine.pipes.put(p)
	switch errno {
	case unix.EINVAL, unix.ENOSYS, unix.EPERM:
		f.plain, f.bulk = true, false
	default:
		f.nothing("splice", errno)
	}
}

// take takes bytes into the engine's buffer, and out of it at once: what is not
// taken from there has to be kept.
func (f *flow) take() {
	buffer := f.joint.engine.buffer
	n, errno := read(f.src.fd, buffer)
	switch {
	case n == 0:
		f.nothing("read", errno)
	case f.last():
	case f.state == wasting:
		f.joint.seen()
	default:
		f.rest, f.left = buffer[:n], n
		f.bulk = n == len(buffer) && !f.plain
		f.drain()
		f.keep()
	}
}

// keep copies what is left in the engine's buffer.
func (f *flow) keep() {
	if f.left > 0 {
		f.rest = bytes.Clone(f.rest[len(f.rest)-f.left:])
		return
	}
	f.rest = nil
}

// nothing is why no bytes came: the end, an error, or that there are none yet.
func (f *flow) nothing(call string, errno syscall.Errno) {
	switch {
	case errno == unix.EAGAIN:
		f.src.readable = false
	case f.state == wasting:
		f.state = over
		f.joint.ended()
	case errno == 0:
		f.end()
	default:
		f.joint.abort(failed(call, errno))
	}
}

// end passes the end of src on.
func (f *flow) end() {
	f.state = over
	if f.back.state != over { // or dst is closed now
		if err := unix.Shutdown(f.dst.fd, unix.SHUT_WR); err != nil && !errors.Is(err, unix.ENOTCONN) {
			f.joint.abort(failed("shutdown", err))
			return
		}
	}
	f.joint.ended()
}

// drain gives dst what is left.
func (f *flow) drain() {
	var n int
	var errno syscall.Errno
	if f.piped {
		n, errno = splice(f.held.r, f.dst.fd, f.left)
	} else {
		n, errno = write(f.dst.fd, f.rest[len(f.rest)-f.left:])
	}
	switch errno {
	case 0:
		f.left -= n
		f.moved += int64(n)
		f.joint.seen()
		if f.left == 0 {
			f.emptied()
		}
	case unix.EAGAIN:
		f.dst.full()
	case unix.EPIPE:
		f.waste()
	default:
		f.joint.abort(failed("write", errno))
	}
}

// emptied gives back what held the bytes.
func (f *flow) emptied() {
	f.rest = nil
	if f.piped {
		f.joint.engine.pipes.put(f.held)
		f.piped = false
	}
}

// waste drops what nobody takes any more, and all that follows: a side that has
// ended its direction and closed, which is EPIPE, has a right to have all of it
// delivered, and its peer may not read before it has been rid of an answer.
func (f *flow) waste() {
	f.drop()
	f.state = wasting
	f.joint.ended()
}

// drop gives up what is held.
func (f *flow) drop() {
	if f.piped {
		f.held.close() // it is not empty
		f.piped = false
	}
	f.rest, f.left = nil, 0
}

func (f *flow) close() {
	f.drop()
	f.state = over
}

// last reports that what it wastes is all that there still is.
func (f *flow) last() bool { return f.state == wasting && f.back.state == over }
