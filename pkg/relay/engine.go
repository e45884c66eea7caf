// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"container/heap"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Engine moves the bytes of any number of connections, in one thread. It does
// not use Go's poller: a goroutine for each direction, woken by way of a
// scheduler, costs more than the moving does. All that an engine owns is touched
// by its loop only; others hand it work by do.
type Engine struct {
	epoll, bell int // bell wakes the loop up

	mu     sync.Mutex
	work   []func() // handed over and not done yet
	closed bool
	ended  chan struct{}

	now     time.Time // of this turn of the loop
	watched []watched // by descriptor
	turn    uint32    // how often something was watched
	timers  timers
	waiting []*flow // have had their share, and would have more to move
	joints  map[*joint]struct{}
	buffer  []byte // for what is not worth a pipe; of use within one call only
	pipes   pipes
}

// watched is who hears of a descriptor. The number of a closed one is given to
// the next, for which what is still on its way is not meant.
type watched struct {
	who   watcher
	since uint32
}

// watcher is told what a descriptor has become ready for.
type watcher interface{ ready(events uint32) }

const bufferSize = 16 << 10

// NewEngine starts an engine, which is to be closed.
func NewEngine() (*Engine, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	e := &Engine{epoll: epoll, bell: bell, ended: make(chan struct{}), joints: map[*joint]struct{}{}, buffer: make([]byte, bufferSize)}
	e.now = time.Now()
	if err := e.watch(bell, unix.EPOLLIN|unix.EPOLLET, rung{}); err != nil {
		unix.Close(epoll)
		unix.Close(bell)
		return nil, err
	}
	go e.loop()
	return e, nil
}

// rung is all there is to do about the bell, which has woken the loop up.
type rung struct{}

func (rung) ready(uint32) {}

// Close aborts what is still relayed, and waits for the end of the loop.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.ring()
	<-e.ended
}

// Answers returns when the loop has had a turn: it works.
func (e *Engine) Answers() {
	turn := make(chan struct{})
	if e.do(func() { close(turn) }) {
		<-turn
	}
}

// do has the loop call work; false if it has ended, or is about to.
func (e *Engine) do(work func()) bool {
	e.mu.Lock()
	closed, first := e.closed, len(e.work) == 0
	if !closed {
		e.work = append(e.work, work)
	}
	e.mu.Unlock()
	if first && !closed {
		e.ring()
	}
	return !closed
}

func (e *Engine) ring() {
	_, _ = unix.Write(e.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // at 2^64 rings it fails, and has rung
}

// loop is the engine at work.
func (e *Engine) loop() {
	defer close(e.ended)
	const most = 128
	events := make([]unix.EpollEvent, most)
	for closed := false; !closed; {
		n, err := unix.EpollWait(e.epoll, events, e.patience())
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(fmt.Sprintf("epoll_wait: %v", err)) // a descriptor that is not ours was closed
		}
		e.now = time.Now()
		for _, ev := range events[:max(n, 0)] {
			if w := e.watched[ev.Fd]; w.who != nil && w.since == uint32(ev.Pad) {
				w.who.ready(ev.Events)
			}
		}
		waiting := e.waiting
		e.waiting = nil
		for _, f := range waiting {
			f.queued = false
			f.run()
		}
		closed = e.handed()
		e.expire()
	}
	for j := range e.joints {
		j.abort(unix.ECANCELED)
	}
	e.pipes.close()
	unix.Close(e.epoll)
	unix.Close(e.bell)
}

// handed does what others have handed over, and reports whether that was all.
func (e *Engine) handed() (closed bool) {
	e.mu.Lock()
	work := e.work
	e.work, closed = nil, e.closed
	e.mu.Unlock()
	for _, f := range work {
		f()
	}
	return closed
}

// watch tells a watcher, in the place of another one, what becomes of a
// descriptor, until it is closed or unwatched.
func (e *Engine) watch(fd int, events uint32, who watcher) error {
	for len(e.watched) <= fd {
		e.watched = append(e.watched, watched{})
	}
	operation := unix.EPOLL_CTL_ADD
	if e.watched[fd].who != nil {
		operation = unix.EPOLL_CTL_MOD
	}
	e.turn++
	e.watched[fd] = watched{who, e.turn}
	err := unix.EpollCtl(e.epoll, operation, fd, &unix.EpollEvent{Events: events, Fd: int32(fd), Pad: int32(e.watched[fd].since)})
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// unwatch has nobody told of a descriptor any more.
func (e *Engine) unwatch(fd int) {
	e.watched[fd] = watched{}
	_ = unix.EpollCtl(e.epoll, unix.EPOLL_CTL_DEL, fd, nil) // fails if it was not watched
}

// queue gives a flow another turn, when all others have had theirs.
func (e *Engine) queue(f *flow) {
	if !f.queued {
		f.queued = true
		e.waiting = append(e.waiting, f)
	}
}

// close closes a descriptor, of which nobody hears any more.
func (e *Engine) close(fd int) {
	if fd < len(e.watched) {
		e.watched[fd] = watched{}
	}
	unix.Close(fd)
}

// timer calls fire once, in the loop.
type timer struct {
	fire  func()
	at    time.Time
	place int // in the heap, from 1; 0 is not there
}

// set has a timer fire after some time; it replaces what was set before.
func (e *Engine) set(t *timer, after time.Duration) {
	t.at = e.now.Add(after)
	if t.place == 0 {
		heap.Push(&e.timers, t)
		return
	}
	heap.Fix(&e.timers, t.place-1)
}

// unset has a timer not fire.
func (e *Engine) unset(t *timer) {
	if t.place > 0 {
		heap.Remove(&e.timers, t.place-1)
	}
}

// patience is how long the loop may wait, in milliseconds; -1 is for ever.
func (e *Engine) patience() int {
	switch {
	case len(e.waiting) > 0:
		return 0
	case len(e.timers) == 0:
		return -1
	}
	left := time.Until(e.timers[0].at)
	return int(min(max(left+time.Millisecond-1, 0)/time.Millisecond, math.MaxInt32))
}

// expire fires the timers whose time has come.
func (e *Engine) expire() {
	for len(e.timers) > 0 && !e.timers[0].at.After(e.now) {
		t := e.timers[0]
		e.unset(t)
		t.fire()
	}
}

// timers is a heap of them: the next one is the first.
type timers []*timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i+1, j+1
}

// Push is heap.Interface's.
func (t *timers) Push(x any) {
	one := x.(*timer)
	*t = append(*t, one)
	one.place = len(*t)
}

// Pop is heap.Interface's.
func (t *timers) Pop() any {
	last := len(*t) - 1
	one := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	one.place = 0
	return one
}
