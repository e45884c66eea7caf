// SPDX-License-Identifier: GPL-3.0-or-later

package torctl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torctl"
	"whonix-networking/pkg/torctl/tortest"
)

// cookie is the scripted Tor's.
var cookie = bytes.Repeat([]byte{7}, 32)

// start runs a scripted Tor on loopback and keeps its cookie in a file.
func start(t *testing.T, tor *tortest.Tor) (torctl.Address, torctl.Credentials) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tor.Cookie = cookie
	tor.Serve(l)
	t.Cleanup(tor.Close)
	root := fsx.Root(t.TempDir())
	if err := os.WriteFile(filepath.Join(string(root), "cookie"), cookie, 0o600); err != nil {
		t.Fatal(err)
	}
	return torctl.Address{Network: "tcp", Address: l.Addr().String()}, torctl.Credentials{Root: root, Cookie: "/cookie", Password: `se"cret`}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestAuthenticate: every way that Tor offers, the best one first.
func TestAuthenticate(t *testing.T) {
	for _, methods := range []string{"COOKIE,SAFECOOKIE", "SAFECOOKIE", "COOKIE", "HASHEDPASSWORD", "NULL"} {
		a, with := start(t, &tortest.Tor{Methods: methods, Password: `se\"cret`})
		c, err := torctl.Open(soon(t), a, with)
		if err != nil {
			t.Errorf("%s: %v", methods, err)
			continue
		}
		if v, err := c.GetInfo(soon(t), "version"); v != tortest.Version || err != nil {
			t.Errorf("%s: %q, %v", methods, v, err)
		}
		c.Close()
	}
}

// TestAuthenticateFails: no login without the cookie, none at a server that does
// not know it, and no secret in an error.
func TestAuthenticateFails(t *testing.T) {
	a, with := start(t, &tortest.Tor{Methods: "HASHEDPASSWORD"})
	with.Password = ""
	if _, err := torctl.Open(soon(t), a, with); !errors.Is(err, torctl.ErrNoMethod) {
		t.Errorf("password wanted: %v", err)
	}
	tor := &tortest.Tor{}
	a, with = start(t, tor)
	for _, content := range [][]byte{nil, cookie[:31], append(cookie[:32:32], 1)} {
		if err := os.WriteFile(with.Root.Path("/cookie"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		var missing *torctl.CookieError
		if _, err := torctl.Open(soon(t), a, with); !errors.As(err, &missing) || missing.Path != "/cookie" {
			t.Errorf("cookie of %d bytes: %v", len(content), err)
		}
	}
	if err := os.WriteFile(with.Root.Path("/cookie"), bytes.Repeat([]byte{8}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := torctl.Open(soon(t), a, with); !errors.Is(err, torctl.ErrImpostor) || tor.Logins() != 0 {
		t.Errorf("impostor: %v, %d logins", err, tor.Logins())
	}
	a, with = start(t, &tortest.Tor{Methods: "COOKIE"})
	if err := os.WriteFile(with.Root.Path("/cookie"), bytes.Repeat([]byte{8}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	var refused *torctl.ReplyError
	if _, err := torctl.Open(soon(t), a, with); !errors.As(err, &refused) || strings.Contains(err.Error(), "0808") {
		t.Errorf("wrong cookie: %v", err)
	}
}

// TestClient: what programs ask.
func TestClient(t *testing.T) {
	tor := &tortest.Tor{}
	a, with := start(t, tor)
	tor.Answer("GETINFO config-text", "250+config-text=", "a", "..b", ".", "250 OK")
	tor.Answer("GETINFO none", `552 Unrecognized key "none"`)
	tor.Answer("GETCONF Bridge", "250-Bridge=x y", `250 Bridge="a\"b"`)
	tor.Answer(`SETCONF Nickname="a b"`, "250 OK")
	tor.Answer("SIGNAL NEWNYM", "250 OK")
	tor.Answer("+LOADCONF", "")
	c, err := torctl.Open(soon(t), a, with)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if v, err := c.GetInfo(soon(t), "config-text"); v != "a\n.b\n" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	var refused *torctl.ReplyError
	if _, err := c.GetInfo(soon(t), "none"); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
	if v, err := c.GetConf(soon(t), "bridge"); err == nil {
		t.Errorf("unscripted: %q", v)
	}
	if v, err := c.GetConf(soon(t), "Bridge"); !cmp.Equal(v, []string{"x y", `a"b`}) || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if err := errors.Join(c.SetConf(soon(t), "Nickname", "a b"), c.Signal(soon(t), "NEWNYM")); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"a b", "a\r\nQUIT", "", "a\x00"} {
		if _, err := c.GetInfo(soon(t), bad); err == nil {
			t.Errorf("GETINFO %q was sent", bad)
		}
	}
	if err := c.SetConf(soon(t), "A B", ""); err == nil {
		t.Error("two options were set")
	}
	if _, err := c.Ask(soon(t), "+LOADCONF"); err == nil {
		t.Error("a data block was opened by Ask")
	}
}

// TestData: a block arrives with its dots doubled.
func TestData(t *testing.T) {
	ours, theirs := net.Pipe()
	c := torctl.NewConn(ours, nil)
	defer c.Close()
	got := make(chan string, 1)
	go func() {
		buf := make([]byte, 1<<10)
		n, _ := theirs.Read(buf)
		got <- string(buf[:n])
		_, _ = theirs.Write([]byte("250 OK\r\n"))
	}()
	ok := false
	if err := c.DoData(soon(t), "LOADCONF", "a\n.b\r\n\nc", func(m torctl.Message) { ok = m.OK() }); err != nil || !ok {
		t.Fatalf("%v, %v", err, ok)
	}
	if want := "+LOADCONF\r\na\r\n..b\r\n\r\nc\r\n.\r\n"; <-got != want {
		t.Errorf("want %q", want)
	}
}

// TestEvents: events come in order, never within a reply, and a controller that
// does not take them is told.
func TestEvents(t *testing.T) {
	tor := &tortest.Tor{}
	a, with := start(t, tor)
	c, err := torctl.Open(soon(t), a, with)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetEvents(soon(t), "BW", "CONF_CHANGED"); err != nil {
		t.Fatal(err)
	}
	const rounds = 200
	go func() {
		for i := range rounds {
			tor.Emit("BW", fmt.Sprintf("650 BW %d 0\r\n", i))
		}
		tor.Emit("CONF_CHANGED", "650-CONF_CHANGED\r\n650-A=1\r\n650 OK\r\n")
	}()
	for i := range rounds {
		if v, err := c.GetInfo(soon(t), "version"); v != tortest.Version || err != nil {
			t.Fatalf("%q, %v", v, err)
		}
		if e, err := c.NextEvent(soon(t)); err != nil || e.Name != "BW" || e.Text != fmt.Sprintf("%d 0", i) {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	want := torctl.Event{Name: "CONF_CHANGED", More: []string{"A=1"}}
	if e, err := c.NextEvent(soon(t)); err != nil || !cmp.Equal(e, want) {
		t.Fatalf("%+v, %v", e, err)
	}
	for range 5000 {
		tor.Emit("BW", "650 BW 0 0\r\n")
	}
	<-c.Done()
	if !errors.Is(c.Err(), torctl.ErrSlow) {
		t.Errorf("%v", c.Err())
	}
}

// TestLate: a reply that did not come in time ends the connection, and is never
// taken for that of another command.
func TestLate(t *testing.T) {
	tor := &tortest.Tor{}
	a, with := start(t, tor)
	tor.AnswerRaw("GETINFO slow", "")
	c, err := torctl.Open(soon(t), a, with)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.AskWithin(soon(t), 10*time.Millisecond, "GETINFO slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := c.GetInfo(soon(t), "version"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the connection is still used: %v", err)
	}
}

// TestBrokenTor: whatever Tor sends, a command ends with an error.
func TestBrokenTor(t *testing.T) {
	for bytes, want := range map[string]error{
		"250-version=1\r\n250 OK\n":                   torctl.ErrMalformed,
		"\x00\x01\x02\r\n":                            torctl.ErrMalformed,
		"250 OK\r\n250 OK\r\n":                        torctl.ErrUnsolicited,
		"250+" + strings.Repeat("x", torctl.MaxReply): torctl.ErrTooLong,
	} {
		tor := &tortest.Tor{}
		a, with := start(t, tor)
		tor.AnswerRaw("GETINFO x", bytes)
		c, err := torctl.Open(soon(t), a, with)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Ask(soon(t), "GETINFO x") // the first of two replies is one
		<-c.Done()
		if !errors.Is(c.Err(), want) {
			t.Errorf("%.20q: %v, want %v", bytes, c.Err(), want)
		}
		c.Close()
	}
	tor := &tortest.Tor{}
	a, with := start(t, tor)
	c, err := torctl.Open(soon(t), a, with)
	if err != nil {
		t.Fatal(err)
	}
	tor.Drop()
	<-c.Done()
	if _, err := c.Ask(soon(t), "GETINFO version"); err == nil || c.Err() == nil {
		t.Error("a command on a lost connection succeeded")
	}
	c.Close()
}
