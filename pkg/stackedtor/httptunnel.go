// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/socks5"
)

// tunnel speaks HTTP CONNECT, as Tor's HTTPTunnelPort does, and asks a SocksPort.
type tunnel struct {
	engine *relay.Engine
	dial   func(context.Context) (relay.Conn, error)
	log    func(text string)
}

// Limits of a request.
const (
	tunnelHeadMax = 8 << 10
	tunnelPatient = 60 * time.Second
)

// serve answers until ctx ends.
func (t *tunnel) serve(ctx context.Context, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	slots := make(chan struct{}, dummyConnections)
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c, err := l.Accept()
		switch {
		case err != nil && (ctx.Err() != nil || errors.Is(err, net.ErrClosed)):
			return
		case err != nil:
			t.log("Failed to accept: " + err.Error())
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			c.Close()
			return
		}
		all.Add(1)
		go func() {
			defer all.Done()
			defer func() { <-slots }()
			t.connection(ctx, c.(relay.Conn))
		}()
	}
}

// connection answers one request.
func (t *tunnel) connection(ctx context.Context, c relay.Conn) {
	stop := context.AfterFunc(ctx, func() { relay.Abort(c) })
	defer stop()
	defer c.Close()
	asking, cancel := context.WithTimeout(ctx, tunnelPatient)
	defer cancel()
	_ = c.SetDeadline(time.Now().Add(tunnelPatient)) // fails on a closed connection only
	host, port, answer := request(c)
	if answer == "" {
		to, err := (&socks5.Client{Dial: func(ctx context.Context) (net.Conn, error) { return t.dial(ctx) }}).Connect(asking, host, port)
		if err == nil {
			_, err = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n")
			_ = c.SetDeadline(time.Time{})
			if err != nil {
				to.Close()
				return
			}
			_ = relay.KeepAlive(c) // fails on a closed connection only
			_, _ = t.engine.Join(ctx, relay.Relay{Linger: halfCloseLinger}, c, to.(relay.Conn))
			return
		}
		answer = "502 Bad Gateway"
		var refused *socks5.Error
		if !errors.As(err, &refused) {
			t.log(err.Error())
		}
	}
	_, _ = io.WriteString(c, "HTTP/1.0 "+answer+"\r\n\r\n") // it may be gone
}

// request reads the head of a request, byte by byte, for what follows it is not
// ours. The answer is empty if it is one for a connection.
func request(from io.Reader) (host string, port uint16, answer string) {
	const bad = "400 Bad Request"
	var head bytes.Buffer
	for one := make([]byte, 1); !bytes.HasSuffix(head.Bytes(), []byte("\r\n\r\n")) && !bytes.HasSuffix(head.Bytes(), []byte("\n\n")); {
		if _, err := io.ReadFull(from, one); err != nil || head.Len() >= tunnelHeadMax {
			return "", 0, bad
		}
		head.WriteByte(one[0])
	}
	line, _, _ := strings.Cut(head.String(), "\n")
	words := strings.Fields(line)
	const parts = 3
	switch {
	case len(words) != parts || !strings.HasPrefix(words[2], "HTTP/1."):
		return "", 0, bad
	case words[0] != "CONNECT":
		return "", 0, "405 Method Not Allowed\r\nAllow: CONNECT"
	}
	host, text, err := net.SplitHostPort(words[1])
	n, err2 := strconv.ParseUint(text, 10, 16)
	if err != nil || err2 != nil || n == 0 || host == "" {
		return "", 0, bad
	}
	return host, uint16(n), ""
}
