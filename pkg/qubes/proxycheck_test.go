// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/whonix"
)

// template is a machine with a stale marker of an earlier start.
func template(t *testing.T) *machine {
	m := newMachine(t, whonix.WorkstationMarker)
	m.write(whonix.TemplateMarker, "")
	m.write(secureProxy, "")
	return m
}

func (m *machine) check(ctx context.Context, server string) error {
	c := &proxyCheck{root: m.root, env: m.env(), account: checkUser, server: server, each: time.Millisecond, request: time.Minute}
	return c.run(ctx)
}

func serve(t *testing.T, status int, page string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(page))
	}))
	t.Cleanup(s.Close)
	return s.URL + "/"
}

func code(err error) int {
	var x *cli.Exit
	if errors.As(err, &x) {
		return x.Code
	}
	if err != nil {
		return -1
	}
	return 0
}

// TestAcceptance24_Verdicts: what the page says decides, whatever its status;
// an old verdict is gone (defect 38).
func TestAcceptance24_Verdicts(t *testing.T) {
	ctx := context.Background()
	t.Setenv("http_proxy", "http://127.0.0.1:1/")
	m := template(t)
	if err := m.check(ctx, serve(t, http.StatusBadGateway, "<html>"+proxyMeta)); err != nil || !m.root.Exists(secureProxy) || !m.root.Exists(checkDone) {
		t.Errorf("behind Tor: %v, %v, %v", err, m.root.Exists(secureProxy), m.root.Exists(checkDone))
	}
	if m.stdout.String() != "test: INFO: Success.\n" {
		t.Errorf("said %q", m.stdout.String())
	}
	for name, page := range map[string]string{"clearnet": "<html>tinyproxy</html>", "empty": "", "behind the limit": strings.Repeat(" ", pageMax) + proxyMeta} {
		m := template(t)
		if err := m.check(ctx, serve(t, http.StatusOK, page)); code(err) != 1 || m.root.Exists(secureProxy) || !m.root.Exists(checkDone) {
			t.Errorf("%s: %v, %v, %v", name, err, m.root.Exists(secureProxy), m.root.Exists(checkDone))
		}
		if said := m.stderr.String(); !strings.Contains(said, "ERROR: PROXY_SERVER reachable but does not contain PROXY_META.") || len(said) > 3*pageShown {
			t.Errorf("%s: said %q", name, said)
		}
	}
}

// TestAcceptance24_NobodyListens: it asks until it is told to end.
func TestAcceptance24_NobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String() + "/"
	l.Close()
	m := template(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := m.check(ctx, url); code(err) != 143 || !m.root.Exists(checkDone) || m.root.Exists(secureProxy) {
		t.Errorf("%v, %v, %v", err, m.root.Exists(checkDone), m.root.Exists(secureProxy))
	}
}

// TestSilentProxy: one that accepts and does not answer does not end the check,
// and is asked again (defect 39).
func TestSilentProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	asked := make(chan net.Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked <- c
		}
	}()
	m := template(t)
	ended := make(chan error)
	go func() {
		c := &proxyCheck{root: m.root, env: m.env(), account: checkUser, server: "http://" + l.Addr().String() + "/", each: time.Millisecond, request: 20 * time.Millisecond}
		ended <- c.run(ctx)
	}()
	for range 2 {
		defer (<-asked).Close()
	}
	cancel()
	for {
		select {
		case c := <-asked:
			defer c.Close()
			continue
		case err := <-ended:
			if code(err) != 143 {
				t.Error(err)
			}
		}
		return
	}
}

// TestCheckConditions: the flag, the account, and machines that are no
// templates.
func TestCheckConditions(t *testing.T) {
	m := template(t)
	m.write(checkSkip, "")
	if err := m.check(context.Background(), "http://127.0.0.1:1/"); err != nil || !m.root.Exists(secureProxy) || !m.root.Exists(checkDone) {
		t.Errorf("skipped: %v", err)
	}
	m = newMachine(t, whonix.WorkstationMarker)
	before := m.state()
	if err := m.check(context.Background(), "http://127.0.0.1:1/"); err != nil || m.state() != before {
		t.Errorf("no template: %v", err)
	}
	m = template(t)
	before = m.state()
	c := &proxyCheck{root: m.root, env: m.env(), account: "root"}
	if err := c.run(context.Background()); code(err) != 1 || m.state() != before || !strings.Contains(m.stderr.String(), checkUser) || !strings.Contains(m.stderr.String(), checkUnit) {
		t.Errorf("as root: %v %s", err, m.stderr.String())
	}
}

// TestAskOnce: whether an old verdict still holds, for any account; nothing is
// written down (defect 38).
func TestAskOnce(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for name, c := range map[string]struct {
		server string
		want   int
	}{
		"behind Tor": {serve(t, http.StatusOK, proxyMeta), 0},
		"clearnet":   {serve(t, http.StatusOK, "<html>"), 1},
		"nobody":     {"http://" + gone.Addr().String() + "/", codeSilent},
	} {
		m := template(t)
		before := m.state()
		check := &proxyCheck{root: m.root, env: m.env(), account: "user", server: c.server, request: time.Minute}
		if err := check.askOnce(context.Background()); code(err) != c.want || m.state() != before {
			t.Errorf("%s: %v, or something was written", name, err)
		}
		if said := strings.Contains(m.stderr.String(), "does not contain PROXY_META"); said != (c.want == 1) {
			t.Errorf("%s: said %q", name, m.stderr.String())
		}
		m.write(checkSkip, "")
		if err := check.askOnce(context.Background()); err != nil {
			t.Errorf("%s, skipped: %v", name, err)
		}
	}
}
