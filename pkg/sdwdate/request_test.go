// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// requestTime is what the fake servers say, unless told otherwise.
const requestTime = "Mon, 22 Mar 2027 07:02:46 GMT"

// asked is what a fake proxy was asked for.
type asked struct {
	Methods        []byte
	User, Password string
	Type           byte
	Host           string
	Port           int
}

// proxy is a fake Tor: every connection leads to serve.
type proxy struct {
	net.Listener
	method byte // that it chooses
	reply  byte
	serve  func(asked, net.Conn)

	mu    sync.Mutex
	asked []asked
}

func newProxy(t *testing.T, serve func(asked, net.Conn)) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, method: 2, serve: serve}
	var running sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	running.Add(1)
	go func() {
		defer running.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Add(1)
			go func() {
				defer running.Done()
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				p.converse(c)
			}()
		}
	}()
	return p
}

func (p *proxy) converse(c net.Conn) {
	in := bufio.NewReader(c)
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(in, b)
		return b
	}
	var a asked
	a.Methods = read(int(read(2)[1]))
	method := p.method
	if !bytes.Contains(a.Methods, []byte{method}) {
		method = 0xff
	}
	_, _ = c.Write([]byte{5, method})
	if method == 0xff {
		return
	}
	if method == 2 {
		a.User = string(read(int(read(2)[1])))
		a.Password = string(read(int(read(1)[0])))
		_, _ = c.Write([]byte{1, 0})
	}
	a.Type = read(4)[3]
	a.Host = string(read(int(read(1)[0])))
	port := read(2)
	a.Port = int(port[0])<<8 | int(port[1])
	p.mu.Lock()
	p.asked = append(p.asked, a)
	p.mu.Unlock()
	_, _ = c.Write([]byte{5, p.reply, 0, 1, 0, 0, 0, 0, 0, 0})
	if p.reply == 0 {
		p.serve(a, &buffered{c, in})
	}
}

// buffered is a connection of which something was read ahead.
type buffered struct {
	net.Conn
	in *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.in.Read(p) }

func (p *proxy) seen() []asked {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]asked(nil), p.asked...)
}

// readRequest reads a request's head.
func readRequest(c io.Reader) string {
	var b strings.Builder
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		b.WriteString(line)
		if err != nil || strings.TrimSpace(line) == "" {
			return b.String()
		}
	}
}

// says serves one text to every request.
func says(text string) func(asked, net.Conn) {
	return func(_ asked, c net.Conn) {
		readRequest(c)
		_, _ = io.WriteString(c, text)
	}
}

// fetched is a finished url-to-unixtime.
type fetched struct {
	code     int
	out, err string
}

func fetchURL(t *testing.T, root fsx.Root, p *proxy, url string, options ...string) fetched {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	host, port, _ := net.SplitHostPort(p.Addr().String())
	var out, errOut bytes.Buffer
	env := cli.Env{Args: append(append([]string{"url_to_unixtime"}, options...), host, port, url, "true"), Stdout: &out, Stderr: &errOut, Now: time.Now,
		Environ: []string{"NO_PROXY=*", "HTTPS_PROXY=http://127.0.0.1:1", "REQUESTS_CA_BUNDLE=/nonexistent", "SSL_CERT_FILE=/nonexistent"}}
	code := cli.Run(ctx, env, urlToUnixtimeAt(root))
	return fetched{code, out.String(), errOut.String()}
}

func TestRequest(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nDate: " + requestTime + "\r\n\r\n"
	url := "http://" + onionName(1) + "/"
	for _, c := range []struct {
		name, answer string
		code         int
	}{
		{"fine", ok, 0},
		{"404", "HTTP/1.1 404 Not Found\r\ndate:" + requestTime + "\r\n\r\n", 0},
		{"bare LF, HTTP/1.0", "HTTP/1.0 200 OK\nDate: " + requestTime + "\n\n", 0},
		{"interim answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 5) + ok, 0},
		{"too many interim answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 6) + ok, 5},
		{"no Date", "HTTP/1.1 200 OK\r\n\r\n", 2},
		{"two Dates", "HTTP/1.1 200 OK\r\nDate: " + requestTime + "\r\nDate: " + requestTime + "\r\n\r\n", 2},
		{"28 bytes", "HTTP/1.1 200 OK\r\nDate: Mon, 2 Mar 2027 07:02:46 GMT\r\n\r\n", 2},
		{"ISO", "HTTP/1.1 200 OK\r\nDate: 2027-03-22T07:02:46Z\r\n\r\n", 2},
		{"101 bytes", "HTTP/1.1 200 OK\r\nDate: " + strings.Repeat("x", 101) + "\r\n\r\n", 2},
		{"1970", "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n", 3},
		{"1960", "HTTP/1.1 200 OK\r\nDate: Fri, 01 Jan 1960 00:00:00 GMT\r\n\r\n", 3},
		{"2300", "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2300 00:00:00 GMT\r\n\r\n", 4},
		{"2106", "HTTP/1.1 200 OK\r\nDate: Sun, 07 Feb 2106 06:28:16 GMT\r\n\r\n", 0},
		{"zone", "HTTP/1.1 200 OK\r\nDate: Mon, 22 Mar 2027 07:02:46 +0500\r\n\r\n", 6},
		{"EST", "HTTP/1.1 200 OK\r\nDate: Mon, 22 Mar 2027 07:02:46 EST\r\n\r\n", 6},
		{"wrong weekday", "HTTP/1.1 200 OK\r\nDate: Tue, 22 Mar 2027 07:02:46 GMT\r\n\r\n", 6},
		{"29 digits", "HTTP/1.1 200 OK\r\nDate: 00000000000000000000000000012\r\n\r\n", 6},
		{"leap second", "HTTP/1.1 200 OK\r\nDate: Thu, 31 Dec 2026 23:59:60 GMT\r\n\r\n", 0},
		{"second 61", "HTTP/1.1 200 OK\r\nDate: Thu, 31 Dec 2026 23:59:61 GMT\r\n\r\n", 6},
		{"Age", "HTTP/1.1 200 OK\r\nAge: 3000\r\nDate: " + requestTime + "\r\n\r\n", 6},
		{"Age 0", "HTTP/1.1 200 OK\r\nAge: 0\r\nDate: " + requestTime + "\r\n\r\n", 0},
		{"Age that is no number", "HTTP/1.1 200 OK\r\nAge: -1\r\nDate: " + requestTime + "\r\n\r\n", 6},
		{"escape sequences", "HTTP/1.1 200 OK\r\nDate: \x1b]0;owned\x07 22 Mar 2027 07:02:46\r\n\r\n", 6},
		{"silence", "", 5},
		{"another protocol", "SSH-2.0-OpenSSH_9.2p1\r\n", 5},
		{"folded", "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nDate: " + requestTime + "\r\n\r\n", 5},
		{"NUL", "HTTP/1.1 200 OK\r\nX: y\x00\r\nDate: " + requestTime + "\r\n\r\n", 5},
		{"bare CR", "HTTP/1.1 200 OK\r\nX: y\rDate: z\r\n\r\n", 5},
		{"no colon", "HTTP/1.1 200 OK\r\nnothing\r\n\r\n", 5},
		{"cut", "HTTP/1.1 200 OK\r\nDate: " + requestTime + "\r\n", 5},
		{"101 fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 101) + "\r\n", 5},
		{"long line", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", lineMax) + "\r\n\r\n", 5},
		{"long head", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 4000)+"\r\n", 9) + "\r\n", 5},
		{"status 700", "HTTP/1.1 700 What\r\nDate: " + requestTime + "\r\n\r\n", 5},
		{"status of words", "HTTP/1.1 abc\r\nDate: " + requestTime + "\r\n\r\n", 5},
		{"gzip bomb named, never read", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 99999999999\r\nDate: " + requestTime + "\r\n\r\n\x1f\x8b", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProxy(t, says(c.answer))
			got := fetchURL(t, fsx.Root(t.TempDir()), p, url)
			if got.code != c.code || (got.code == 0) != regexp.MustCompile(`^\d{10}\n$`).MatchString(got.out) {
				t.Errorf("%+v, want code %d", got, c.code)
			}
			if strings.Trim(got.err, printable) != "" {
				t.Errorf("unprintable: %q", got.err)
			}
		})
	}
}

const printable = "\n\t !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"

// TestRequestOnTheWire: the very bytes.
func TestRequestOnTheWire(t *testing.T) {
	requests := make(chan string, 4)
	p := newProxy(t, func(_ asked, c net.Conn) {
		requests <- readRequest(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nDate: "+requestTime+"\r\n\r\n")
	})
	got := fetchURL(t, fsx.Root(t.TempDir()), p, "http://"+onionName(1)+":8080/a?b=c#d")
	want := "HEAD /a?b=c HTTP/1.1\r\nHost: " + onionName(1) + ":8080\r\nUser-Agent: " + defaultUserAgent + "\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	if text := <-requests; text != want || got.code != 0 {
		t.Errorf("%q, %+v", text, got)
	}
	if got.err != "data: <Response [200]>\nhttp_time: "+requestTime+"\nparsed_unixtime: 1805698966\n" {
		t.Errorf("%q", got.err)
	}
}

// TestRequestRetriesWithGet: where HEAD is not understood, GET is, on a circuit
// of its own.
func TestRequestRetriesWithGet(t *testing.T) {
	for name, refusal := range map[string]string{"405": "HTTP/1.1 405 No\r\nDate: " + requestTime + "\r\n\r\n", "501": "HTTP/1.1 501 No\r\n\r\n",
		"no Date": "HTTP/1.1 200 OK\r\n\r\n", "end of stream": ""} {
		p := newProxy(t, func(_ asked, c net.Conn) {
			answer := refusal
			if strings.HasPrefix(readRequest(c), "GET ") {
				answer = "HTTP/1.1 200 OK\r\nDate: " + requestTime + "\r\n\r\nbody"
			}
			_, _ = io.WriteString(c, answer)
		})
		url := "http://" + onionName(1)
		root := fsx.Root(t.TempDir())
		if got := fetchURL(t, root, p, url); got.code != 0 || len(p.seen()) != 2 {
			t.Errorf("%s: %+v, %d requests", name, got, len(p.seen()))
		}
		if s := p.seen(); s[0].User == s[1].User || s[0].Password == s[1].Password {
			t.Errorf("%s: both on one circuit", name)
		}
		if fetchURL(t, root, p, url, "--method=HEAD"); len(p.seen()) != 3 {
			t.Errorf("%s: HEAD alone: %d requests", name, len(p.seen()))
		}
	}
}

// TestAcceptance10_Redirect: a redirect's own Date counts, and nobody is asked
// at its destination, be it in the clear or on this machine.
func TestAcceptance10_Redirect(t *testing.T) {
	for _, to := range []string{"http://clearnet.example/", "http://127.0.0.1:9051/", "https://" + onionName(2) + "/"} {
		p := newProxy(t, says("HTTP/1.1 302 Found\r\nLocation: "+to+"\r\nDate: "+requestTime+"\r\n\r\n"))
		got := fetchURL(t, fsx.Root(t.TempDir()), p, "http://"+onionName(1))
		if seen := p.seen(); got.code != 0 || got.out != "1805698966\n" || len(seen) != 1 || seen[0].Host != onionName(1) {
			t.Errorf("%s: %+v, %+v", to, got, seen)
		}
	}
}

// TestAcceptance11_EndlessBody: done at the head's end, the connection closed,
// little memory used.
func TestAcceptance11_EndlessBody(t *testing.T) {
	ended := make(chan int, 1)
	p := newProxy(t, func(_ asked, c net.Conn) {
		readRequest(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nDate: "+requestTime+"\r\n\r\n")
		total, block := 0, make([]byte, 64<<10)
		for {
			n, err := c.Write(block)
			if total += n; err != nil {
				ended <- total
				return
			}
		}
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := fetchURL(t, fsx.Root(t.TempDir()), p, "http://"+onionName(1))
	runtime.ReadMemStats(&after)
	if got.code != 0 {
		t.Errorf("%+v", got)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the connection is still open")
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
		t.Errorf("%d bytes were allocated", used)
	}
}

// TestHeadOf10MiB: ends at the limit.
func TestHeadOf10MiB(t *testing.T) {
	p := newProxy(t, func(_ asked, c net.Conn) {
		readRequest(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		_, _ = c.Write(bytes.Repeat([]byte("X: "+strings.Repeat("y", 1000)+"\r\n"), 10<<10))
	})
	if got := fetchURL(t, fsx.Root(t.TempDir()), p, "http://"+onionName(1)); got.code != 5 || !strings.Contains(got.err, "more than 32768 bytes") {
		t.Errorf("%+v", got)
	}
}

// TestAcceptance12_Dates is TestRequest's table by its codes.
func TestAcceptance12_Dates(t *testing.T) {
	for text, want := range map[string]error{
		"Mon, 22 Mar 2027 07:02:46 +0500": errDateForm, "Tue, 22 Mar 2027 07:02:46 GMT": errDateForm, "2027-03-22T07:02:46Z": errDateLength,
		"Mon, 2 Mar 2027 07:02:46 GMT": errDateLength, "Mon, 01 Jan 2300 00:00:00 GMT": errDateLate, "00000000000000000000000000012": errDateForm,
		"mon, 22 mar 2027 07:02:46 gmt": errDateForm, "Mon, 30 Feb 2026 07:02:46 GMT": errDateForm, "Thu, 01 Jan 1970 00:00:01 GMT": nil,
	} {
		if _, err := parseDate(text); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
	esc := finding{settled: settled{order: order{Source: source{URL: "http://x"}}, Status: statusError}, Outcome: outcome{Exit: 6, Stderr: []byte("http_time: \x1b[2J")}}
	var out bytes.Buffer
	l := &logger{out: &out, raw: &out, now: time.Now}
	esc.print(l, evidence{})
	l.infof("%s", "\x1b[31mred\u009b <b>x</b>")
	if strings.Trim(out.String(), printable) != "" {
		t.Errorf("%q", out.String())
	}
}

// TestAcceptance13_Isolation: username and password always, always new; names go
// to the proxy.
func TestAcceptance13_Isolation(t *testing.T) {
	p := newProxy(t, says("HTTP/1.1 200 OK\r\nDate: "+requestTime+"\r\n\r\n"))
	root := fsx.Root(t.TempDir())
	const times = 20
	for i := range times {
		if got := fetchURL(t, root, p, "http://"+onionName(i%3)); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	known := map[string]bool{}
	for _, a := range p.seen() {
		if string(a.Methods) != "\x02" || a.Type != 3 || len(a.User) != 32 || len(a.Password) != 32 || known[a.User] || known[a.Password] || strings.Trim(a.User+a.Password, "0123456789abcdef") != "" {
			t.Errorf("%+v", a)
		}
		known[a.User], known[a.Password] = true, true
	}
	if len(p.seen()) != times {
		t.Errorf("%d requests", len(p.seen()))
	}
}

// TestProxies: dead, refusing, lying and silent ones.
func TestProxies(t *testing.T) {
	url := "http://" + onionName(1)
	root := fsx.Root(t.TempDir())
	p := newProxy(t, says("HTTP/1.1 200 OK\r\nDate: "+requestTime+"\r\n\r\n"))
	p.method = 0
	got := fetchURL(t, root, p, url, "--json")
	if a, err := parseAnswer([]byte(got.out)); got.code != 0 || err != nil || !a.Unisolated || a.Unixtime != 1805698966 {
		t.Errorf("a proxy without passwords: %+v, %v", got, err)
	}
	for code, text := range map[byte]string{1: "general", 4: "host", 0xf0: "descriptor", 0xf6: "onion", 0x77: "0x77"} {
		q := newProxy(t, nil)
		q.reply = code
		if got := fetchURL(t, root, q, url); got.code != 5 || !strings.HasPrefix(got.err, "connect error: ") {
			t.Errorf("reply %#x (%s): %+v", code, text, got)
		}
	}
	for name, raw := range map[string]string{"HTTP": "HTTP/1.1 400 Bad Request\r\n\r\n", "SOCKS 4": "\x04\x5a", "nothing": ""} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, raw)
				c.Close()
			}
		}()
		if got := fetchURL(t, root, &proxy{Listener: l}, url); got.code != 5 || !strings.HasPrefix(got.err, "connect error: ") {
			t.Errorf("%s: %+v", name, got)
		}
		l.Close()
		if got := fetchURL(t, root, &proxy{Listener: l}, url); got.code != 5 || !strings.HasPrefix(got.err, "connect error: ") {
			t.Errorf("dead: %+v", got)
		}
	}
}

// TestSlowProxy: one that never answers costs no more than the time allowed.
func TestSlowProxy(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	p := newProxy(t, func(asked, net.Conn) { <-release })
	defer close(release)
	target, err := parseURL("http://" + onionName(1))
	if err != nil {
		t.Fatal(err)
	}
	r := request{Proxy: mustAddrPort(t, p), Target: target, Method: "auto", Now: time.Now, Raw: monotonicRaw}
	begin := time.Now()
	if _, err := r.do(ctx); err == nil || time.Since(begin) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

// authority signs certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// server serves TLS with a certificate for host, valid in the years given.
func (a *authority) server(t *testing.T, host string, from, until int, serve func(asked, net.Conn)) func(asked, net.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{host}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Date(from, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(until, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func(q asked, c net.Conn) { serve(q, tls.Server(c, config)) }
}

// TestAcceptance14_Certificates: an onion service's certificate is judged at the
// time that its server claims, which must be possible; another's now.
func TestAcceptance14_Certificates(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	root := fsx.Root(t.TempDir())
	write(t, root, caBundle, a.pem)
	date := func(year int) func(asked, net.Conn) {
		return says("HTTP/1.1 200 OK\r\nDate: " + time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC).Format("Mon, 02 Jan 2006 15:04:05 GMT") + "\r\n\r\n")
	}
	onion, clear := onionName(1), "time.example"
	this := time.Now().Year()
	for _, c := range []struct {
		name, host, certified string
		by                    *authority
		from, until, year     int
		code                  int
	}{
		{"onion, valid at the claimed time only", onion, onion, a, 2030, 2040, 2031, 0},
		{"onion, expired at the claimed time", onion, onion, a, 2020, 2029, 2031, 5},
		{"onion, claims what is impossible", onion, onion, a, 2010, 2040, 2012, 5},
		{"onion, claims the far future", onion, onion, a, 2010, 2059, 2050, 5},
		{"onion, another name", onion, onionName(2), a, 2010, 2040, 2031, 5},
		{"onion, unknown authority", onion, onion, stranger, 2010, 2040, 2031, 5},
		{"clearnet, valid now", clear, clear, a, 2010, 2040, this, 0},
		{"clearnet, valid later", clear, clear, a, this + 4, this + 14, this + 5, 5},
		{"clearnet, expired", clear, clear, a, 2010, 2015, 2012, 5},
		{"clearnet, another name", clear, "other.example", a, 2010, 2040, this, 5},
		{"clearnet, unknown authority", clear, clear, stranger, 2010, 2040, this, 5},
	} {
		p := newProxy(t, c.by.server(t, c.certified, c.from, c.until, date(c.year)))
		if got := fetchURL(t, root, p, "https://"+c.host); got.code != c.code {
			t.Errorf("%s: %+v, want code %d", c.name, got, c.code)
		}
	}
}

// TestAcceptance15_Environment: the variables of fetchURL have no effect, neither
// on where nor on what is sent; here, on trust, and with a .netrc.
func TestAcceptance15_Environment(t *testing.T) {
	a := newAuthority(t)
	root := fsx.Root(t.TempDir())
	write(t, root, caBundle, a.pem)
	home := t.TempDir()
	write(t, fsx.Root(home), "/.netrc", "default login me password secret\n")
	for key, value := range map[string]string{"NO_PROXY": "*", "HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1",
		"REQUESTS_CA_BUNDLE": "/nonexistent", "SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent", "HOME": home} {
		t.Setenv(key, value)
	}
	requests := make(chan string, 1)
	p := newProxy(t, a.server(t, onionName(1), 2010, 2040, func(_ asked, c net.Conn) {
		requests <- readRequest(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nDate: "+requestTime+"\r\n\r\n")
	}))
	got := fetchURL(t, root, p, "https://"+onionName(1))
	if text := <-requests; got.code != 0 || strings.Contains(text, "Authorization") || !strings.HasPrefix(text, "HEAD / HTTP/1.1\r\nHost: "+onionName(1)+"\r\n") {
		t.Errorf("%+v, %q", got, text)
	}
}

// TestArguments: both forms, and what is wrong.
func TestArguments(t *testing.T) {
	for args, code := range map[string]int{
		"": 7, "127.0.0.1 9050": 7, "localhost 9050 http://" + onionName(1) + " true": 7, "127.0.0.1 0 http://" + onionName(1) + " true": 7,
		"127.0.0.1 port http://" + onionName(1) + " true": 7, "127.0.0.1 9050 ftp://" + onionName(1) + " true": 7,
		"127.0.0.1 9050 http://user@" + onionName(1) + " true": 7, "127.0.0.1 9050 http://127.0.0.1/ true": 7, "--nonsense": 7,
		"--method=POST 127.0.0.1 9050 http://" + onionName(1) + " true": 7, "127.0.0.1 9050 http://localhost/ true": 7,
	} {
		var out, errOut bytes.Buffer
		env := cli.Env{Args: append([]string{"url_to_unixtime"}, strings.Fields(args)...), Stdout: &out, Stderr: &errOut, Now: time.Now}
		if got := cli.Run(context.Background(), env, urlToUnixtimeAt(fsx.Root(t.TempDir()))); got != code || out.Len() > 0 || strings.Count(errOut.String(), "\n") != 1 {
			t.Errorf("%s: %d, %q, %q", args, got, out.String(), errOut.String())
		}
	}
	p := newProxy(t, says("HTTP/1.1 200 OK\r\nDate: "+requestTime+"\r\n\r\n"))
	host, port, _ := net.SplitHostPort(p.Addr().String())
	var out bytes.Buffer
	env := cli.Env{Args: []string{"url_to_unixtime", host, port, onionName(1), "81", "false"}, Stdout: &out, Stderr: io.Discard, Now: time.Now}
	if code := cli.Run(context.Background(), env, urlToUnixtimeAt(fsx.Root(t.TempDir()))); code != 0 || out.String() != "1805698966\n" || p.seen()[0].Port != 81 {
		t.Errorf("the form of 2020: %d, %q, %+v", code, out.String(), p.seen())
	}
}

func mustAddrPort(t *testing.T, l net.Listener) (out netip.AddrPort) {
	t.Helper()
	out = l.Addr().(*net.TCPAddr).AddrPort()
	return out
}

// TestStamps: what the child measures is when the answer's head began.
func TestStamps(t *testing.T) {
	const delay = 300 * time.Millisecond
	p := newProxy(t, func(_ asked, c net.Conn) {
		readRequest(c)
		time.Sleep(delay) // what is measured
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nDate: %s\r\n", requestTime)
		time.Sleep(delay)
		_, _ = io.WriteString(c, "\r\n")
	})
	before := monotonicRaw()
	got := fetchURL(t, fsx.Root(t.TempDir()), p, "http://"+onionName(1), "--json")
	after, now := monotonicRaw(), time.Now()
	a, err := parseAnswer([]byte(got.out))
	if err != nil || got.code != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	if rtt := time.Duration(a.RTT); rtt < delay || rtt > after-before-delay {
		t.Errorf("round trip %v of %v", rtt, after-before)
	}
	if err := a.check(span{BeginRaw: before, EndRaw: after, EndReal: now}); err != nil {
		t.Error(err)
	}
	for name, wrong := range map[string]answer{"early": {RTT: a.RTT, Raw: int64(before), Realtime: a.Realtime}, "late": {RTT: a.RTT, Raw: int64(after) + 1, Realtime: a.Realtime},
		"another clock": {RTT: a.RTT, Raw: a.Raw, Realtime: a.Realtime + int64(time.Second)}} {
		if wrong.check(span{BeginRaw: before, EndRaw: after, EndReal: now}) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
