// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"errors"
	"sync"
	"time"
)

// What a client may leave unread, and for how long.
const (
	queueMax   = 1 << 20
	writeStall = 30 * time.Second
	writePiece = 64 << 10
)

var errSlow = errors.New("the client does not read its events")

// outbox writes to a client whole replies and events, in the order in which
// they are given (defect 22). As long as the client reads, that is one call to
// the kernel; what the kernel does not take at once is queued, and a goroutine
// that lives only as long as the queue writes it.
type outbox struct {
	c       *socket
	running *sync.WaitGroup
	take    func(bytes int) error // asked before bytes are queued

	mu      sync.Mutex
	queue   []byte
	queued  int // bytes asked for
	pending int // bytes not yet taken by the kernel
	reply   int // bytes of it that are the reply in flight
	flushed chan struct{}
	err     error
}

func newOutbox(c *socket, running *sync.WaitGroup, take func(int) error) *outbox {
	return &outbox{c: c, running: running, take: take}
}

// sendReply writes a reply; it may be as long as replies are.
func (o *outbox) sendReply(text []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reply = len(text)
	return o.send(text)
}

// sendEvent writes an event. A client that leaves too many unread is closed.
func (o *outbox) sendEvent(text []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil && o.pending-o.reply+len(text) > queueMax {
		o.fail(errSlow)
	}
	return o.send(text)
}

func (o *outbox) send(text []byte) error {
	if o.err != nil {
		return o.err
	}
	if o.pending == 0 {
		n, err := o.c.try(text)
		if err != nil {
			o.fail(err)
			return err
		}
		if text = text[n:]; len(text) == 0 {
			return nil
		}
	}
	if err := o.take(len(text)); err != nil {
		o.fail(err)
		return err
	}
	if o.pending == 0 {
		o.flushed = make(chan struct{})
		o.running.Add(1)
		go o.flush()
	}
	o.queued += len(text)
	o.queue = append(o.queue, text...)
	o.pending += len(text)
	return nil
}

// flush writes the queue.
func (o *outbox) flush() {
	defer o.running.Done()
	for {
		o.mu.Lock()
		batch := o.queue
		o.queue = nil
		if len(batch) == 0 || o.err != nil {
			_ = o.take(-o.queued) // giving back cannot fail
			o.queued = 0
			o.pending, o.reply = 0, 0
			_ = o.c.SetWriteDeadline(time.Time{}) // closed: the next write says so
			close(o.flushed)
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		for len(batch) > 0 {
			piece := batch[:min(len(batch), writePiece)]
			_ = o.c.SetWriteDeadline(time.Now().Add(writeStall))
			n, err := o.c.Write(piece)
			o.mu.Lock()
			o.pending -= n
			if err != nil && o.err == nil {
				o.fail(err)
			}
			o.mu.Unlock()
			if err != nil {
				break
			}
			batch = batch[n:]
		}
		o.mu.Lock()
		if done := o.queued - len(o.queue); o.err == nil {
			_ = o.take(-done)
			o.queued -= done
		}
		o.mu.Unlock()
	}
}

// fail closes the client; the first reason counts.
func (o *outbox) fail(err error) {
	if o.err == nil {
		o.err = err
	}
	o.c.Close()
}

// wait waits until the kernel has taken everything.
func (o *outbox) wait() error {
	o.mu.Lock()
	flushed, err := o.flushed, o.err
	busy := o.pending > 0
	if !busy {
		o.reply = 0
	}
	o.mu.Unlock()
	if busy && err == nil {
		<-flushed
		o.mu.Lock()
		err = o.err
		o.mu.Unlock()
	}
	return err
}

// reason is why the client was closed from here, if it was.
func (o *outbox) reason() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
