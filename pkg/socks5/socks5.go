// SPDX-License-Identifier: GPL-3.0-or-later

// Package socks5 is a client of Tor's SocksPort: SOCKS 5 (RFC 1928) with
// username and password (RFC 1929), which tell Tor what to keep on circuits of
// its own, and Tor's additions: RESOLVE, RESOLVE_PTR and the extended errors
// (socks-extensions of the Tor specifications).
package socks5

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// Protocol constants: RFC 1928 and RFC 1929, and Tor's socks-extensions.
const (
	version5    = 5
	authVersion = 1

	methodNone     = 0x00
	methodPassword = 0x02

	commandConnect    = 0x01
	commandResolve    = 0xf0
	commandResolvePTR = 0xf1

	typeIPv4 = 0x01
	typeName = 0x03
	typeIPv6 = 0x04

	fieldMax = 255 // of what has one byte for its length
)

// Auth is a username and its password, each of 1 to 255 bytes.
type Auth struct{ User, Password string }

// isolationUser says to Tor that the password alone tells streams apart; Tor
// keeps users that begin with `<torS0X>` for such uses.
const isolationUser = "<torS0X>0"

// Isolation is the Auth with which Tor gives streams of the same password the
// same circuits, and streams of other passwords others.
func Isolation(password string) *Auth { return &Auth{isolationUser, password} }

// Client speaks to one SOCKS server. It may be used at once by many.
type Client struct {
	// Dial connects to the server. It must honour the context.
	Dial func(context.Context) (net.Conn, error)
	// Auth is offered to the server, which must take it; nil offers none.
	Auth *Auth
}

// To is a Client of the server at address, which must be numeric: no name
// leaves this machine unresolved by Tor.
func To(address netip.AddrPort, auth *Auth) *Client {
	return &Client{Auth: auth, Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address.String())
	}}
}

// Connect returns a connection to host, a name or an address in text form. It
// is what Dial gave, with nothing read of it beyond the server's answer. The
// context bounds the handshake only.
func (c *Client) Connect(ctx context.Context, host string, port uint16) (net.Conn, error) {
	conn, _, err := c.request(ctx, commandConnect, host, port)
	return conn, err
}

// Resolve asks Tor for an address of name.
func (c *Client) Resolve(ctx context.Context, name string) (netip.Addr, error) {
	conn, answer, err := c.request(ctx, commandResolve, name, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	conn.Close()
	if !answer.Addr.IsValid() {
		return netip.Addr{}, malformed("answer to RESOLVE is no address")
	}
	return answer.Addr, nil
}

// ResolvePTR asks Tor for the name of an address.
func (c *Client) ResolvePTR(ctx context.Context, addr netip.Addr) (string, error) {
	conn, answer, err := c.request(ctx, commandResolvePTR, addr.Unmap().WithZone("").String(), 0)
	if err != nil {
		return "", err
	}
	conn.Close()
	if answer.Name == "" {
		return "", malformed("answer to RESOLVE_PTR is no name")
	}
	return answer.Name, nil
}

// request opens a connection and sends one command. On error nothing is open.
func (c *Client) request(ctx context.Context, command byte, host string, port uint16) (_ net.Conn, _ address, err error) {
	var none address
	target, err := appendAddress(nil, host, port)
	if err != nil {
		return nil, none, err
	}
	if err := c.Auth.check(); err != nil {
		return nil, none, err
	}
	conn, err := c.Dial(ctx)
	if err != nil {
		return nil, none, fmt.Errorf("reach the SOCKS server: %w", err)
	}
	release := bound(ctx, conn)
	answer, err := c.converse(conn, append([]byte{version5, command, 0}, target...))
	if late := release(); err == nil {
		err = late
	}
	if err != nil {
		conn.Close()
		return nil, none, err
	}
	return conn, answer, nil
}

// bound makes the end of the context end every read and write of conn. The
// function it returns takes that away again, and reports whether it came.
func bound(ctx context.Context, conn net.Conn) (release func() error) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // fails on a closed connection only
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = conn.SetDeadline(time.Unix(1, 0)) // long ago
	})
	return func() error {
		if !stop() {
			<-done
			return ctx.Err()
		}
		_ = conn.SetDeadline(time.Time{}) // fails on a closed connection only
		return nil
	}
}

// converse is the dialogue from the greeting to the answer.
func (c *Client) converse(conn io.ReadWriter, request []byte) (address, error) {
	method := byte(methodNone)
	if c.Auth != nil {
		method = methodPassword
	}
	if _, err := conn.Write([]byte{version5, 1, method}); err != nil {
		return address{}, fmt.Errorf("greet the SOCKS server: %w", err)
	}
	if err := readChoice(conn, method); err != nil {
		return address{}, err
	}
	if c.Auth != nil {
		if _, err := conn.Write(c.Auth.message()); err != nil {
			return address{}, fmt.Errorf("authenticate to the SOCKS server: %w", err)
		}
		if err := readAuthStatus(conn); err != nil {
			return address{}, err
		}
	}
	if _, err := conn.Write(request); err != nil {
		return address{}, fmt.Errorf("send the SOCKS request: %w", err)
	}
	return readReply(conn)
}

// ErrAuth says that username or password cannot be sent.
var ErrAuth = errors.New("username and password of SOCKS must have 1 to 255 bytes")

func (a *Auth) check() error {
	if a != nil && (len(a.User) == 0 || len(a.User) > fieldMax || len(a.Password) == 0 || len(a.Password) > fieldMax) {
		return ErrAuth
	}
	return nil
}

func (a *Auth) message() []byte {
	b := append([]byte{authVersion, byte(len(a.User))}, a.User...)
	return append(append(b, byte(len(a.Password))), a.Password...)
}
