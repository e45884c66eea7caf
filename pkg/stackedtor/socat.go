// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"net"
	"strconv"

	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/socks5"
)

// relayOnce serves a socat command line until ctx ends, or its one connection.
// Nothing is relayed to what own lists.
func relayOnce(ctx context.Context, engine *relay.Engine, s *relay.Socat, own listening, most int, say func(), log func(string)) error {
	l, err := s.Listener()
	if err != nil {
		return err
	}
	say()
	server := &relay.Server{Relay: relay.Relay{Linger: s.Linger, Idle: s.Idle}, Engine: engine, Max: most, Once: !s.Fork, Log: log}
	if s.Max > 0 && s.Fork {
		server.Max = min(s.Max, most)
	}
	if s.Range.IsValid() {
		server.Allow = s.Allows
	}
	if to := s.Connect; to.Proxy == "" && to.From == "" && to.Timeout == 0 {
		server.To = relay.NewDialer(to.Endpoint)
		server.To.Control = own.control
	}
	server.Dial = func(ctx context.Context) (relay.Conn, error) {
		c, err := connectTo(ctx, s.Connect, own)
		if err != nil {
			return nil, err
		}
		return c.(relay.Conn), nil
	}
	server.Serve(ctx, drainTime, l)
	return nil
}

// connectTo connects to a destination, through its proxy if it has one. All
// addresses of a name are tried, in order.
func connectTo(ctx context.Context, to relay.Destination, own listening) (net.Conn, error) {
	if to.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, to.Timeout)
		defer cancel()
	}
	d := net.Dialer{FallbackDelay: -1, Control: own.control}
	if to.From != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(to.From)}
	}
	dial := func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, to.Network, to.Address) }
	if to.Proxy == "" {
		return dial(ctx)
	}
	host, port, err := behind(to)
	if err != nil {
		return nil, err
	}
	c := &socks5.Client{Dial: dial}
	if to.Proxy == "socks4a" {
		return c.Connect4A(ctx, to.User, host, port)
	}
	return c.Connect(ctx, host, port)
}

func behind(to relay.Destination) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(to.Behind)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return host, uint16(n), err
}
