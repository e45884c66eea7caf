// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	socksd "github.com/armon/go-socks5"
	"golang.org/x/sys/unix"

	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/torctl"
	"whonix-networking/pkg/torctl/tortest"
	"whonix-networking/pkg/whonix"
)

// socksPort stands for Tor's SocksPort: all hosts are one server, and it writes
// down who asked for which.
type socksPort struct {
	address string
	mu      sync.Mutex
	asked   []string // HOST:PORT
	users   []string // USER and PASSWORD
}

func newSocksPort(t *testing.T, server string) *socksPort {
	t.Helper()
	return newSocksPortAt(t, "127.0.0.1:0", func(ctx context.Context, network, _ string) (net.Conn, error) {
		if server == "" {
			return nil, errors.New("host unreachable")
		}
		return (&net.Dialer{}).DialContext(ctx, network, server)
	})
}

func newSocksPortAt(t *testing.T, address string, dial func(ctx context.Context, network, address string) (net.Conn, error)) *socksPort {
	t.Helper()
	p := &socksPort{}
	d, err := socksd.New(&socksd.Config{
		AuthMethods: []socksd.Authenticator{socksd.UserPassAuthenticator{Credentials: p}, socksd.NoAuthAuthenticator{}},
		Resolver:    p, Logger: quiet(), Dial: dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { _ = d.Serve(l) }()
	p.address = l.Addr().String()
	return p
}

func (p *socksPort) Valid(user, password string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = append(p.users, user+" "+password)
	return true
}

func (p *socksPort) Resolve(ctx context.Context, name string) (context.Context, net.IP, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, name)
	return ctx, net.IPv4(192, 0, 2, 1), nil
}

func (p *socksPort) seen() (asked, users []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked), slices.Clone(p.users)
}

const connected = `250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"`

// tor has a Tor at its control port, which says what it is told to say.
func (m *machine) tor(phase, disabled string) *tortest.Tor {
	m.t.Helper()
	cookie := bytes.Repeat([]byte{7}, 32)
	m.write(controlCookie, string(cookie))
	l, err := net.Listen("unix", m.root.Path(controlSocket))
	if err != nil {
		m.t.Fatal(err)
	}
	tor := &tortest.Tor{Cookie: cookie}
	tor.Answer("GETINFO status/bootstrap-phase", phase, "250 OK")
	tor.Answer("GETCONF DisableNetwork", "250 DisableNetwork="+disabled)
	tor.Serve(l)
	m.t.Cleanup(tor.Close)
	return tor
}

// proxied is a service on a machine, for a caller.
func (m *machine) proxied(caller, socks string) *updatesService {
	m.t.Helper()
	env := m.env()
	env.Environ = []string{callerVariable + "=" + caller}
	env.Stderr = &locked{to: &m.stderr}
	s, err := newUpdatesService(m.root, env)
	if err != nil {
		m.t.Fatal(err)
	}
	if !strings.HasSuffix(s.local, ":8082") {
		m.t.Errorf("the other proxy is at %s", s.local)
	}
	s.patience, s.relayPatience, s.each = time.Minute, time.Minute, 10*time.Millisecond
	s.socks.Dial = func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", socks) }
	return s
}

// locked is a writer for several.
type locked struct {
	mu sync.Mutex
	to io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

// call serves one connection, and returns its other end and its result.
func call(t *testing.T, s *updatesService, relayed bool) (client *net.UnixConn, ended <-chan error) {
	t.Helper()
	return callContext(t, context.Background(), s, relayed)
}

func callContext(t *testing.T, ctx context.Context, s *updatesService, relayed bool) (client *net.UnixConn, ended <-chan error) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		return c.(*net.UnixConn)
	}
	client = conn(fds[0])
	t.Cleanup(func() { client.Close() })
	if err := client.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	served := conn(fds[1])
	go func() { done <- s.serve(ctx, served, relayed) }()
	return client, done
}

// exchange sends a request and ends its direction, as whoever has only one to
// make; it returns all that comes back.
func exchange(t *testing.T, s *updatesService, request string) string {
	t.Helper()
	client, ended := call(t, s, false)
	if _, err := io.WriteString(client, request); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(client)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("%.60q: %v", request, err)
	}
	return string(answer)
}

// TestUpdatesProxyPage: a template's check finds the proxy to be behind Tor,
// without waiting for Tor.
func TestUpdatesProxyPage(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	s := m.proxied("debian-12", "127.0.0.1:1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = s.serve(context.Background(), c.(*net.TCPConn), false) }()
		}
	}()
	guest := template(t)
	if err := guest.check(context.Background(), "http://"+l.Addr().String()+"/"); err != nil || !guest.root.Exists(secureProxy) {
		t.Errorf("%v %s", err, guest.stderr.String())
	}
	if got := exchange(t, s, "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || strings.Contains(got, "<html>") || strings.Contains(got, "Date:") {
		t.Errorf("HEAD: %q", got)
	}
}

// TestUpdatesProxyForwards: names go to Tor as they are, nothing is added that
// could tell the caller, nothing of the answer is changed, and each caller has
// circuits of its own.
func TestUpdatesProxyForwards(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write([]byte("packages"))
	_ = w.Close()
	requests := make(chan *http.Request, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		w.Header().Set("Content-Encoding", "gzip")
		w.Header()["Date"] = nil
		_, _ = w.Write(packed.Bytes())
	}))
	defer server.Close()
	tor := newSocksPort(t, server.Listener.Addr().String())
	m := newMachine(t, whonix.GatewayMarker)
	m.tor(connected, "0")
	for _, caller := range []string{"debian-12", "fedora-41", "debian-12"} {
		client, ended := call(t, m.proxied(caller, tor.address), false)
		in := bufio.NewReader(client)
		for _, url := range []string{"http://deb.example/a?b=c;d%zz", "http://security.example:81/x"} { // on one connection
			_, _ = fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: ignored\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nX-Forwarded-For: 10.137.0.9\r\nRange: bytes=0-\r\n\r\n", url)
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			if err != nil || !bytes.Equal(body, packed.Bytes()) || answer.Header.Get("Via") != "" || answer.Header.Get("Date") != "" || answer.Header.Get("Content-Encoding") != "gzip" {
				t.Errorf("%s: %v %v %q", url, err, answer.Header, body)
			}
			r := <-requests
			if got := "http://" + r.Host + r.RequestURI; got != url || len(r.Header) != 1 || r.Header.Get("Range") != "bytes=0-" {
				t.Errorf("the server was asked for %s with %v", got, r.Header)
			}
		}
		client.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	asked, users := tor.seen()
	if got := strings.Join(asked, " "); got != strings.TrimSpace(strings.Repeat("deb.example security.example ", 3)) {
		t.Errorf("Tor was asked for %s", got)
	}
	if len(users) != 6 || users[0] == users[2] || users[0] != users[4] || users[0] != users[1] || !strings.HasSuffix(users[2], " fedora-41") {
		t.Errorf("who asked Tor: %q", users)
	}
}

// TestUpdatesProxyHalfClose: the end of what the caller says is not the end of
// the answer, which comes late and in parts (defect 42).
func TestUpdatesProxyHalfClose(t *testing.T) {
	const size = 1 << 20
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-ended
		_, _ = w.Write(make([]byte, size))
		w.(http.Flusher).Flush()
		_, _ = w.Write(make([]byte, size))
	}))
	defer server.Close()
	tor := newSocksPort(t, server.Listener.Addr().String())
	m := newMachine(t, whonix.GatewayMarker)
	m.tor(connected, "0")
	client, done := call(t, m.proxied("debian-12", tor.address), false)
	_, _ = io.WriteString(client, "GET http://deb.example/ HTTP/1.0\r\n\r\n")
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(ended)
	answer, err := io.ReadAll(client)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200 OK\r\n") || len(answer) < 2*size {
		t.Errorf("%d bytes, %v, %.60q", len(answer), err, answer)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// echo is a server that answers with what it got, once that has ended or is
// complete, and then ends.
func echo(t *testing.T, size int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				all, _ := io.ReadAll(io.LimitReader(c, int64(size)))
				_, _ = c.Write(all)
			}()
		}
	}()
	return l.Addr().String()
}

// TestUpdatesProxyTunnel: what comes with the request is part of the stream, and
// the answer arrives as a whole although the caller has ended: Tor is not told,
// it would end the stream.
func TestUpdatesProxyTunnel(t *testing.T) {
	t.Parallel()
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data)
	tor := newSocksPort(t, echo(t, len(data)))
	m := newMachine(t, whonix.GatewayMarker)
	m.tor(connected, "0")
	client, ended := call(t, m.proxied("debian-12", tor.address), false)
	go func() {
		_, _ = client.Write(append([]byte("CONNECT deb.example:443 HTTP/1.1\r\nHost: deb.example:443\r\n\r\n"), data...))
		_ = client.CloseWrite()
	}()
	answer, err := io.ReadAll(client)
	if want := append([]byte("HTTP/1.1 200 Connection established\r\n\r\n"), data...); err != nil || !bytes.Equal(answer, want) {
		t.Errorf("%d bytes of %d, %v: %.60q", len(answer), len(want), err, answer)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if asked, _ := tor.seen(); !slices.Equal(asked, []string{"deb.example"}) {
		t.Errorf("Tor was asked for %q", asked)
	}
}

// TestUpdatesRelay: with a cache on the Gateway, or when told to, bytes go there
// as they are, each end is passed on, and both are waited for (defect 42).
func TestUpdatesRelay(t *testing.T) {
	const size = 3 << 20
	for _, told := range []bool{true, false} {
		m := newMachine(t, whonix.GatewayMarker)
		if !told {
			m.write(flagCaching, "")
		}
		s := m.proxied("debian-12", "127.0.0.1:1")
		s.relayPatience = time.Millisecond // what Tor is like is the other proxy's affair
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		s.local = l.Addr().String()
		client, ended := call(t, s, told)
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server := c.(*net.TCPConn)
		go func() {
			_, _ = client.Write(make([]byte, size))
			_ = client.CloseWrite()
		}()
		if n, err := io.Copy(io.Discard, server); err != nil || n != size {
			t.Fatalf("the other proxy got %d, %v", n, err)
		}
		// The request has ended, and the answer only begins.
		if _, err := server.Write([]byte("first ")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write([]byte("last")); err != nil {
			t.Fatal(err)
		}
		server.Close()
		if got, err := io.ReadAll(client); err != nil || string(got) != "last" {
			t.Errorf("%q, %v", got, err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestUpdatesRelayNobody: apt is told, and so is the journal.
func TestUpdatesRelayNobody(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.tor(connected, "0")
	s := m.proxied("debian-12", "127.0.0.1:1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.local = l.Addr().String()
	l.Close()
	client, ended := call(t, s, true)
	answer, err := io.ReadAll(client)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 502 no updates proxy listens on this Gateway\r\n") {
		t.Errorf("%q, %v", answer, err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), s.local) {
		t.Error(err)
	}
}

// TestUpdatesProxyRefuses: the reason is in the line that apt shows, and nothing
// has gone anywhere.
func TestUpdatesProxyRefuses(t *testing.T) {
	t.Parallel()
	const get, connect = "GET http://deb.example/ HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT deb.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, c := range map[string]struct {
		phase, disabled string // of a Tor that runs
		request         string
		want            string
	}{
		"no Tor":          {"", "", get, "HTTP/1.1 503 the Gateway's Tor does not run\r\n"},
		"no Tor, CONNECT": {"", "", connect, "HTTP/1.1 503 the Gateway's Tor does not run\r\n"},
		"switched off":    {connected, "1", get, "HTTP/1.1 503 the Gateway's Tor is switched off\r\n"},
		"half way": {"250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=45 TAG=x SUMMARY=\"Asking for \\033[2J\"", "0", connect,
			"HTTP/1.1 503 the Gateway's Tor is not connected yet: 45 %, Asking for ?[2J\r\n"},
		"another scheme":     {connected, "0", "GET https://deb.example/ HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 501 this proxy knows http, and CONNECT for the rest\r\n"},
		"no host":            {connected, "0", "GET http:///x HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 501 "},
		"for itself":         {connected, "0", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405 this is a proxy\r\n"},
		"port 0":             {connected, "0", "CONNECT deb.example:0 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 502 through Tor: "},
		"no port":            {connected, "0", "CONNECT deb.example HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 502 through Tor: "},
		"a bad name":         {connected, "0", "CONNECT " + strings.Repeat("x", 256) + ":443 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 502 through Tor: "},
		"Tor cannot, GET":    {connected, "0", get, "HTTP/1.1 502 through Tor: "},
		"Tor cannot":         {connected, "0", connect, "HTTP/1.1 502 through Tor: "},
		"no HTTP":            {connected, "0", "\x16\x03\x01\x00\x05hello\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		"two lengths":        {connected, "0", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 400 Bad Request\r\n"},
		"an endless head":    {connected, "0", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 2*headMax) + "\r\n\r\n", "HTTP/1.1 431 "},
		"nothing":            {connected, "0", "", ""},
		"half a request":     {connected, "0", "GET http://deb.example/ HT", ""},
		"http/2 without TLS": {connected, "0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tor := newSocksPort(t, "")
			m := newMachine(t, whonix.GatewayMarker)
			if c.phase != "" {
				m.tor(c.phase, c.disabled)
			}
			s := m.proxied("debian-12", tor.address)
			switch { // as if it had waited
			case c.phase == "":
				s.patience = 100 * time.Millisecond
			case c.phase != connected:
				s.patience = 3 * time.Second // time for one question on any machine
			}
			client, ended := call(t, s, false)
			go func() {
				_, _ = io.WriteString(client, c.request)
				_ = client.CloseWrite()
			}()
			answer, err := io.ReadAll(client)
			if err != nil && !errors.Is(err, unix.ECONNRESET) || !strings.HasPrefix(string(answer), c.want) {
				t.Errorf("%q, %v", answer, err)
			}
			if strings.HasPrefix(c.want, "HTTP/1.1 50") && !strings.Contains(string(answer), proxyMeta) {
				t.Errorf("a page that does not say what it is: %q", answer)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if asked, _ := tor.seen(); len(asked) > 0 && !strings.HasPrefix(name, "Tor cannot") {
				t.Errorf("Tor was asked for %q", asked)
			}
			if strings.HasPrefix(c.want, "HTTP/1.1 50") && !strings.Contains(m.stderr.String(), "debian-12: 50") {
				t.Errorf("the journal says %q", m.stderr.String())
			}
		})
	}
}

// TestUpdatesProxyWaits: a request that came while Tor connects is served when
// it has.
func TestUpdatesProxyWaits(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("packages")) }))
	defer server.Close()
	socks := newSocksPort(t, server.Listener.Addr().String())
	m := newMachine(t, whonix.GatewayMarker)
	tor := m.tor(strings.Replace(connected, "=100", "=90", 1), "0")
	client, ended := call(t, m.proxied("debian-12", socks.address), false)
	_, _ = io.WriteString(client, "GET http://deb.example/ HTTP/1.0\r\n\r\n")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := tor.Wait(ctx, func() bool { return slices.Contains(tor.Received(), "GETINFO status/bootstrap-phase") }); err != nil {
		t.Fatal(err)
	}
	if asked, _ := socks.seen(); len(asked) > 0 {
		t.Errorf("too early: %q", asked)
	}
	tor.Answer("GETINFO status/bootstrap-phase", connected, "250 OK")
	answer, err := io.ReadAll(client)
	if err != nil || !strings.HasSuffix(string(answer), "\r\n\r\npackages") {
		t.Errorf("%q, %v", answer, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestUpdatesProxyMayNotAsk: an account that may not ask Tor goes on, and Tor's
// port decides.
func TestUpdatesProxyMayNotAsk(t *testing.T) {
	const nobody = 65534
	m := newMachine(t, whonix.GatewayMarker)
	m.tor(connected, "1")
	for _, file := range []string{controlSocket, controlCookie} {
		if err := os.Chmod(m.root.Path(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for dir := string(m.root); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := m.proxied("debian-12", "127.0.0.1:1")
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Setfsuid(nobody); err != nil {
			result <- err
			return
		}
		result <- s.connected(context.Background(), time.Minute)
	}()
	if err := <-result; err != nil || !strings.Contains(m.stderr.String(), "warning: Tor cannot be asked") {
		t.Errorf("%v, said %q", err, m.stderr.String())
	}
}

// TestUpdatesProxyTerminated: it ends when it is told to, in the middle of
// whatever.
func TestUpdatesProxyTerminated(t *testing.T) {
	for _, relayed := range []bool{false, true} {
		m := newMachine(t, whonix.GatewayMarker)
		tor := m.tor(strings.Replace(connected, "=100", "=90", 1), "0")
		ctx, cancel := context.WithCancel(context.Background())
		client, ended := callContext(t, ctx, m.proxied("debian-12", "127.0.0.1:1"), relayed)
		_, _ = io.WriteString(client, "CONNECT deb.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
		waiting, done := context.WithTimeout(context.Background(), time.Minute)
		if err := tor.Wait(waiting, func() bool { return len(tor.Received()) > 0 }); err != nil {
			t.Fatal(err)
		}
		done()
		cancel()
		if err := <-ended; code(err) != 143 {
			t.Errorf("relayed %v: %v", relayed, err)
		}
		if got, err := io.ReadAll(client); errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(string(got), "200") {
			t.Errorf("relayed %v: the caller got %q, %v", relayed, got, err)
		}
	}
}

// TestCallerNames: a name that Qubes cannot give does not get into Tor's
// credentials.
func TestCallerNames(t *testing.T) {
	for name, good := range map[string]bool{
		"debian-12": true, "whonix-workstation-17": true, "a": true, "A_b.c-9": true, strings.Repeat("x", 31): true,
		"": false, strings.Repeat("x", 32): false, "a b": false, "a\n": false, "a/b": false, "é": false, "\x00": false,
	} {
		env := (&machine{t: t}).env()
		env.Environ = []string{callerVariable + "=" + name}
		if _, err := newUpdatesService("/", env); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
	s, err := newUpdatesService("/", (&machine{t: t}).env())
	if err != nil || s.caller != "local" {
		t.Errorf("without qrexec: %v", err)
	}
}

// TestUpdatesProxyApt: Debian's apt gets its lists through the proxy, over http
// and several requests to a connection, and shows the reason when it does not.
func TestUpdatesProxyApt(t *testing.T) {
	t.Parallel()
	lists := "Package: example\nVersion: 1\nArchitecture: all\nFilename: x.deb\nSize: 1\nMD5sum: 0\nDescription: x\n\n"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path.Clean(r.URL.Path) != "/debian/Packages" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(lists))
	}))
	defer server.Close()
	tor := newSocksPort(t, server.Listener.Addr().String())
	m := newMachine(t, whonix.GatewayMarker)
	control := m.tor(connected, "0")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // what qrexec does for each connection of the template's
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				s := m.proxied("debian-12", tor.address)
				s.patience = time.Second
				_ = s.serve(context.Background(), c.(relay.Conn), false)
			}()
		}
	}()
	dir := t.TempDir()
	for _, d := range []string{"lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"sources": "deb [trusted=yes] http://deb.example/debian ./\n", "status": "", "etc/trusted.gpg": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	update := func() string {
		args := []string{"update", "--error-on=any"}
		for _, o := range []string{"Dir::Etc=" + dir + "/etc", "Dir::Etc::sourcelist=" + dir + "/sources", "Dir::Etc::sourceparts=-", "Dir::State=" + dir, "Dir::State::lists=" + dir + "/lists", "Dir::State::status=" + dir + "/status",
			"Dir::Cache=" + dir + "/cache", "Dir::Etc::parts=-", "APT::Sandbox::User=root", "Acquire::Languages=none", "Acquire::Retries=0", "Acquire::GzipIndexes=false",
			"Acquire::http::Proxy=http://" + l.Addr().String() + "/"} {
			args = append(args, "-o", o)
		}
		cmd := exec.Command("apt-get", args...)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
		out, err := cmd.CombinedOutput()
		return fmt.Sprintf("%s%v", out, err)
	}
	out := update()
	found, err := filepath.Glob(dir + "/lists/deb.example_debian_*Packages")
	if err != nil || len(found) != 1 {
		entries, _ := exec.Command("find", dir).CombinedOutput()
		t.Fatalf("apt has no list: %v %s %s", err, out, entries)
	}
	if got, err := os.ReadFile(found[0]); err != nil || string(got) != lists {
		t.Errorf("apt has %q, %v", got, err)
	}
	if asked, _ := tor.seen(); len(asked) == 0 || slices.ContainsFunc(asked, func(a string) bool { return a != "deb.example" }) {
		t.Errorf("Tor was asked for %q", asked)
	}
	control.Answer("GETINFO status/bootstrap-phase", strings.Replace(connected, `100 TAG=done SUMMARY="Done"`, `45 TAG=x SUMMARY="Asking for descriptors"`, 1), "250 OK")
	if out := update(); !strings.Contains(out, "503  the Gateway's Tor is not connected yet: 45 %, Asking for descriptors") {
		t.Errorf("apt says %s", out)
	}
}

// TestUpdatesProxyRealTor: what Debian's tor says is understood: that it is
// switched off, and that it cannot connect where there is no network.
func TestUpdatesProxyRealTor(t *testing.T) {
	t.Parallel()
	m := newMachine(t, whonix.GatewayMarker)
	for _, dir := range []string{"/run/tor", "/data"} {
		if err := os.MkdirAll(m.root.Path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.write("/torrc", "")
	cmd := exec.Command("unshare", "--net", "tor", "--defaults-torrc", m.root.Path("/torrc"), "-f", m.root.Path("/torrc"), "--Log", "notice stdout", "--SocksPort", "0", "--DisableNetwork", "1",
		"--ControlSocket", m.root.Path(controlSocket), "--CookieAuthentication", "1", "--CookieAuthFile", m.root.Path(controlCookie), "--DataDirectory", m.root.Path("/data"))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	s := m.proxied("debian-12", "127.0.0.1:1")
	if err := s.connected(context.Background(), time.Minute); !errors.Is(err, errTorOff) {
		t.Fatalf("switched off: %v %s", err, log.String())
	}
	c, err := torctl.Open(context.Background(), torctl.Address{Network: "unix", Address: m.root.Path(controlSocket)}, torctl.Credentials{Root: m.root, Cookie: controlCookie})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if reply, err := c.Ask(context.Background(), "SETCONF DisableNetwork=0"); err != nil || !reply.OK() {
		t.Fatalf("%v %v", reply.Last(), err)
	}
	if err := s.connected(context.Background(), 3*time.Second); err == nil || !strings.HasPrefix(err.Error(), "the Gateway's Tor is not connected yet: ") || strings.Contains(err.Error(), ":  %") {
		t.Errorf("without a network: %v", err)
	}
}
