// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// TestEach: requests that share a process share nothing else: each has circuits
// of its own, one that gets no answer holds none of the others up, and a head of
// one does not end in the answer of another.
func TestEach(t *testing.T) {
	const servers = 5
	release := make(chan struct{})
	p := newProxy(t, func(a asked, c net.Conn) {
		readRequest(c)
		switch a.Host {
		case onionName(0):
			<-release
		case onionName(1):
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nDate: \x1b[2Jsoon\r\n\r\n")
		default:
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nDate: "+requestTime+"\r\n\r\n")
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	host, port, _ := net.SplitHostPort(p.Addr().String())
	args := []string{"url-to-unixtime", "--each", "--json", host, port}
	var orders []order
	for i := range servers {
		args = append(args, "http://"+onionName(i))
		orders = append(orders, order{ID: 10 + i})
	}
	got := map[int]outcome{}
	var errOut bytes.Buffer
	heard := newListener(orders, func(o outcome) {
		if got[o.ID] = o; len(got) == servers-1 {
			close(release) // all but the silent one were heard of while it was silent
		}
	})
	env := cli.Env{Args: args, Stdout: heard, Stderr: &errOut, Now: time.Now}
	if code := cli.Run(ctx, env, urlToUnixtimeAt(fsx.Root(t.TempDir()))); code != 0 || errOut.Len() > 0 || len(got) != servers {
		t.Fatalf("exit %d, %s, %+v", code, &errOut, got)
	}
	for id, o := range got {
		a, err := parseAnswer(o.Stdout)
		switch {
		case id == 10 && o.Exit != codeTransport, id == 11 && (o.Exit != codeDateLength || bytes.ContainsRune(o.Stderr, 0x1b)):
			t.Errorf("%d: %+v", id, o)
		case id > 11 && (o.Exit != 0 || err != nil || a.Unixtime != 1805698966):
			t.Errorf("%d: %+v, %v", id, o, err)
		}
	}
	users := map[string]bool{}
	for _, a := range p.seen() {
		users[a.User] = true
	}
	if asked := len(p.seen()); len(users) != asked || asked < servers {
		t.Errorf("%d requests as %d users", asked, len(users))
	}
}
