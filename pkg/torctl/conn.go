// SPDX-License-Identifier: GPL-3.0-or-later

package torctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// ErrUnsolicited says that Tor replied to nothing.
var ErrUnsolicited = errors.New("a reply without a command")

// ErrClosed says that the connection was closed on this side.
var ErrClosed = errors.New("connection closed")

// Address is where Tor listens for controllers: network tcp or unix.
type Address struct {
	Network string
	Address string
}

// String is the address as messages show it.
func (a Address) String() string { return a.Address }

// Dial connects. The event function, if any, gets every event; see NewConn.
func Dial(ctx context.Context, a Address, event func(Message) error) (*Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, a.Network, a.Address)
	if err != nil {
		return nil, err
	}
	return NewConn(c, event), nil
}

// Conn is a connection to Tor's control port. One command is in flight at a
// time; others wait. It may be used by several goroutines.
type Conn struct {
	c     net.Conn
	event func(Message) error
	turn  chan struct{} // held by the command in flight
	timed bool          // a deadline for writing is set; whose turn it is may change it
	done  chan struct{} // closed when the reading goroutine has ended

	mu      sync.Mutex
	pending *call
	err     error // why the connection has ended
}

// call is a command in flight.
type call struct {
	deliver func(Message)
	done    chan struct{}
}

// NewConn takes over c. All messages are delivered by one goroutine, in the order
// in which Tor sent them: events to event, replies to the function given to Do.
// So what is written within these functions keeps Tor's order. A message is valid
// during the call only, and neither function may call the Conn. An error of event
// ends the connection, and the goroutine ends with it.
func NewConn(c net.Conn, event func(Message) error) *Conn { return NewBoundedConn(c, event, nil) }

// NewBoundedConn is NewConn with a bound on memory: take is asked as in
// [Reader.Take], by the goroutine that delivers.
func NewBoundedConn(c net.Conn, event func(Message) error, take func(bytes int) error) *Conn {
	conn := &Conn{c: c, event: event, turn: make(chan struct{}, 1), done: make(chan struct{})}
	r := NewReader(c, MaxReply)
	r.Take(take)
	go conn.read(r)
	return conn
}

func (c *Conn) read(r *Reader) {
	defer close(c.done)
	defer r.Release()
	for {
		m, err := r.Next()
		if err != nil {
			c.fail(err)
			return
		}
		if m.Event() {
			if c.event == nil {
				continue
			}
			if err := c.event(m); err != nil {
				c.fail(err)
				return
			}
			continue
		}
		c.mu.Lock()
		p := c.pending
		c.pending = nil
		c.mu.Unlock()
		if p == nil {
			c.fail(fmt.Errorf("%w: %.60q", ErrUnsolicited, m.Last()))
			return
		}
		p.deliver(m)
		close(p.done)
	}
}

// fail ends the connection; the first reason counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.c.Close()
}

// Close ends the connection and waits until nothing more is delivered. It must
// not be called by the functions that get messages.
func (c *Conn) Close() {
	c.fail(ErrClosed)
	<-c.done
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the connection has ended, nil while it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Do sends one command, a line without its end, and waits until deliver has
// taken the reply. When ctx ends before that the connection is closed: a reply
// that comes late would be taken for that of another command.
func (c *Conn) Do(ctx context.Context, line string, deliver func(Message)) error {
	if strings.ContainsAny(line, "\r\n\x00") || strings.HasPrefix(line, "+") {
		return fmt.Errorf("%.60q is not one command", line)
	}
	return c.exchange(ctx, line+"\r\n", deliver)
}

// DoData sends a command with a data block, such as LOADCONF, and waits for the
// reply. line is without the plus sign.
func (c *Conn) DoData(ctx context.Context, line, data string, deliver func(Message)) error {
	if strings.ContainsAny(line, "\r\n\x00") || strings.ContainsRune(data, 0) {
		return fmt.Errorf("%.60q is not one command", line)
	}
	var out strings.Builder
	out.WriteString("+" + line + "\r\n")
	for l := range strings.Lines(data) {
		if strings.HasPrefix(l, ".") {
			out.WriteByte('.')
		}
		out.WriteString(strings.TrimRight(l, "\r\n") + "\r\n")
	}
	out.WriteString(".\r\n")
	return c.exchange(ctx, out.String(), deliver)
}

func (c *Conn) exchange(ctx context.Context, bytes string, deliver func(Message)) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return c.Err()
	}
	p := &call{deliver: deliver, done: make(chan struct{})}
	c.mu.Lock()
	err := c.err
	if err == nil {
		c.pending = p
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok || c.timed {
		c.timed = ok
		_ = c.c.SetWriteDeadline(deadline) // closed: the write says so
	}
	if _, err := c.c.Write([]byte(bytes)); err != nil {
		c.fail(err)
		<-c.done // nothing is delivered after the return
		return c.Err()
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		c.fail(ctx.Err())
		<-c.done
	case <-c.done:
	}
	select {
	case <-p.done: // it came in the last moment
		return nil
	default:
		return c.Err()
	}
}

// Ask sends one command and returns the reply.
func (c *Conn) Ask(ctx context.Context, line string) (Message, error) {
	var reply Message
	err := c.Do(ctx, line, func(m Message) { reply = m.Clone() })
	return reply, err
}

// AskWithin is Ask with a limit of time.
func (c *Conn) AskWithin(ctx context.Context, limit time.Duration, line string) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.Ask(ctx, line)
}
