// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/torrc"
)

// phase is how far a Tor has got.
type phase struct {
	progress int
	tag      string
	summary  string
}

const (
	bootstrapPause = time.Second
	controlPatient = 10 * time.Second
	socksPatient   = 2 * time.Second
)

// bootstrap tells how far the Gateway's Tor is, until it is ready: what its
// control port says, and where that may not be asked, whether its SocksPort can
// be reached.
func (d *dummy) bootstrap(ctx context.Context) {
	control, socks := d.dialer(controlPort), d.dialer(socksPort)
	last := phase{0, "starting", "Starting"}
	for d.told(last); ctx.Err() == nil; {
		is, err := ask(ctx, control)
		if err != nil {
			is = phase{5, "conn", "Connecting to a relay"}
			if reachable(ctx, socks) {
				is = phase{100, "done", "Done"}
			}
		}
		if ctx.Err() != nil {
			return
		}
		if is != last {
			d.told(is)
			last = is
		}
		if is.progress >= 100 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(bootstrapPause):
		}
	}
}

func (d *dummy) told(p phase) {
	d.log.say(torrc.Notice, "Bootstrapped %d%% (%s): %s", p.progress, p.tag, p.summary)
}

// ask asks the filter before the Gateway's control port, which takes everybody.
func ask(ctx context.Context, dial func(context.Context) (relay.Conn, error)) (phase, error) {
	ctx, cancel := context.WithTimeout(ctx, controlPatient)
	defer cancel()
	c, err := dial(ctx)
	if err != nil {
		return phase{}, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	const answerMax = 4 << 10
	r := bufio.NewReader(io.LimitReader(c, answerMax))
	for _, command := range []string{"AUTHENTICATE", "GETINFO status/bootstrap-phase"} {
		// One that does not answer is none.
		if err := c.SetDeadline(time.Now().Add(socksPatient)); err != nil {
			return phase{}, err
		}
		if _, err := io.WriteString(c, command+"\r\n"); err != nil {
			return phase{}, err
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return phase{}, err
		}
		if p, ok := parsePhase(line); ok {
			return p, nil
		}
		if !strings.HasPrefix(line, "250 ") {
			return phase{}, fmt.Errorf("%s: %q", command, line)
		}
	}
	return phase{}, errors.New("no phase")
}

// parsePhase reads the answer to GETINFO status/bootstrap-phase; see the control
// protocol, 4.1.10.
func parsePhase(line string) (phase, bool) {
	text, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "250-status/bootstrap-phase=")
	if !ok {
		return phase{}, false
	}
	p := phase{progress: -1}
	for text != "" {
		var word string
		word, text, _ = strings.Cut(text, " ")
		key, value, _ := strings.Cut(word, "=")
		if strings.HasPrefix(value, `"`) {
			quoted := strings.TrimPrefix(value+" "+text, `"`)
			value, text, _ = strings.Cut(quoted, `"`)
			text = strings.TrimLeft(text, " ")
		}
		switch key {
		case "PROGRESS":
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 || n > 100 {
				return phase{}, false
			}
			p.progress = n
		case "TAG":
			p.tag = printable(value)
		case "SUMMARY":
			p.summary = printable(value)
		}
	}
	return p, p.progress >= 0 && p.tag != ""
}

// printable is a short text without what a terminal would act on.
func printable(text string) string {
	const longest = 100
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), longest)]
}

// reachable reports a SocksPort that takes connections and does not end them at
// once, as a redirection does behind which there is nobody.
func reachable(ctx context.Context, dial func(context.Context) (relay.Conn, error)) bool {
	ctx, cancel := context.WithTimeout(ctx, controlPatient)
	defer cancel()
	c, err := dial(ctx)
	if err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(socksPatient)) // fails on a closed connection only
	const hello = "\x05\x01\x00"                    // RFC 1928: version, one method, none
	if _, err := io.WriteString(c, hello); err != nil {
		return false
	}
	_, err = c.Read(make([]byte, len(hello)))
	var timeout net.Error
	return err == nil || errors.As(err, &timeout) && timeout.Timeout()
}
