// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// run is a client's output for an input.
func run(t *testing.T, stdin string, name string, arg ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, arg...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s %s: %v: %s", name, strings.Join(arg, " "), err, stderr.String())
	}
	return string(out)
}

// TestClients: what people have speaks through both relays.
func TestClients(t *testing.T) {
	echo := echoServer(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Repeat("page\n", 1<<20)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.Copy(w, r.Body)
			return
		}
		_, _ = io.WriteString(w, page)
	})}
	go func() { _ = web.Serve(l) }()
	defer web.Close()
	m := newMachine(t)
	ports := freePorts(t, 2)
	path := m.root.Path("/run/s")
	m.write(userDropIn, fmt.Sprintf("socat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%s &\nsocat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%s &\nsocat UNIX-LISTEN:%[5]s,fork TCP:%[2]s &\n", ports[0], echo, ports[1], l.Addr(), path))
	r := m.redirect()
	eventually(t, "the relays", func() bool { return strings.Count(r.stdout.String(), ": listens\n") == 3 })
	p, q := startProxyd(t, echo), startProxyd(t, l.Addr().String())
	for _, to := range []string{"127.0.0.1:" + ports[0], p.tcp} {
		// The client ends its direction at once, and waits for the answer.
		if got := run(t, "through socat", "socat", "-t30", "-", "TCP:"+to); got != "through socat" {
			t.Errorf("socat to %s: %q", to, got)
		}
		host, port, _ := net.SplitHostPort(to)
		if got := run(t, "through nc\n", "busybox", "nc", host, port); got != "through nc\n" {
			t.Errorf("nc to %s: %q", to, got)
		}
	}
	for _, to := range []string{path, p.path} {
		if got := run(t, "through socat", "socat", "-t30", "-", "UNIX-CONNECT:"+to); got != "through socat" {
			t.Errorf("socat to %s: %q", to, got)
		}
	}
	for _, to := range []string{"127.0.0.1:" + ports[1], q.tcp} {
		if got := run(t, "", "curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "http://"+to+"/"); got != page {
			t.Errorf("curl from %s: %d bytes", to, len(got))
		}
		if got := run(t, page, "curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--data-binary", "@-", "http://"+to+"/"); got != page {
			t.Errorf("curl to %s: %d bytes", to, len(got))
		}
	}
}

// TestTorControl: a real tor answers on its control port, as the programs of a
// Workstation find it.
func TestTorControl(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	torrc := dir + "/torrc"
	if err := os.WriteFile(torrc, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	control := freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	tor := exec.CommandContext(ctx, "tor", "-f", torrc, "--defaults-torrc", torrc, "--DataDirectory", dir, "--DisableNetwork", "1", "--SocksPort", "0",
		"--ControlPort", "127.0.0.1:"+control, "--CookieAuthentication", "0", "--Log", "err stdout")
	var out lines
	tor.Stdout, tor.Stderr = &out, &out
	if err := tor.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = tor.Wait() }()
	eventually(t, "tor's control port: "+out.String(), func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+control)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	m := newMachine(t)
	path := m.root.Path("/run/tor/control")
	m.write(userDropIn, "socat UNIX-LISTEN:"+path+",fork,mode=666 TCP:127.0.0.1:"+control+" &\n")
	r := m.redirect()
	eventually(t, "the relay", func() bool { return strings.Contains(r.stdout.String(), ": listens\n") })
	p := startProxyd(t, "127.0.0.1:"+control)
	for network, to := range map[string]string{"tcp": p.tcp, "unix": path} {
		c := connect(t, network, to)
		if _, err := io.WriteString(c, "PROTOCOLINFO 1\r\nAUTHENTICATE\r\nGETINFO version\r\nQUIT\r\n"); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c) // tor closes
		for _, want := range []string{"250-PROTOCOLINFO 1\r\n", "250-VERSION Tor=", "250-version=", "250 closing connection\r\n"} {
			if !strings.Contains(string(got), want) {
				t.Errorf("%s: no %q in %q: %v", network, want, got, err)
			}
		}
	}
}

// socksServer serves SOCKS 4A and 5 as far as a CONNECT to a name goes, which
// leads to the given address, and tells what it was asked for.
func socksServer(t *testing.T, to string) (address string, asked <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	names := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				name, answer, err := socksRequest(r, c)
				if err != nil {
					return
				}
				names <- name
				if strings.Contains(name, "refused") {
					answer[1]++
					_, _ = c.Write(answer)
					return
				}
				d, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer d.Close()
				if _, err := c.Write(answer); err != nil {
					return
				}
				go func() { _, _ = io.Copy(d, r); _ = d.(*net.TCPConn).CloseWrite() }()
				_, _ = io.Copy(c, d)
			}()
		}
	}()
	return l.Addr().String(), names
}

func socksRequest(r *bufio.Reader, w io.Writer) (name string, answer []byte, err error) {
	version, err := r.ReadByte()
	if err != nil {
		return "", nil, err
	}
	if version == 4 {
		head := make([]byte, 7)
		if _, err := io.ReadFull(r, head); err != nil {
			return "", nil, err
		}
		user, err := r.ReadString(0)
		host, err2 := r.ReadString(0)
		return fmt.Sprintf("4a %s:%d by %q", strings.TrimSuffix(host, "\x00"), binary.BigEndian.Uint16(head[1:]), strings.TrimSuffix(user, "\x00")), []byte{0, 90, 0, 0, 0, 0, 0, 0}, errors.Join(err, err2)
	}
	count, err := r.ReadByte()
	if err != nil {
		return "", nil, err
	}
	if _, err := io.CopyN(io.Discard, r, int64(count)); err != nil {
		return "", nil, err
	}
	if _, err := w.Write([]byte{5, 0}); err != nil {
		return "", nil, err
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", nil, err
	}
	host := make([]byte, int(head[4])+2)
	_, err = io.ReadFull(r, host)
	return fmt.Sprintf("5 %s:%d", host[:head[4]], binary.BigEndian.Uint16(host[head[4]:])), []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}, err
}

// TestSOCKS: names go to the proxy as they are; what it refuses ends that
// connection.
func TestSOCKS(t *testing.T) {
	proxy, asked := socksServer(t, echoServer(t))
	_, proxyPort, _ := net.SplitHostPort(proxy)
	m := newMachine(t)
	p := freePorts(t, 4)
	m.write(userDropIn, fmt.Sprintf(`socat TCP-LISTEN:%s,fork,bind=127.0.0.1 SOCKS4A:127.0.0.1:a.onion:80,socksport=%s,socksuser=me &
socat TCP-LISTEN:%[3]s,fork,bind=127.0.0.1 SOCKS5:127.0.0.1:%[2]s:b.onion:81 &
socat TCP-LISTEN:%[4]s,fork,bind=127.0.0.1 SOCKS4A:127.0.0.1:refused.onion:80,socksport=%[2]s &
socat TCP-LISTEN:%[5]s,fork,bind=127.0.0.1 SOCKS5-CONNECT:127.0.0.1:refused.onion:81,socksport=%[2]s &
`, p[0], proxyPort, p[1], p[2], p[3]))
	r := m.redirect()
	eventually(t, "the relays", func() bool { return strings.Count(r.stdout.String(), ": listens\n") == len(p) })
	for i, want := range []string{`4a a.onion:80 by "me"`, "5 b.onion:81", `4a refused.onion:80 by ""`, "5 refused.onion:81"} {
		c := connect(t, "tcp", "127.0.0.1:"+p[i])
		if strings.Contains(want, "refused") {
			if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
				t.Errorf("%s: %q %v", want, got, err)
			}
		} else {
			echoes(t, c)
		}
		if got := <-asked; got != want {
			t.Errorf("asked for %s, want %s", got, want)
		}
	}
	eventually(t, "both complaints", func() bool {
		return strings.Contains(r.stderr.String(), "does not grant the request (code 91)\n") && strings.Contains(r.stderr.String(), "the SOCKS server says: general failure\n")
	})
}

// TestOptions: who may connect, how many at a time, and for how long in
// silence.
func TestOptions(t *testing.T) {
	to := echoServer(t)
	m := newMachine(t)
	p := freePorts(t, 4)
	m.write(userDropIn, fmt.Sprintf(`socat TCP-LISTEN:%s,fork,bind=127.0.0.1,range=10.0.0.0/8 TCP:%s &
socat TCP-LISTEN:%s,fork,bind=127.0.0.1,range=127.0.0.1/32,keepalive,nodelay,reuseaddr,backlog=3 TCP:%[2]s,connect-timeout=9,bind=127.0.0.9 &
socat -T 0.3 TCP-LISTEN:%[4]s,fork,bind=127.0.0.1 TCP:%[2]s &
socat TCP-LISTEN:%[5]s,fork,bind=127.0.0.1,max-children=1 TCP:%[2]s &
`, p[0], to, p[1], p[2], p[3]))
	r := m.redirect()
	eventually(t, "the relays", func() bool { return strings.Count(r.stdout.String(), ": listens\n") == len(p) })
	if got, err := io.ReadAll(connect(t, "tcp", "127.0.0.1:"+p[0])); len(got) > 0 {
		t.Errorf("out of range: %q %v", got, err)
	}
	eventually(t, "the refusal", func() bool { return strings.Contains(r.stderr.String(), ": refused a connection from 127.0.0.1:") })
	echoes(t, connect(t, "tcp", "127.0.0.1:"+p[1]))
	silent := connect(t, "tcp", "127.0.0.1:"+p[2])
	echoes(t, silent)
	if n, err := silent.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("in silence: %d %v", n, err)
	}
	first, second := connect(t, "tcp", "127.0.0.1:"+p[3]), connect(t, "tcp", "127.0.0.1:"+p[3])
	echoes(t, first)
	if _, err := second.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the limit", func() bool {
		return strings.Contains(r.stdout.String(), ": has as many connections as it may have: more wait\n")
	})
	first.Close()
	if _, err := io.ReadFull(second, make([]byte, 5)); err != nil {
		t.Errorf("the one that waited: %v", err)
	}
}

// TestDefect21_Restart: the port of a relay that was used can be had again at
// once.
func TestDefect21_Restart(t *testing.T) {
	// The server ends first, so the relay does to its client, and its end of
	// that connection is the one that stays in TIME_WAIT.
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
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	}()
	m := newMachine(t)
	port := freePort(t)
	m.write(userDropIn, "socat TCP-LISTEN:"+port+",fork,bind=127.0.0.1 TCP:"+l.Addr().String()+" &\n")
	for range 3 {
		r := m.redirect()
		eventually(t, "the relay", func() bool { return strings.Contains(r.stdout.String(), ": listens\n") })
		c := connect(t, "tcp", "127.0.0.1:"+port)
		if got, err := io.ReadAll(c); string(got) != "hello" {
			t.Errorf("%q %v", got, err)
		}
		c.Close() // or the relay would wait for its end
		r.cancel()
		if code := r.end(t); code != 143 || r.stderr.String() != "" {
			t.Errorf("%d %q", code, r.stderr.String())
		}
	}
}

// TestFallback: where the first address of a name does not answer, the next is
// tried, by both programs.
func TestFallback(t *testing.T) {
	to := echoServer(t) // on 127.0.0.1
	_, port, _ := net.SplitHostPort(to)
	m := built(t)
	m.write("/etc/hosts", "127.0.0.2 gateway\n::1 gateway\n127.0.0.1 gateway\n")
	own := freePort(t)
	m.write(userDropIn, "socat TCP-LISTEN:"+own+",fork,bind=127.0.0.1 TCP:gateway:"+port+" &\n")
	_, _, stderr := m.alone()
	eventually(t, "the relay", func() bool { return reaches("tcp", "127.0.0.1:"+own) })
	if stderr.String() != "" {
		t.Errorf("%q", stderr.String())
	}
	build := exec.Command("go", "build", "-o", m.root.Path("/whonix-socket-proxyd"), "whonix-networking/cmd/whonix-socket-proxyd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := &started{t: t, root: string(m.root)}
	p.start("gateway:" + port)
	c := connect(t, "tcp", p.tcp)
	echoes(t, c)
	c.Close() // or the program would wait for its end
	p.stop()
	if p.stderr.Len() > 0 {
		t.Errorf("%q", p.stderr.String())
	}
	p = &started{t: t, root: string(m.root)}
	p.start("nowhere.invalid:1")
	if got, err := io.ReadAll(connect(t, "tcp", p.tcp)); len(got) > 0 || err != nil {
		t.Errorf("%q %v", got, err)
	}
	p.stop()
	if got := p.stderr.String(); !strings.HasPrefix(got, "Failed to resolve host: ") || strings.Count(got, "\n") != 1 {
		t.Errorf("%q", got)
	}
}
