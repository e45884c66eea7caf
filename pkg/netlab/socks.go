// SPDX-License-Identifier: GPL-3.0-or-later

package netlab

import (
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Commands of SOCKS 5: RFC 1928, and Tor's socks-extensions.
const (
	SOCKSConnect    = 0x01
	SOCKSResolvePTR = 0xf1
)

// SOCKSRequest is what was asked of a SOCKS server, and by whom.
type SOCKSRequest struct {
	Command        byte
	User, Password string
	Host           string // name or address
	Port           int
}

// Destination is HOST:PORT.
func (r SOCKSRequest) Destination() string { return fmt.Sprintf("%s:%d", r.Host, r.Port) }

// socksLimit bounds a conversation.
const socksLimit = 60 * time.Second

// ServeSOCKS has an address of the namespace answer like a SOCKS 5 server
// (RFC 1928, RFC 1929) that leads to nobody: answer gets each request and
// writes what the server is to send from its reply on. Connections that only
// ask whether somebody is there are no requests.
func (n *Namespace) ServeSOCKS(address string, answer func(SOCKSRequest, *net.TCPConn)) (io.Closer, error) {
	l, err := n.Listen(0, address)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(socksLimit))
				if r, err := readSOCKS(c); err == nil {
					answer(r, c.(*net.TCPConn))
				}
			}()
		}
	}()
	return l, nil
}

// SOCKSReply is the server's answer without an address; code 0 is success.
func SOCKSReply(code byte) []byte { return []byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0} }

func readSOCKS(c net.Conn) (r SOCKSRequest, err error) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		return b
	}
	write := func(b ...byte) {
		if err == nil {
			_, err = c.Write(b)
		}
	}
	const methodPassword = 2
	if methods := read(int(read(2)[1])); slices.Contains(methods, methodPassword) {
		write(5, methodPassword)
		r.User = string(read(int(read(2)[1])))
		r.Password = string(read(int(read(1)[0])))
		write(1, 0)
	} else {
		write(5, 0)
	}
	head := read(4)
	r.Command = head[1]
	switch head[3] {
	case 1:
		r.Host = net.IP(read(net.IPv4len)).String()
	case 3:
		r.Host = string(read(int(read(1)[0])))
	case 4:
		r.Host = net.IP(read(net.IPv6len)).String()
	}
	port := read(2)
	r.Port = int(port[0])<<8 | int(port[1])
	return r, err
}
