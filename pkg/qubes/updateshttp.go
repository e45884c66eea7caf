// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/socks5"
)

// Limits of the proxy.
const (
	headMax    = 64 << 10
	headTime   = time.Minute // for a request, and between two
	answerTime = 2 * time.Minute
	// lingerTime is how long one direction of a tunnel may be silent once the
	// other has ended.
	lingerTime = time.Minute
)

// Statuses that are answered for the Gateway itself.
const (
	statusBadGateway  = http.StatusBadGateway
	statusUnavailable = http.StatusServiceUnavailable
)

// proxy is a proxy for the requests of one connection. A caller that has ended
// its direction still wants the answer: a request ends with the service and not
// with its caller's direction.
func (s *updatesService) proxy(ctx context.Context, conn relay.Stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	transport := &http.Transport{
		DialContext:            s.dial, // names go to Tor as they are
		DisableCompression:     true,   // what the server sends is what the caller gets
		MaxResponseHeaderBytes: headMax,
		ResponseHeaderTimeout:  answerTime,
		IdleConnTimeout:        headTime,
	}
	defer transport.CloseIdleConnections()
	forward := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.RawQuery = r.In.URL.RawQuery // to the byte
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { s.fail(w, err) },
	}
	var handling sync.Mutex // one request at a time, and the end after the last
	server := &http.Server{
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handling.Lock()
			defer handling.Unlock()
			s.handle(w, r.WithContext(ctx), forward)
		}),
		IdleTimeout:       headTime,
		MaxHeaderBytes:    headMax,
		ReadHeaderTimeout: headTime,
	}
	err := server.Serve(&oneListener{conn: conn, closed: make(chan struct{})})
	handling.Lock()
	defer handling.Unlock()
	if errors.Is(err, net.ErrClosed) {
		return nil // the connection has ended
	}
	return err
}

// handle answers one request.
func (s *updatesService) handle(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	w.Header()["Date"] = nil // the Gateway's clock is nobody's business
	switch {
	case r.Method == http.MethodConnect:
	case !r.URL.IsAbs():
		s.own(w, r)
		return
	case r.URL.Scheme != "http" || r.URL.Host == "":
		s.refused(w, http.StatusNotImplemented, "this proxy knows http, and CONNECT for the rest")
		return
	}
	if !s.ready.Load() {
		if err := s.connected(r.Context(), s.patience); err != nil {
			s.refused(w, statusUnavailable, err.Error())
			return
		}
		s.ready.Store(true)
	}
	if r.Method == http.MethodConnect {
		s.tunnel(w, r)
		return
	}
	forward.ServeHTTP(w, r)
}

// own is the page by which templates know a proxy behind Tor. It does not wait
// for Tor: what it says is true before.
func (s *updatesService) own(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.refused(w, http.StatusMethodNotAllowed, "this is a proxy")
		return
	}
	w.Header().Set("Content-Type", pageType)
	_, _ = io.WriteString(w, page("Updates proxy", "This proxy sends everything through Tor.")) // whoever asked has gone
}

// dial connects by Tor, on circuits of the caller's own.
func (s *updatesService) dial(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, torConnect)
	defer cancel()
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("%q is no port", service)
	}
	return s.socks.Connect(ctx, host, uint16(port))
}

// tunnel joins the connection with the one that is asked for.
func (s *updatesService) tunnel(w http.ResponseWriter, r *http.Request) {
	there, err := s.dial(r.Context(), "tcp", r.Host)
	if err != nil {
		s.fail(w, err)
		return
	}
	defer there.Close()
	tcp, ok := there.(*net.TCPConn)
	if !ok {
		s.fail(w, errors.New("no connection of TCP's"))
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // it has ended
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		conn.Close()
		return
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered()) // no more than there is
	if _, err := tcp.Write(early); err != nil {
		conn.Close()
		return
	}
	defer context.AfterFunc(r.Context(), func() { there.Close() })()
	if _, err := (relay.Relay{Linger: lingerTime}).Copy(conn.(relay.Stream), torStream{tcp}); err != nil {
		s.env.Warnf("%s: %s: %v", s.caller, shown(r.Host), err)
	}
}

// torStream is a connection to Tor's SocksPort, of which no direction ends
// alone: Tor takes the end of the one for the end of the stream, and the answer
// would be lost. It ends with the connection.
type torStream struct{ *net.TCPConn }

// CloseWrite does nothing.
func (torStream) CloseWrite() error { return nil }

// fail says what Tor has said.
func (s *updatesService) fail(w http.ResponseWriter, err error) {
	status := statusBadGateway
	var answer *socks5.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &answer) && answer.Code == socks5.TTLExpired:
		status = http.StatusGatewayTimeout
	case errors.Is(err, context.Canceled):
		return // nobody is there any more
	}
	s.refused(w, status, "through Tor: "+err.Error())
}

// refused answers with a reason in the first line: apt shows no other.
func (s *updatesService) refused(w http.ResponseWriter, status int, reason string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // it has ended
	}
	defer conn.Close()
	refuse(conn, status, reason)
	s.env.Warnf("%s: %d %s", s.caller, status, shown(reason))
}

// refuse is the last answer on a connection.
func refuse(w io.Writer, status int, reason string) {
	const longest = 200
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, reason)
	body := page(http.StatusText(status), line)
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, line[:min(len(line), longest)], pageType, len(body), body) // whoever asked has gone
}

const pageType = "text/html; charset=utf-8"

// page holds what templates look for: whatever this proxy says is said by one
// behind Tor.
func page(title, text string) string {
	return "<!DOCTYPE html>\n<html>\n<head>\n<title>" + html.EscapeString(title) + "</title>\n" + proxyMeta + "\n</head>\n<body>\n<h1>" +
		html.EscapeString(title) + "</h1>\n<p>" + html.EscapeString(text) + "</p>\n<p>qubes-updates-proxy " + html.EscapeString(cli.Version) + "</p>\n</body>\n</html>\n"
}

// oneListener gives one connection, and ends with it.
type oneListener struct {
	mu     sync.Mutex
	conn   relay.Stream
	once   sync.Once
	closed chan struct{}
}

// Accept returns the connection first, and then waits for its end.
func (l *oneListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		return &watchedConn{conn, l}, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

// Close ends the listener.
func (l *oneListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is of nothing that could be reached.
func (l *oneListener) Addr() net.Addr { return &net.UnixAddr{Name: "standard input", Net: "unix"} }

// watchedConn tells its listener of its end.
type watchedConn struct {
	relay.Stream
	of *oneListener
}

// Close closes both.
func (c *watchedConn) Close() error {
	defer c.of.Close()
	return c.Stream.Close()
}
