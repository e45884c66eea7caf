// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestService: what the service manager is told, and what signals do.
func TestService(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.env = []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=20000"}
	r.start()
	seen := ""
	for !strings.Contains(seen, "STATUS=listening on 10.152.152.10:9051 ") || !strings.Contains(seen, "READY=1") || !strings.Contains(seen, "WATCHDOG=1") {
		buf := make([]byte, 1<<10)
		_ = manager.SetReadDeadline(time.Now().Add(patience))
		n, err := manager.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, seen)
		}
		seen += string(buf[:n]) + "\n"
	}
	r.dial(client11).want("GETINFO address", filtered)
	signal := func(s syscall.Signal, want string) {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		r.log.wait(t, want)
	}
	signal(syscall.SIGUSR1, "status: 1 connections from 1 addresses, 1 lines refused\n    GETINFO: 1\nlast refused:\n    GETINFO address\n")
	signal(syscall.SIGHUP, "reload: 1 filters are in use")
}
