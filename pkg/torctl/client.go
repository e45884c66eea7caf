// SPDX-License-Identifier: GPL-3.0-or-later

package torctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// eventQueue is how many events may wait for NextEvent.
const eventQueue = 1024

// ErrSlow says that events came faster than they were taken. The connection has
// ended: an event that is missing would be worse.
var ErrSlow = errors.New("events were not taken in time")

// Event is an asynchronous event: its name, the rest of its first line, and the
// further lines of one that has several.
type Event struct {
	Name string
	Text string
	More []string
}

// Client is an authenticated connection for programs that ask Tor something.
type Client struct {
	*Conn
	events chan Event
}

// Open connects and logs in.
func Open(ctx context.Context, a Address, with Credentials) (*Client, error) {
	c := &Client{events: make(chan Event, eventQueue)}
	conn, err := Dial(ctx, a, func(m Message) error {
		select {
		case c.events <- ParseEvent(m):
			return nil
		default:
			return ErrSlow
		}
	})
	if err != nil {
		return nil, err
	}
	c.Conn = conn
	if err := conn.Authenticate(ctx, with); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// ParseEvent reads an event.
func ParseEvent(m Message) Event {
	var e Event
	first := true
	for l := range m.Lines() {
		if first {
			e.Name, e.Text, _ = strings.Cut(string(l.Text), " ")
			first = false
		} else if l.Divider != ' ' || string(l.Text) != "OK" {
			e.More = append(e.More, string(l.Text))
		}
		if l.Divider == '+' {
			e.More = append(e.More, Unstuff(l.Data))
		}
	}
	return e
}

// NextEvent waits for an event that was subscribed to.
func (c *Client) NextEvent(ctx context.Context) (Event, error) {
	select {
	case e := <-c.events:
		return e, nil
	default:
	}
	select {
	case e := <-c.events:
		return e, nil
	case <-ctx.Done():
		return Event{}, ctx.Err()
	case <-c.done:
		return Event{}, c.Err()
	}
}

// command asks, and turns a refusal into an error.
func (c *Client) command(ctx context.Context, words ...string) (Message, error) {
	for _, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\r\n\x00\"") {
			return Message{}, fmt.Errorf("%q is no word of a command", w)
		}
	}
	reply, err := c.Ask(ctx, strings.Join(words, " "))
	if err == nil {
		err = reply.Err()
	}
	return reply, err
}

// GetInfo asks for the value of a key.
func (c *Client) GetInfo(ctx context.Context, key string) (string, error) {
	reply, err := c.command(ctx, "GETINFO", key)
	if err != nil {
		return "", err
	}
	for l := range reply.Lines() {
		name, value, ok := strings.Cut(string(l.Text), "=")
		switch {
		case !ok || name != key:
		case l.Divider == '+':
			return Unstuff(l.Data), nil
		default:
			return value, nil
		}
	}
	return "", fmt.Errorf("%w: no value of %s", ErrMalformed, key)
}

// GetConf asks for the values of an option. An option that is not set has none.
func (c *Client) GetConf(ctx context.Context, option string) ([]string, error) {
	reply, err := c.command(ctx, "GETCONF", option)
	if err != nil {
		return nil, err
	}
	var out []string
	for l := range reply.Lines() {
		name, value, ok := strings.Cut(string(l.Text), "=")
		if !ok || !strings.EqualFold(name, option) {
			continue
		}
		if unquoted, rest, ok := Unquote(value); ok && rest == "" {
			value = unquoted
		}
		out = append(out, value)
	}
	return out, nil
}

// SetConf sets an option.
func (c *Client) SetConf(ctx context.Context, option, value string) error {
	quoted, err := Quote(value)
	if err != nil {
		return err
	}
	if !Printable(option) || strings.ContainsAny(option, " =\"") {
		return fmt.Errorf("%q is no option", option)
	}
	reply, err := c.Ask(ctx, "SETCONF "+option+"="+quoted)
	if err != nil {
		return err
	}
	return reply.Err()
}

// Signal sends a signal, such as NEWNYM.
func (c *Client) Signal(ctx context.Context, name string) error {
	_, err := c.command(ctx, "SIGNAL", name)
	return err
}

// SetEvents subscribes to these events and no others.
func (c *Client) SetEvents(ctx context.Context, names ...string) error {
	_, err := c.command(ctx, append([]string{"SETEVENTS"}, names...)...)
	return err
}
