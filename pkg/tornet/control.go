// SPDX-License-Identifier: GPL-3.0-or-later

package tornet

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Control is a connection to the client's control port; see control-spec.
type Control struct {
	conn net.Conn
	in   *bufio.Reader
}

// Control connects to the client's control port.
func (n *Network) Control() (*Control, error) {
	var c Control
	err := n.Namespace.Do(func() (err error) {
		c.conn, err = net.Dial("tcp", ControlAddress)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.in = bufio.NewReader(c.conn)
	cookie, err := os.ReadFile(n.cookie)
	if err == nil {
		err = c.Command("AUTHENTICATE " + hex.EncodeToString(cookie))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &c, nil
}

// Close ends the connection.
func (c *Control) Close() { c.conn.Close() }

// answerLimit bounds the wait for an answer.
const answerLimit = 30 * time.Second

// Command sends a command and expects 250 OK.
func (c *Control) Command(text string) error {
	_ = c.conn.SetDeadline(time.Now().Add(answerLimit))
	if _, err := c.conn.Write([]byte(text + "\r\n")); err != nil {
		return err
	}
	for {
		line, err := c.in.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "650"): // an event between
		case strings.HasPrefix(line, "250 "):
			return nil
		case !strings.HasPrefix(line, "250"):
			return fmt.Errorf("%s: %s", text, line)
		}
	}
}

// Event waits for the next event and returns it without its code.
func (c *Control) Event(ctx context.Context) (string, error) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.conn.SetDeadline(deadline)
	}
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return "", err
		}
		if text, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "650 "); ok {
			return text, nil
		}
	}
}

func (c *Control) bootstrapped(ctx context.Context) error {
	if err := c.Command("SETEVENTS STATUS_CLIENT"); err != nil {
		return err
	}
	_ = c.conn.SetDeadline(time.Now().Add(answerLimit))
	if _, err := c.conn.Write([]byte("GETINFO status/bootstrap-phase\r\n")); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	_ = c.conn.SetDeadline(deadline)
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the client did not get ready: %w", err)
		}
		if strings.Contains(line, "TAG=done") {
			return nil
		}
	}
}

// Stream is what a STREAM event says of a stream that was attached.
type Stream struct {
	Circuit, Target    string
	Username, Password string
}

// Streams returns the next count streams that an exit has connected.
func (c *Control) Streams(ctx context.Context, count int) ([]Stream, error) {
	var out []Stream
	for len(out) < count {
		text, err := c.Event(ctx)
		if err != nil {
			return out, fmt.Errorf("after %d of %d streams: %w", len(out), count, err)
		}
		f := strings.Fields(text)
		if len(f) < 5 || f[0] != "STREAM" || f[2] != "SUCCEEDED" || strings.Contains(f[4], ".exit:") {
			continue // the last are the client's own, to directories
		}
		s := Stream{Circuit: f[3], Target: f[4]}
		for _, kv := range f[5:] {
			name, value, _ := strings.Cut(kv, "=")
			switch name {
			case "SOCKS_USERNAME":
				s.Username = strings.Trim(value, `"`)
			case "SOCKS_PASSWORD":
				s.Password = strings.Trim(value, `"`)
			}
		}
		out = append(out, s)
	}
	return out, nil
}
