// SPDX-License-Identifier: GPL-3.0-or-later

package tornet

import (
	"context"
	"net"
	"net/http"
	"os/exec"
	"testing"
	"time"
)

// TestCircuits: the network carries requests, by name and by address, and
// streams with different passwords get different circuits.
func TestCircuits(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	begin := time.Now()
	n, err := Start(ctx, Options{Dir: t.TempDir(), Names: map[string]string{"server.example": ServerIP}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	t.Logf("ready after %v", time.Since(begin))
	l, err := n.Namespace.Listen(0, ServerIP+":80")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("here")) })}
	go func() { _ = server.Serve(l.(*net.TCPListener)) }()
	defer server.Close()
	c, err := n.Control()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Command("SETEVENTS STREAM"); err != nil {
		t.Fatal(err)
	}
	circuits := map[string]string{}
	for _, password := range []string{"one", "two", "one"} {
		var out []byte
		err := n.Namespace.Do(func() (err error) {
			cmd := exec.CommandContext(ctx, "curl", "--retry", "3", "--retry-all-errors", "--silent", "--show-error", "--proxy", "socks5h://"+SocksAddress, "--proxy-user", "<torS0X>0:"+password, "http://server.example/")
			out, err = cmd.Output()
			return err
		})
		if err != nil || string(out) != "here" {
			t.Fatalf("%v: %s", err, out)
		}
		// A retry is one stream more, with the same password.
		s := Stream{}
		for s.Password != password {
			streams, err := c.Streams(ctx, 1)
			if err != nil {
				t.Fatal(err)
			}
			s = streams[0]
		}
		circuits[password] = s.Circuit
	}
	if circuits["one"] == circuits["two"] || circuits["one"] == "" {
		t.Errorf("%v", circuits)
	}
}
