// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torctl"
	"whonix-networking/pkg/whonix"
)

// Where Tor takes controllers. On a Workstation the ports lead to the Gateway's
// onion-grater.
const (
	controlSocket = "/run/tor/control"
	controlTCP    = "127.0.0.1:" + whonix.ControlPortText
	controlTCP2   = "127.0.0.1:" + whonix.BrowserControlPortText
	controlCookie = "/run/tor/control.authcookie"
	controlLimit  = 10 * time.Second
)

// controlPort is how Tor is asked.
type controlPort struct {
	root      fsx.Root
	addresses []torctl.Address // in the order in which they are tried
}

func hostControl(root fsx.Root) controlPort {
	c := controlPort{root: root}
	if root.Exists(controlSocket) {
		c.addresses = append(c.addresses, torctl.Address{Network: "unix", Address: root.Path(controlSocket)})
	}
	c.addresses = append(c.addresses, torctl.Address{Network: "tcp", Address: controlTCP}, torctl.Address{Network: "tcp", Address: controlTCP2})
	return c
}

// errUnreachable says that nobody answered at any address.
var errUnreachable = errors.New("the Control Port of Tor could not be reached")

// open logs in at the first address that answers.
func (c controlPort) open(ctx context.Context) (*torctl.Client, error) {
	var complaints []string
	for _, a := range c.addresses {
		client, err := torctl.Open(ctx, a, torctl.Credentials{Root: c.root, Cookie: controlCookie})
		if err == nil {
			return client, nil
		}
		complaints = append(complaints, fmt.Sprintf("%s: %v", a.Address, err))
	}
	return nil, fmt.Errorf("%w: %s", errUnreachable, strings.Join(complaints, "; "))
}

// window asks when the consensus is valid, over one connection (D33).
func (c controlPort) window(ctx context.Context) (window, error) {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	client, err := c.open(ctx)
	if err != nil {
		return window{}, err
	}
	defer client.Close()
	return askWindow(ctx, client)
}

func askWindow(ctx context.Context, client *torctl.Client) (window, error) {
	after, err := client.GetInfo(ctx, "consensus/valid-after")
	if err != nil {
		return window{}, err
	}
	until, err := client.GetInfo(ctx, "consensus/valid-until")
	if err != nil {
		return window{}, err
	}
	return parseWindow(after, until)
}

// remembered asks ask until it has had an answer, but no more than tries times.
func remembered(tries int, ask func() (window, error)) func() (window, error) {
	var w window
	err := errUnreachable
	return func() (window, error) {
		if err != nil && tries > 0 {
			tries--
			w, err = ask()
		}
		return w, err
	}
}

// buildCircuit has Tor build a circuit, and reports its number, empty when it
// failed.
func buildCircuit(ctx context.Context, client *torctl.Client) (id string, err error) {
	if err := client.SetEvents(ctx, "CIRC"); err != nil {
		return "", err
	}
	m, err := client.Ask(ctx, "EXTENDCIRCUIT 0")
	if err != nil {
		return "", err
	}
	if err := m.Err(); err != nil {
		return "", err
	}
	fields := strings.Fields(m.Last()) // 250 EXTENDED N
	if len(fields) != 3 {
		return "", torctl.ErrMalformed
	}
	for {
		e, err := client.NextEvent(ctx)
		if err != nil {
			return "", err
		}
		f := strings.Fields(e.Text)
		if e.Name != "CIRC" || len(f) < 2 || f[0] != fields[2] {
			continue
		}
		switch f[1] {
		case "BUILT":
			return f[0], nil
		case "FAILED", "CLOSED":
			return "", nil
		}
	}
}
