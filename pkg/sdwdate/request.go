// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/socks5"
)

// requestLimit bounds one request, both attempts together.
const requestLimit = 120 * time.Second

// defaultUserAgent is what most people at Tor send.
const defaultUserAgent = "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"

// request asks one server for its time.
type request struct {
	Proxy     netip.AddrPort
	Target    target
	Method    string // auto, HEAD, GET
	UserAgent string
	Bounds    bounds
	Roots     func() (*x509.CertPool, error)
	Now       func() time.Time     // CLOCK_REALTIME
	Raw       func() time.Duration // CLOCK_MONOTONIC_RAW
}

// response is what came.
type response struct {
	head
	Method   string
	RTT      time.Duration // from the request's last byte to the answer's first
	Local    time.Time     // CLOCK_REALTIME at the answer's first byte
	Raw      time.Duration // CLOCK_MONOTONIC_RAW then
	Took     time.Duration
	Isolated bool // the proxy took username and password
}

// monotonicRaw is the clock that no correction reaches.
func monotonicRaw() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts) // fails for unknown clocks only
	return time.Duration(ts.Nano())
}

// do asks, with HEAD and then, where that is not understood, with GET on a
// connection and a circuit of its own. A redirect's own Date is as good as any
// other: nothing is followed (D5).
func (r request) do(ctx context.Context) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	begin := r.Raw()
	method := r.Method
	if method == "auto" {
		method = "HEAD"
	}
	resp, err := r.once(ctx, method)
	if r.Method == "auto" && retryWithGet(resp, err) {
		resp, err = r.once(ctx, "GET")
	}
	resp.Took = r.Raw() - begin
	return resp, err
}

func retryWithGet(resp response, err error) bool {
	const methodNotAllowed, notImplemented = 405, 501
	if err != nil {
		return errors.Is(err, errNoAnswer)
	}
	return resp.Status == methodNotAllowed || resp.Status == notImplemented || len(resp.Dates) == 0
}

func (r request) once(ctx context.Context, method string) (response, error) {
	conn, isolated, err := r.connect(ctx)
	if err != nil {
		return response{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // fails on a closed connection only
	}
	certified := func(int64) error { return nil }
	if r.Target.TLS {
		if conn, certified, err = r.secure(ctx, conn); err != nil {
			return response{}, err
		}
	}
	resp, err := r.exchange(conn, method)
	resp.Isolated = isolated
	if err != nil {
		return resp, err
	}
	if len(resp.Dates) == 1 {
		if t, err := resp.unixtime(); err == nil {
			return resp, certified(t)
		}
	}
	return resp, nil
}

// connect reaches the server through Tor, on a circuit that no other request
// shares (D26); its name is resolved there. A proxy that takes no username and
// password is used without.
func (r request) connect(ctx context.Context) (conn net.Conn, isolated bool, err error) {
	auth := &socks5.Auth{User: randomHex(), Password: randomHex()}
	conn, err = socks5.To(r.Proxy, auth).Connect(ctx, r.Target.Host, r.Target.Port)
	if errors.Is(err, socks5.ErrMethod) {
		conn, err = socks5.To(r.Proxy, nil).Connect(ctx, r.Target.Host, r.Target.Port)
		return conn, false, err
	}
	return conn, true, err
}

func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// secure begins TLS. The certificate of an onion service is judged when it has
// told its time, at that time: the onion's key vouches for the server already,
// and our clock is what is in doubt (D27). Elsewhere the certificate is the only
// proof: it must be valid now, before anything is sent.
func (r request) secure(ctx context.Context, conn net.Conn) (net.Conn, func(int64) error, error) {
	roots, err := r.Roots()
	if err != nil {
		return nil, nil, err
	}
	config := &tls.Config{RootCAs: roots, ServerName: r.Target.Host, MinVersion: tls.VersionTLS12, Time: r.Now, NextProtos: []string{"http/1.1"}}
	config.InsecureSkipVerify = r.Target.onion()
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	if !r.Target.onion() {
		return secured, func(int64) error { return nil }, nil
	}
	chain := secured.ConnectionState().PeerCertificates
	return secured, func(t int64) error { return r.verify(chain, roots, t) }, nil
}

func (r request) verify(chain []*x509.Certificate, roots *x509.CertPool, claimed int64) error {
	if v := r.Bounds.judge(claimed); v != sane {
		return fmt.Errorf("the certificate cannot be judged at a time that is too %s", v)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: r.Target.Host, Roots: roots, Intermediates: between, CurrentTime: time.Unix(claimed, 0)})
	return err
}

func (r request) exchange(conn net.Conn, method string) (response, error) {
	text := method + " " + r.Target.Path + " HTTP/1.1\r\nHost: " + r.Target.authority() + "\r\nUser-Agent: " + r.UserAgent +
		"\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	if _, err := conn.Write([]byte(text)); err != nil {
		return response{Method: method}, err
	}
	sent := r.Raw()
	h, err := readHead(conn, r.Raw)
	local := r.Now().Round(0).Add(h.First - r.Raw())
	return response{head: h, Method: method, RTT: h.First - sent, Raw: h.First, Local: local}, err
}
