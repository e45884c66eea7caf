// SPDX-License-Identifier: GPL-3.0-or-later

package socks5

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
)

// Protocol constants of SOCKS 4A.
const (
	version4    = 4
	granted4    = 90
	answerSize4 = 8
)

// Connect4A is Connect by SOCKS 4A, for servers and users that want that one.
// The server resolves the name. The user, which may be empty, takes the place of
// Auth.
func (c *Client) Connect4A(ctx context.Context, user, host string, port uint16) (net.Conn, error) {
	request, err := request4A(user, host, port)
	if err != nil {
		return nil, err
	}
	conn, err := c.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the SOCKS server: %w", err)
	}
	release := bound(ctx, conn)
	err = converse4A(conn, request)
	if late := release(); err == nil {
		err = late
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func request4A(user, host string, port uint16) ([]byte, error) {
	if len(user) > fieldMax || strings.ContainsRune(user, 0) {
		return nil, ErrAuth
	}
	b := binary.BigEndian.AppendUint16([]byte{version4, commandConnect}, port)
	addr, err := netip.ParseAddr(host)
	addr = addr.Unmap()
	if err == nil && addr.Is4() && !addr.IsUnspecified() {
		return append(append(append(b, addr.AsSlice()...), user...), 0), nil
	}
	// What is no IPv4 address goes as a name, behind an address that is none.
	if err == nil && addr.Zone() != "" || err != nil && (host == "" || len(host) > fieldMax || strings.ContainsFunc(host, notInNames)) {
		return nil, &ErrName{host}
	}
	b = append(append(b, 0, 0, 0, 1), user...)
	return append(append(append(b, 0), host...), 0), nil
}

func converse4A(conn io.ReadWriter, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return fmt.Errorf("send the SOCKS request: %w", err)
	}
	var b [answerSize4]byte
	if err := read(conn, b[:]); err != nil {
		return err
	}
	switch {
	case b[0] != 0:
		return malformed("version %d in the answer", b[0])
	case b[1] != granted4:
		return fmt.Errorf("%w (code %d)", ErrNotGranted, b[1])
	}
	return nil
}
