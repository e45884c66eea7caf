// SPDX-License-Identifier: GPL-3.0-or-later

// Package sd speaks the service manager's protocols: readiness and watchdog
// notification as sd_notify(3) defines them.
package sd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"whonix-networking/pkg/cli"
)

// States of sd_notify(3).
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Alive    = "WATCHDOG=1"
)

// Notify sends one state to the service manager. Outside a Type=notify
// service (no NOTIFY_SOCKET) it does nothing.
func Notify(env cli.Env, state string) error {
	addr, ok := env.Lookup("NOTIFY_SOCKET")
	if !ok || addr == "" {
		return nil
	}
	if addr[0] == '@' {
		addr = "\x00" + addr[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}

// Watchdog returns how often Alive must be sent: half of the unit's
// WatchdogSec=, as sd_watchdog_enabled(3) advises; 0 when there is none or it
// is meant for another process.
func Watchdog(env cli.Env) time.Duration {
	if pid, ok := env.Lookup("WATCHDOG_PID"); ok && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	text, _ := env.Lookup("WATCHDOG_USEC")
	usec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || usec <= 0 {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}
