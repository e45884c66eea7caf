// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// joint is a relay at work: two sides, and a flow from each to the other.
type joint struct {
	Relay
	engine *Engine
	sides  [2]side
	flows  [2]flow
	last   time.Time // when bytes were last moved, in either direction
	limit  timer     // fires when the silence may have become too long
	closed bool
	done   func(Moved, error)
}

// side is a socket, and what is known of it.
type side struct {
	joint    *joint
	fd       int
	readable bool // until a call would block
	writable bool
	watched  uint32 // what is told of it
}

func newJoint(e *Engine, r Relay, a, b int, done func(Moved, error)) *joint {
	j := &joint{Relay: r, engine: e, done: done}
	j.limit.fire = j.silent
	for i, fd := range [...]int{a, b} {
		j.sides[i] = side{joint: j, fd: fd, readable: true, writable: true}
	}
	for i := range j.flows {
		j.flows[i] = flow{joint: j, src: &j.sides[i], dst: &j.sides[1-i], back: &j.flows[1-i]}
	}
	return j
}

// start begins to relay. What is there already is moved before anything is
// watched, which saves being told of it.
func (j *joint) start() {
	j.engine.joints[j] = struct{}{}
	j.seen()
	j.arm()
	j.run()
	for i := range j.sides {
		j.sides[i].watch(unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET)
	}
}

func (j *joint) run() {
	for i := range j.flows {
		j.flows[i].run()
	}
}

// watch has a side told of more. Each event is told once when it begins, not for
// as long as it lasts.
func (s *side) watch(more uint32) {
	if s.joint.closed || s.watched|more == s.watched {
		return
	}
	s.watched |= more
	if err := s.joint.engine.watch(s.fd, s.watched, s); err != nil {
		s.joint.abort(err)
	}
}

// ready is what the kernel tells. An error is a reason to read, and to write:
// the call will say which one it is.
func (s *side) ready(events uint32) {
	const all = unix.EPOLLERR | unix.EPOLLHUP
	s.readable = s.readable || events&(unix.EPOLLIN|unix.EPOLLRDHUP|all) != 0
	s.writable = s.writable || events&(unix.EPOLLOUT|all) != 0
	s.joint.run()
}

// full notes that a side takes nothing now. Not before it has been is it of
// interest when a side takes something: most take everything.
func (s *side) full() {
	s.writable = false
	s.watch(unix.EPOLLOUT)
}

func (j *joint) seen() { j.last = j.engine.now }

// half reports that one direction has ended.
func (j *joint) half() bool { return j.flows[0].state != flowing || j.flows[1].state != flowing }

// patience is how long silence may last now; 0 is for ever. Where one side reads
// no more and the other has said all, what it still sends is waited for as long
// as it takes to notice that.
func (j *joint) patience() time.Duration {
	const moment = time.Second
	switch {
	case j.flows[0].last() || j.flows[1].last():
		return moment
	case !j.half() || j.Linger <= 0:
		return j.Idle
	case j.Idle > 0:
		return min(j.Idle, j.Linger)
	}
	return j.Linger
}

// arm has silent called when the silence may have become too long.
func (j *joint) arm() {
	if limit := j.patience(); limit > 0 {
		j.engine.set(&j.limit, j.last.Add(limit).Sub(j.engine.now))
	}
}

// silent ends a joint that has been silent for too long.
func (j *joint) silent() {
	switch {
	case j.engine.now.Sub(j.last) < j.patience():
		j.arm()
	case j.half() && j.flows[0].left == 0 && j.flows[1].left == 0:
		j.close(nil)
	default:
		j.abort(ErrIdle)
	}
}

// ended notes that a flow is over, or goes nowhere; the other one has less time
// now.
func (j *joint) ended() {
	if j.flows[0].state == over && j.flows[1].state == over {
		j.close(nil)
		return
	}
	j.seen()
	j.arm()
}

// abort ends both connections at once, and lets both peers know that what they
// got is not everything.
func (j *joint) abort(err error) {
	if !j.closed {
		resets(j.sides[0].fd)
		resets(j.sides[1].fd)
		j.close(err)
	}
}

// close closes both connections.
func (j *joint) close(err error) {
	j.closed = true
	for i := range j.flows {
		j.flows[i].close()
		j.engine.close(j.sides[i].fd)
	}
	j.engine.unset(&j.limit)
	delete(j.engine.joints, j)
	j.done(Moved{j.flows[0].moved, j.flows[1].moved}, err)
}

// failed is an error of a system call.
func failed(call string, err error) error { return fmt.Errorf("%s: %w", call, err) }
