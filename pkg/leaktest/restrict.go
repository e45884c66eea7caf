// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torctl"
)

// Where Tor on the Gateway is controlled.
const (
	controlSocket = "/run/tor/control"
	controlCookie = "/run/tor/control.authcookie"
)

// controlLimit bounds each conversation with Tor.
const controlLimit = 10 * time.Second

// restriction is Tor held to port 443 for the time of a test. It is set in the
// running Tor only: whatever happens, no file has changed (defect 21), and a
// reload or restart of Tor ends it.
type restriction struct {
	root     fsx.Root
	client   *torctl.Client
	previous map[string][]string
}

// restricted are the options and what they are set to.
func restricted() []struct{ option, value string } {
	return []struct{ option, value string }{{"ReachableORAddresses", "*:443"}, {"FascistFirewall", "1"}}
}

// dial opens a conversation with Tor.
func dial(ctx context.Context, root fsx.Root) (*torctl.Client, error) {
	c, err := torctl.Open(ctx, torctl.Address{Network: "unix", Address: root.Path(controlSocket)}, torctl.Credentials{Root: root, Cookie: controlCookie})
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("%s: %w", controlSocket, err), "see whether Tor runs: systemctl status tor@default")
	}
	return c, nil
}

// restrict holds Tor to port 443, or fails.
func restrict(ctx context.Context, root fsx.Root) (_ *restriction, err error) {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	r := &restriction{root: root, previous: map[string][]string{}}
	if r.client, err = dial(ctx, root); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.client.Close()
		}
	}()
	line, left := "SETCONF", true
	for _, o := range restricted() {
		values, err := r.client.GetConf(ctx, o.option)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.option, err)
		}
		r.previous[o.option] = values
		left = left && len(values) == 1 && values[0] == o.value
		line += " " + o.option + `="` + o.value + `"`
	}
	if left { // by a test that was killed
		clear(r.previous)
	}
	return r, command(ctx, r.client, line)
}

// command asks for something that Tor either does or refuses.
func command(ctx context.Context, c *torctl.Client, line string) error {
	reply, err := c.Ask(ctx, line)
	if err == nil {
		err = reply.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}

// whenLost calls lost if Tor ends the conversation: a Tor that is started again
// is not restricted. It does so until the returned function is called.
func (r *restriction) whenLost(lost func()) (stop func()) {
	enough, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-r.client.Done():
			lost()
		case <-enough:
		}
	}()
	return func() {
		close(enough)
		<-done
	}
}

// lift gives Tor its own settings back, by a new conversation if need be.
func (r *restriction) lift() error {
	ctx, cancel := context.WithTimeout(context.Background(), controlLimit)
	defer cancel()
	defer func() { r.client.Close() }()
	if r.client.Err() != nil {
		c, err := dial(ctx, r.root)
		if err != nil {
			return errors.Join(errors.New("tor could not be given its own settings back; a restart of it does that"), err)
		}
		r.client = c
	}
	// One command: RESETCONF takes values too, and without one the default.
	line := "RESETCONF"
	for _, o := range restricted() {
		values := r.previous[o.option]
		if len(values) == 0 {
			line += " " + o.option
		}
		for _, v := range values {
			quoted, err := torctl.Quote(v)
			if err != nil {
				return err
			}
			line += " " + o.option + "=" + quoted
		}
	}
	return command(ctx, r.client, line)
}
