// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"whonix-networking/pkg/torctl"
)

// How Tor is waited for.
const (
	replyTime     = 60 * time.Second
	loginTime     = 10 * time.Second
	retryAtOnce   = 3
	retryAfter    = time.Second
	complainEvery = time.Minute
	presenceEvery = 500 * time.Millisecond
)

// Why a session ends on Tor's side.
var (
	errGone     = errors.New("client quit")
	errServices = errors.New("tor has gone, and with it the onion services of this connection")
	errTwice    = errors.New("tor failed twice at the same command")
	errResume   = errors.New("tor refused the events after it came back")
)

// link is a session's own connection to Tor, made anew when it is lost: Tor ties
// onion services and subscriptions to a connection, so none is shared.
type link struct {
	open   func(context.Context) (*torctl.Conn, string, error) // connects, logs in, tells Tor's version
	events func() []string                                     // to subscribe to after a loss
	lost   func() error                                        // asked after a loss: an error ends the session
	end    func(error)                                         // ends the session
	here   func() bool                                         // whether the client is
	say    func(text string)

	mu      sync.Mutex
	conn    *torctl.Conn
	version string
	changed chan struct{} // closed and made anew when conn is set
}

// run keeps the connection until ctx ends.
func (l *link) run(ctx context.Context) {
	for again := false; ; again = true {
		conn, version := l.connect(ctx, again)
		if conn == nil {
			return
		}
		l.mu.Lock()
		l.conn, l.version = conn, version
		close(l.changed)
		l.changed = make(chan struct{})
		l.mu.Unlock()
		if again {
			l.say("successfully recovered a tor connection!")
		}
		select {
		case <-conn.Done():
		case <-ctx.Done():
		}
		conn.Close()
		if ctx.Err() != nil {
			return
		}
		if err := l.lost(); err != nil {
			l.end(err)
			return
		}
		l.say("lost connection to tor, reconnecting...")
	}
}

// connect tries until Tor is there, or the client is not.
func (l *link) connect(ctx context.Context, again bool) (*torctl.Conn, string) {
	var told time.Time
	for try := 1; ; try++ {
		conn, version, err := l.open(ctx)
		if err == nil && again {
			err = l.resume(ctx, conn)
			if errors.Is(err, errResume) {
				conn.Close()
				l.end(err)
				return nil, ""
			}
		}
		if err == nil {
			return conn, version
		}
		if conn != nil {
			conn.Close()
		}
		if now := time.Now(); ctx.Err() == nil && try >= retryAtOnce && now.Sub(told) >= complainEvery {
			l.say("tor is not ready: " + escaped(err.Error()))
			told = now
		}
		if try < retryAtOnce {
			continue
		}
		select {
		case <-ctx.Done():
			return nil, ""
		case <-time.After(retryAfter):
		}
	}
}

// resume subscribes to what the client had subscribed to.
func (l *link) resume(ctx context.Context, conn *torctl.Conn) error {
	events := l.events()
	if len(events) == 0 {
		return nil
	}
	reply, err := conn.AskWithin(ctx, loginTime, "SETEVENTS "+strings.Join(events, " "))
	if err == nil && !reply.OK() {
		return errResume
	}
	return err
}

// wait returns the connection once there is one. It ends when the client has
// left meanwhile: nobody else would notice, as nothing is read from it now.
func (l *link) wait(ctx context.Context) (*torctl.Conn, string, error) {
	var tick *time.Ticker
	for {
		l.mu.Lock()
		conn, version, changed := l.conn, l.version, l.changed
		l.mu.Unlock()
		if conn != nil && conn.Err() == nil {
			return conn, version, nil
		}
		if tick == nil {
			tick = time.NewTicker(presenceEvery)
			defer tick.Stop()
		}
		select {
		case <-changed:
		case <-tick.C:
			if !l.here() {
				return nil, "", errGone
			}
		case <-ctx.Done():
			return nil, "", ctx.Err()
		}
	}
}

// do sends a command and has its reply delivered. If Tor is lost meanwhile, it
// is sent once more.
func (l *link) do(ctx context.Context, line string, deliver func(torctl.Message)) error {
	for range 2 {
		conn, _, err := l.wait(ctx)
		if err != nil {
			return err
		}
		limit := time.AfterFunc(replyTime, conn.Close) // cheaper than a context
		err = conn.Do(ctx, line, deliver)
		limit.Stop()
		if err == nil || ctx.Err() != nil {
			return err
		}
		conn.Close()
	}
	return errTwice
}
