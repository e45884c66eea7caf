// SPDX-License-Identifier: GPL-3.0-or-later

package sd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
)

func TestNotify(t *testing.T) {
	for name, addr := range map[string]string{"path": filepath.Join(t.TempDir(), "s"), "abstract": fmt.Sprintf("@whonix-test-%d", os.Getpid())} {
		t.Run(name, func(t *testing.T) {
			bind := addr
			if addr[0] == '@' {
				bind = "\x00" + addr[1:]
			}
			l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: bind, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := Notify(cli.Env{Environ: []string{"NOTIFY_SOCKET=" + addr}}, Ready); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 32)
			n, err := l.Read(buf)
			if err != nil || string(buf[:n]) != "READY=1" {
				t.Errorf("%q, %v", buf[:n], err)
			}
		})
	}
	if err := Notify(cli.Env{}, Ready); err != nil {
		t.Errorf("no manager: %v", err)
	}
	if err := Notify(cli.Env{Environ: []string{"NOTIFY_SOCKET=/nothing/here"}}, Ready); err == nil {
		t.Error("a manager that is not there")
	}
}

func TestWatchdog(t *testing.T) {
	own := fmt.Sprint(os.Getpid())
	for _, c := range []struct {
		environ []string
		want    time.Duration
	}{
		{nil, 0}, {[]string{"WATCHDOG_USEC=60000000"}, 30 * time.Second}, {[]string{"WATCHDOG_USEC=x"}, 0}, {[]string{"WATCHDOG_USEC=-5"}, 0},
		{[]string{"WATCHDOG_USEC=2000000", "WATCHDOG_PID=" + own}, time.Second}, {[]string{"WATCHDOG_USEC=2000000", "WATCHDOG_PID=1"}, 0},
	} {
		if got := Watchdog(cli.Env{Environ: c.environ}); got != c.want {
			t.Errorf("%v: %v, want %v", c.environ, got, c.want)
		}
	}
}
