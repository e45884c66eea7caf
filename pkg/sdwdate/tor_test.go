// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/tornet"
)

// troubled are the nine servers of the test through Tor, three in each pool;
// one of each pool is good.
func troubled(release <-chan struct{}) [9]func(asked, net.Conn) {
	good := tellsTime(0)
	return [9]func(asked, net.Conn){
		good,
		func(asked, net.Conn) { <-release }, // never answers
		func(_ asked, c net.Conn) { // a head of 10 MiB
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			_, _ = c.Write(bytes.Repeat([]byte("X: "+strings.Repeat("y", 1000)+"\r\n"), 10<<10))
		},
		good,
		says("HTTP/1.1 200 OK\r\n\r\n"), // no Date
		func(_ asked, c net.Conn) { // a random time, and a way to somewhere else
			readRequest(c)
			year, day := 1970+rand.IntN(200), rand.IntN(365)
			fmt.Fprintf(c, "HTTP/1.1 302 Found\r\nLocation: http://198.51.100.1/\r\nDate: %s\r\n\r\n",
				time.Date(year, 1, 1+day, 12, 0, 0, 0, time.UTC).Format("Mon, 02 Jan 2006 15:04:05 GMT"))
		},
		good,
		tellsTime(-30 * 24 * time.Hour), // slow
		tellsTime(400 * 24 * time.Hour), // fast
	}
}

// TestThroughTor: the real programs find the right time from onion services of a
// private Tor network, most of which are of no use.
func TestThroughTor(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	begin := time.Now()
	c := newChroot(t)
	dir := t.TempDir()
	client := []string{"ControlPort 127.0.0.1:9051"}
	for i := range 9 {
		client = append(client, fmt.Sprintf("HiddenServiceDir %s/service%d", dir, i), fmt.Sprintf("HiddenServicePort 80 127.0.0.1:%d", 8000+i))
	}
	n, err := tornet.Start(ctx, tornet.Options{Dir: dir, Client: client})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	t.Logf("Tor is ready after %v", time.Since(begin))
	release := make(chan struct{})
	defer close(release)
	for i, serve := range troubled(release) {
		l, err := n.Namespace.Listen(0, fmt.Sprintf("127.0.0.1:%d", 8000+i))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					serve(asked{}, conn)
				}()
			}
		}()
		name, err := os.ReadFile(fmt.Sprintf("%s/service%d/hostname", dir, i))
		if err != nil {
			t.Fatal(err)
		}
		c.pools[i/3][i%3] = "http://" + strings.TrimSpace(string(name))
	}
	c.configure(t, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9050}, "MAX_FAILURE_RATIO=3\n")
	cookie, err := os.ReadFile(filepath.Join(dir, "client0", "control_auth_cookie"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.root.Path(controlCookie), cookie, 0o644); err != nil {
		t.Fatal(err)
	}
	// The services' descriptors are not known at once: some rounds may fail.
	for tries := 1; ; tries++ {
		var out bytes.Buffer
		cmd := c.command(ctx, nil, "--dry-run", "--once")
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := n.Namespace.Do(cmd.Start); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Logf("found in round %d, after %v", tries, time.Since(begin))
			if d := difference(t, out.String()); d.Abs() > 3*time.Second {
				t.Errorf("off by %v\n%s", d, out.String())
			}
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("not found in %d rounds:\n%s", tries, tailOf(out.String(), 6000))
		}
	}
}
