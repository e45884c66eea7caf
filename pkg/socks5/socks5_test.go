// SPDX-License-Identifier: GPL-3.0-or-later

package socks5

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// script is a server that expects and sends fixed bytes, in turns.
func script(t *testing.T, turns ...string) *Client {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		for i := 0; i < len(turns); i += 2 {
			got := make([]byte, len(turns[i]))
			if _, err := io.ReadFull(theirs, got); err != nil {
				return // the client gave up, which its caller judges
			}
			if string(got) != turns[i] {
				t.Errorf("turn %d: the client sent %q, want %q", i/2, got, turns[i])
				return
			}
			if _, err := io.WriteString(theirs, turns[i+1]); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { ours.Close(); <-done })
	return &Client{Dial: func(context.Context) (net.Conn, error) { return ours, nil }}
}

const (
	greet     = "\x05\x01\x00"
	greeted   = "\x05\x00"
	greetAuth = "\x05\x01\x02"
	takesAuth = "\x05\x02"
	zeros     = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
)

func TestConnect(t *testing.T) {
	for _, c := range []struct{ name, host, request string }{
		{"name", "example.onion", "\x05\x01\x00\x03\x0dexample.onion\x00\x50"},
		{"IPv4", "192.0.2.1", "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"},
		{"mapped IPv4", "::ffff:192.0.2.1", "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"},
		{"IPv6", "2001:db8::1", "\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := script(t, greet, greeted, c.request, zeros+"early data")
			conn, err := client.Connect(context.Background(), c.host, 80)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len("early data"))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != "early data" {
				t.Errorf("what followed the answer: %q, %v", got, err)
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	client := script(t, greetAuth, takesAuth, "\x01\x09<torS0X>0\x06secret", "\x01\x00", "\x05\x01\x00\x03\x01x\x00\x01", zeros)
	client.Auth = Isolation("secret")
	if _, err := client.Connect(context.Background(), "x", 1); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []*Auth{{"", "x"}, {"x", ""}, {"x", strings.Repeat("x", 256)}} {
		if _, err := (&Client{Auth: bad}).Connect(context.Background(), "x", 1); !errors.Is(err, ErrAuth) {
			t.Errorf("%d and %d bytes: %v", len(bad.User), len(bad.Password), err)
		}
	}
}

func TestResolve(t *testing.T) {
	ctx := context.Background()
	client := script(t, greet, greeted, "\x05\xf0\x00\x03\x0bexample.com\x00\x00", "\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x00")
	if addr, err := client.Resolve(ctx, "example.com"); err != nil || addr != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("RESOLVE: %v, %v", addr, err)
	}
	client = script(t, greet, greeted, "\x05\xf1\x00\x01\xc0\x00\x02\x01\x00\x00", "\x05\x00\x00\x03\x0bexample.com\x00\x00")
	if name, err := client.ResolvePTR(ctx, netip.MustParseAddr("192.0.2.1")); err != nil || name != "example.com" {
		t.Errorf("RESOLVE_PTR: %q, %v", name, err)
	}
	client = script(t, greet, greeted, "\x05\xf0\x00\x03\x01x\x00\x00", "\x05\x00\x00\x03\x01y\x00\x00")
	if _, err := client.Resolve(ctx, "x"); !errors.Is(err, ErrMalformed) {
		t.Errorf("a name as the answer to RESOLVE: %v", err)
	}
	client = script(t, greet, greeted, "\x05\xf1\x00\x01\x01\x02\x03\x04\x00\x00", zeros)
	if _, err := client.ResolvePTR(ctx, netip.MustParseAddr("1.2.3.4")); !errors.Is(err, ErrMalformed) {
		t.Errorf("an address as the answer to RESOLVE_PTR: %v", err)
	}
}

// TestRefusals: whatever a server does wrong is an error that says what.
func TestRefusals(t *testing.T) {
	const request = "\x05\x01\x00\x03\x01x\x00\x01"
	for _, c := range []struct {
		name  string
		turns []string
		auth  *Auth
		want  error
	}{
		{"version 4", []string{greet, "\x04\x00"}, nil, ErrMalformed},
		{"other method", []string{greet, "\x05\xff"}, nil, ErrMethod},
		{"no authentication though offered", []string{greetAuth, "\x05\x00"}, Isolation("p"), ErrMethod},
		{"password refused", []string{greetAuth, takesAuth, "\x01\x09<torS0X>0\x01p", "\x01\x01"}, Isolation("p"), ErrRefused},
		{"authentication of another version", []string{greetAuth, takesAuth, "\x01\x09<torS0X>0\x01p", "\x05\x00"}, Isolation("p"), ErrMalformed},
		{"refused", []string{greet, greeted, request, "\x05\x05\x00\x01"}, nil, unix.ECONNREFUSED},
		{"timed out", []string{greet, greeted, request, "\x05\x06\x00\x01"}, nil, unix.ETIMEDOUT},
		{"onion", []string{greet, greeted, request, "\x05\xf0\x00\x01"}, nil, unix.EHOSTUNREACH},
		{"answer of version 4", []string{greet, greeted, request, "\x04\x00\x00\x01"}, nil, ErrMalformed},
		{"reserved byte", []string{greet, greeted, request, "\x05\x00\x01\x01"}, nil, ErrMalformed},
		{"address type", []string{greet, greeted, request, "\x05\x00\x00\x02"}, nil, ErrMalformed},
		{"empty name", []string{greet, greeted, request, "\x05\x00\x00\x03\x00"}, nil, ErrMalformed},
		{"bad name", []string{greet, greeted, request, "\x05\x00\x00\x03\x02a\n\x00\x00"}, nil, ErrMalformed},
		{"cut short", []string{greet, greeted, request, "\x05\x00\x00\x01\x00"}, nil, io.ErrUnexpectedEOF},
		{"closed at once", []string{greet, ""}, nil, io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := script(t, c.turns...)
			client.Auth = c.auth
			conn, err := client.Connect(context.Background(), "x", 1)
			if conn != nil || !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestExtendedErrors(t *testing.T) {
	for code := OnionNotFound; code <= OnionIntroTimedOut; code++ {
		_, err := readReply(bytes.NewReader([]byte{5, byte(code), 0, 1, 0, 0, 0, 0, 0, 0}))
		var e *Error
		if !errors.As(err, &e) || e.Code != code || !strings.Contains(err.Error(), "onion service") {
			t.Errorf("%#02x: %v", byte(code), err)
		}
	}
	if text := Code(0x42).String(); text != "unknown code 0x42" {
		t.Error(text)
	}
}

func TestBadHosts(t *testing.T) {
	for _, host := range []string{"", "a b", "a\x00", "a\n", "fe80::1%eth0", "[::1]", "a/b", strings.Repeat("x", 256)} {
		var bad *ErrName
		if _, err := (&Client{}).Connect(context.Background(), host, 1); !errors.As(err, &bad) {
			t.Errorf("%q: %v", host, err)
		}
	}
}

// TestContext: a server that says nothing does not hold the caller, whether a
// deadline passes or the context is cancelled.
func TestContext(t *testing.T) {
	for name, limit := range map[string]func() (context.Context, context.CancelFunc){
		"deadline": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 20*time.Millisecond)
		},
		"cancelled": func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			ctx, cancel := limit()
			defer cancel()
			client := &Client{Dial: func(context.Context) (net.Conn, error) { return ours, nil }}
			if conn, err := client.Connect(ctx, "x", 1); conn != nil || err == nil {
				t.Errorf("%v, %v", conn, err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	if _, err := To(to, nil).Connect(context.Background(), "x", 1); !errors.Is(err, unix.ECONNREFUSED) {
		t.Error(err)
	}
}

// FuzzReply: whatever a server sends, nothing is read beyond the answer, and
// what counts as one is an address or a clean name.
func FuzzReply(f *testing.F) {
	f.Add([]byte(zeros))
	f.Add([]byte("\x05\x00\x00\x03\x0bexample.com\x00\x50rest"))
	f.Add([]byte("\x05\xf7\x00\x01"))
	f.Add([]byte("\x05\x00\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		a, err := readReply(r)
		if err != nil {
			return
		}
		if a.Addr.IsValid() == (a.Name != "") || strings.ContainsFunc(a.Name, notInNames) {
			t.Errorf("%+v", a)
		}
		size := map[byte]int{typeIPv4: 10, typeIPv6: 22, typeName: 7 + len(a.Name)}[data[3]]
		if len(data)-r.Len() != size {
			t.Errorf("read %d bytes of an answer of %d", len(data)-r.Len(), size)
		}
	})
}

// FuzzHost: what is sent as a host decodes to that host.
func FuzzHost(f *testing.F) {
	f.Add("example.com")
	f.Add("192.0.2.1")
	f.Add("2001:db8::1%x")
	f.Fuzz(func(t *testing.T, host string) {
		b, err := appendAddress(nil, host, 80)
		if err != nil {
			return
		}
		a, err := readAddress(bytes.NewReader(b[1:]), b[0])
		if err != nil {
			t.Fatal(err)
		}
		if addr, err := netip.ParseAddr(host); err == nil && a.Addr != addr.Unmap() || err != nil && a.Name != host || a.Port != 80 {
			t.Errorf("%q became %+v", host, a)
		}
	})
}

func TestConnect4A(t *testing.T) {
	for _, c := range []struct{ user, host, request string }{
		{"", "example.onion", "\x04\x01\x00\x50\x00\x00\x00\x01\x00example.onion\x00"},
		{"me", "192.0.2.1", "\x04\x01\x00\x50\xc0\x00\x02\x01me\x00"},
		{"", "2001:db8::1", "\x04\x01\x00\x50\x00\x00\x00\x01\x002001:db8::1\x00"},
	} {
		conn, err := script(t, c.request, "\x00\x5a\x00\x00\x00\x00\x00\x00early").Connect4A(context.Background(), c.user, c.host, 80)
		if err != nil {
			t.Errorf("%s: %v", c.host, err)
			continue
		}
		got := make([]byte, len("early"))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "early" {
			t.Errorf("what followed the answer: %q, %v", got, err)
		}
	}
	request := "\x04\x01\x00\x50\x00\x00\x00\x01\x00x\x00"
	for answer, want := range map[string]error{"\x00\x5b\x00\x00\x00\x00\x00\x00": ErrNotGranted, "\x05\x5a\x00\x00\x00\x00\x00\x00": ErrMalformed, "\x00\x5a": io.ErrUnexpectedEOF} {
		if _, err := script(t, request, answer).Connect4A(context.Background(), "", "x", 80); !errors.Is(err, want) {
			t.Errorf("%q: %v", answer, err)
		}
	}
	for _, c := range [][2]string{{"", ""}, {"", "a b"}, {"", "a\x00b"}, {"a\x00", "x"}, {strings.Repeat("u", 256), "x"}, {"", "fe80::1%eth0"}, {"", strings.Repeat("x", 256)}} {
		if _, err := request4A(c[0], c[1], 1); err == nil {
			t.Errorf("%q is asked for", c)
		}
	}
}
