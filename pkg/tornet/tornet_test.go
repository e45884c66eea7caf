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
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
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
	}
	streams, err := c.Streams(ctx, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, password := range []string{"one", "two", "one"} {
		if streams[i].Password != password || i > 0 && streams[i].Circuit == streams[i-1].Circuit {
			t.Errorf("%+v", streams)
		}
	}
}
