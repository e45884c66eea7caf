// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"whonix-networking/pkg/torctl"
)

// Tor's control port, and what its members of the group log in with.
const (
	controlSocket = "/run/tor/control"
	controlCookie = "/run/tor/control.authcookie"
)

var errTorOff = errors.New("the Gateway's Tor is switched off")

// connected waits until Tor is connected, which a unit that is active does not
// say (defect 42). Where this account may not ask Tor, its SocksPort is to show.
func (s *updatesService) connected(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := withTor(nil)
	for {
		err := s.askTor(ctx)
		switch {
		case err == nil || errors.Is(err, errTorOff):
			return err
		case errors.Is(err, fs.ErrPermission):
			s.env.Warnf("Tor cannot be asked whether it is connected: %v", errors.Unwrap(err))
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded):
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(s.each):
		}
	}
}

// withTor says for callers what an error of the control port means; the cause
// stays.
func withTor(err error) error { return &torError{err} }

type torError struct{ cause error }

func (*torError) Error() string   { return "the Gateway's Tor does not run" }
func (e *torError) Unwrap() error { return e.cause }

// askTor asks once.
func (s *updatesService) askTor(ctx context.Context) error {
	const limit = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client, err := torctl.Open(ctx, torctl.Address{Network: "unix", Address: s.root.Path(controlSocket)}, torctl.Credentials{Root: s.root, Cookie: controlCookie})
	if err != nil {
		return withTor(err)
	}
	defer client.Close()
	if reply, err := client.Ask(ctx, "GETCONF DisableNetwork"); err == nil && strings.Contains(reply.Last(), " DisableNetwork=1") {
		return errTorOff
	}
	phase, err := client.GetInfo(ctx, "status/bootstrap-phase")
	if err != nil {
		return withTor(err)
	}
	said := torctl.Assignments(phase)
	if said["PROGRESS"] == "100" {
		return nil
	}
	return fmt.Errorf("the Gateway's Tor is not connected yet: %s %%, %s", said["PROGRESS"], said["SUMMARY"])
}
