// SPDX-License-Identifier: GPL-3.0-or-later

//go:build vmtest

package house

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha3"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/torctl/tortest"
	"whonix-networking/pkg/whonix"
)

// Accounts of the services.
const (
	graterID = 201 + iota
	sdwdateID
	torID
)

// must runs a program that is not confined.
func must(t *testing.T, words ...string) {
	t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
}

// folder makes a folder that belongs to an account.
func folder(t *testing.T, path string, id int) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(path, 0o755), os.Chown(path, id, id)); err != nil {
		t.Fatal(err)
	}
}

func file(t *testing.T, path, text string, mode os.FileMode, group int) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode), os.Chown(path, 0, group)); err != nil {
		t.Fatal(err)
	}
}

// standIn is a scripted Tor, with a cookie that the group may read.
func standIn(t *testing.T, network, address string, group int) *tortest.Tor {
	t.Helper()
	folder(t, "/run/tor", torID)
	cookie := strings.Repeat("c", 32)
	file(t, "/run/tor/control.authcookie", cookie, 0o640, group)
	tor := &tortest.Tor{Cookie: []byte(cookie), CookieFile: "/run/tor/control.authcookie"}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if network == "unix" {
		if err := os.Chmod(address, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	tor.Serve(l)
	t.Cleanup(tor.Close)
	return tor
}

// serviceManager takes what a daemon tells the service manager.
func serviceManager(t *testing.T) (env []string, ready func(*process)) {
	t.Helper()
	path := "/run/systemd/notify"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(c.Close(), os.Remove(path)) })
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	return []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=1000000"}, func(p *process) {
		t.Helper()
		seen, end := "", time.Now().Add(long)
		for buffer := make([]byte, 4096); !strings.Contains(seen, "READY=1") || !strings.Contains(seen, "WATCHDOG=1"); {
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			n, err := c.Read(buffer)
			seen += string(buffer[:n]) + "\n"
			if p.ended() || time.Now().After(end) {
				t.Fatalf("it said %q (%v):\n%s", seen, err, p.out)
			}
		}
	}
}

// asks sends lines to the control port filter from a Workstation's address.
func asks(t *testing.T, from, to string, exchange ...[2]string) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: long}
	c, err := d.Dial("tcp", net.JoinHostPort(to, whonix.ControlPortText))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(long))
	in := bufio.NewReader(c)
	for _, e := range exchange {
		if _, err := io.WriteString(c, e[0]+"\r\n"); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", e[0], err)
			}
			if line[3] == ' ' {
				if got := strings.TrimSpace(line); got != e[1] {
					t.Errorf("%s: %q", e[0], got)
				}
				break
			}
		}
	}
}

func (a *armor) onionGrater(t *testing.T) {
	const profile = "/usr/lib/onion-grater"
	as := account{uid: graterID, gid: graterID, noNewPrivileges: true}
	file(t, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nonion-grater:x:201:201::/run/onion-grater:/bin/false\nsdwdate:x:202:202::/run/sdwdate:/bin/false\n"+
		"debian-tor:x:203:203::/var/lib/tor:/bin/false\nclearnet:x:204:204::/:/bin/false\nsystemcheck:x:205:205::/:/bin/false\ntunnel:x:206:206::/:/bin/false\nnotunnel:x:207:207::/:/bin/false\nuser:x:1000:1000::/home/user:/bin/sh\n", 0o644, 0)
	file(t, "/etc/onion-grater-merger.d/30_test.yml", "- exe-paths: ['*']\n  users: ['*']\n  hosts: ['*']\n  commands: {GETINFO: [version], SIGNAL: [NEWNYM]}\n", 0o644, 0)
	must(t, "/usr/lib/onion-grater-merger")
	for _, args := range [][]string{
		{"link", "add", "eth1", "type", "dummy"}, {"link", "set", "eth1", "up"},
		{"address", "add", whonix.GatewayIP + "/18", "dev", "eth1"}, {"-6", "address", "add", whonix.GatewayIP6 + "/96", "dev", "eth1"},
		{"address", "add", whonix.WorkstationIP + "/32", "dev", "lo"}, {"-6", "address", "add", whonix.WorkstationIP6 + "/128", "dev", "lo"},
	} {
		must(t, append([]string{"/bin/ip"}, args...)...)
	}
	for _, words := range [][]string{{"--version"}, {"--help"}, {"--check"}, {"--test-line", whonix.WorkstationIP, "GETINFO version"}} {
		a.run(t, profile, as, append([]string{profile}, words...)...)
	}
	tor := standIn(t, "tcp", net.JoinHostPort(whonix.LoopbackIP, whonix.TorControlPortText), graterID)
	tor.Answer("GETINFO version", "250-version="+tortest.Version, "250 OK")
	tor.Answer("SIGNAL NEWNYM", "250 OK")
	folder(t, "/run/onion-grater", graterID)
	env, ready := serviceManager(t)
	p := a.start(t, profile, as, env, profile, "--listen-interface", "eth1", "--listen-port", whonix.ControlPortText, "--debug", "--learn", "/run/onion-grater/learned.yml")
	ready(p)
	asks(t, whonix.WorkstationIP, whonix.GatewayIP, [2]string{"GETINFO version", "250 OK"}, [2]string{"SIGNAL NEWNYM", "250 OK"}, [2]string{"GETINFO address", "510 Command filtered"}, [2]string{"QUIT", "250 closing connection"})
	asks(t, whonix.WorkstationIP6, whonix.GatewayIP6, [2]string{"GETINFO version", "250 OK"})
	p.signal(syscall.SIGHUP)
	p.says(`reload: 1 filters are in use`)
	p.signal(syscall.SIGUSR1)
	p.says(`(?m)^.*connections`)
	p.signal(syscall.SIGTERM)
	p.ends(0, 143)
	if _, err := os.Stat("/run/onion-grater/learned.yml"); err != nil {
		t.Error(err)
	}
	a.allowed(t)
	a.onLoopback(t, as)
}

// onLoopback is a client on the Gateway itself: who it is cannot be found, and it is
// closed; and Tor's socket in the place of its port.
func (a *armor) onLoopback(t *testing.T, as account) {
	const profile = "/usr/lib/onion-grater"
	standIn(t, "unix", "/run/tor/control", graterID).Answer("GETINFO version", "250-version="+tortest.Version, "250 OK")
	p := a.start(t, profile, as, nil, profile, "--listen-address", whonix.LoopbackIP, "--listen-port", whonix.ControlPortText, "--control-socket-path", "/run/tor/control")
	p.says(`listening on`)
	c, err := net.Dial("tcp", net.JoinHostPort(whonix.LoopbackIP, whonix.ControlPortText))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.says(`cannot identify client`)
	p.signal(syscall.SIGTERM)
	p.ends(0, 143)
	a.allowed(t)
}

// proxy is a SocksPort behind which every server knows the time.
func proxy(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
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
				_ = serveTime(c)
			}()
		}
	}()
}

// serveTime is one connection of SOCKS 5 with a password, to a server of HTTP/1.1.
func serveTime(c net.Conn) error {
	in := bufio.NewReader(c)
	some := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(in, b)
		return b
	}
	some(int(some(2)[1])) // methods
	if _, err := c.Write([]byte{5, 2}); err != nil {
		return err
	}
	some(int(some(2)[1]))
	some(int(some(1)[0]))
	if _, err := c.Write([]byte{1, 0}); err != nil {
		return err
	}
	some(int(some(5)[4]) + 2) // to a name
	if _, err := c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return err
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", time.Now().UTC().Format(time.RFC1123[:len(time.RFC1123)-3]+"GMT"))
	return err
}

// onion is an address of version 3.
func onion(n byte) string {
	key, version := bytes.Repeat([]byte{n}, 32), byte(3)
	sum := sha3.Sum256(append(append([]byte(".onion checksum"), key...), version))
	address := base32.StdEncoding.EncodeToString(append(append(key, sum[:2]...), version))
	return "http://" + strings.ToLower(address) + ".onion"
}

func (a *armor) urlToUnixtime(t *testing.T) {
	const program = "/usr/bin/url-to-unixtime"
	as := account{uid: sdwdateID, gid: sdwdateID, noNewPrivileges: true}
	a.run(t, "url-to-unixtime", as, program, "--version")
	a.run(t, "url-to-unixtime", as, program, "--help")
	proxy(t, net.JoinHostPort(whonix.LoopbackIP, whonix.DefaultPortText))
	p := a.start(t, "url-to-unixtime", as, nil, program, whonix.LoopbackIP, whonix.DefaultPortText, onion(0), "true")
	p.ends(0)
	a.allowed(t)
}

func (a *armor) sdwdate(t *testing.T) {
	const program = "/usr/libexec/sdwdate/sdwdate"
	as := account{uid: sdwdateID, gid: sdwdateID, caps: []uintptr{unix.CAP_SYS_TIME}, noNewPrivileges: true}
	folder(t, "/run/sdwdate", sdwdateID)
	folder(t, "/var/lib/sdwdate", sdwdateID)
	var pools strings.Builder
	for i, pool := range []string{"ZERO", "ONE", "TWO"} {
		fmt.Fprintf(&pools, "SDWDATE_POOL_%s=(\n  %q\n  %q\n)\n", pool, onion(byte(2*i))+" # one", onion(byte(2*i+1))+" # two")
	}
	file(t, "/etc/sdwdate.d/50_test.conf", pools.String()+"PROXY_IP="+whonix.LoopbackIP+"\nPROXY_PORT="+strconv.Itoa(whonix.SdwdatePort)+"\n", 0o644, 0)
	for _, words := range [][]string{{"--version"}, {"--help"}, {"--check-config"}, {"--show-pools"}, {"--check-netvm"}} {
		a.run(t, "sdwdate", as, append([]string{program}, words...)...)
	}
	a.allowed(t)
	tor := standIn(t, "unix", "/run/tor/control", sdwdateID)
	const layout = "2006-01-02 15:04:05"
	now := time.Now().UTC()
	for key, value := range map[string]string{
		"status/circuit-established": "1", "dormant": "0", "status/bootstrap-phase": `NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"`,
		"consensus/valid-after": now.Add(-time.Hour).Format(layout), "consensus/valid-until": now.Add(2 * time.Hour).Format(layout),
	} {
		tor.Answer("GETINFO "+key, "250-"+key+"="+value, "250 OK")
	}
	proxy(t, net.JoinHostPort(whonix.LoopbackIP, strconv.Itoa(whonix.SdwdatePort)))
	env, ready := serviceManager(t)
	p := a.start(t, "sdwdate", as, append(env, "HOME=/run/sdwdate"), program)
	ready(p)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	for _, err := os.Stat("/run/sdwdate/first_success"); err != nil; _, err = os.Stat("/run/sdwdate/first_success") {
		select {
		case <-ctx.Done():
			t.Fatalf("the clock was not set:\n%s", p.out)
		case <-time.After(100 * time.Millisecond): // another program makes it
		}
	}
	a.run(t, "sdwdate", as, program, "--status")
	p.signal(syscall.SIGHUP)
	p.signal(syscall.SIGTERM)
	p.ends(0, 143)
	a.allowed(t)
}

func (a *armor) firewall(t *testing.T) {
	root := account{}
	const enable, restarter = "/usr/libexec/whonix-firewall/enable-firewall", "/usr/libexec/whonix-firewall/firewall-restarter"
	file(t, "/usr/share/anon-gw-base-files/gateway", "", 0o644, 0)
	for path, profile := range map[string]string{"/usr/bin/whonix-firewall": "whonix-firewall", enable: "enable-firewall", restarter: "firewall-restarter"} {
		a.run(t, profile, root, path, "--version")
		p := a.start(t, profile, root, nil, path, "--help")
		p.ends(0, 1) // that of the firewall itself is 1, as it was
	}
	a.run(t, "enable-firewall", account{noNewPrivileges: true}, enable, "--early")
	a.run(t, "enable-firewall", root, enable)
	a.allowed(t)
	// What is more than assignments is bash's.
	if err := os.Symlink("/usr/bin/bash", "/bin/bash"); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	file(t, "/etc/whonix_firewall.d/50_user.conf", "CONTROL_PORT_FILTER_PROXY_ENABLE=$(( 1 + 0 ))\nuser_id=$(id -u user)\ntrue | true\n", 0o644, 0)
	a.run(t, "whonix-firewall", root, "/usr/bin/whonix-firewall")
	a.allowed(t)
	file(t, "/usr/bin/systemctl", "#!/bin/sh\necho \"$@\" >>/tmp/systemctl\n", 0o755, 0)
	env, _ := serviceManager(t)
	p := a.start(t, "firewall-restarter", root, env[:1], restarter)
	file(t, "/run/sdwdate/first_success", "", 0o644, 0)
	awaitText(t, "/tmp/systemctl", "reload")
	must(t, "/usr/sbin/nft", "flush", "ruleset")
	awaitText(t, "/tmp/systemctl", "reload")
	p.signal(syscall.SIGTERM)
	p.ends(143)
	a.allowed(t)
}

// awaitText waits until another program has written a word into a file, and
// removes the file.
func awaitText(t *testing.T, path, word string) {
	t.Helper()
	for end := time.Now().Add(long); ; time.Sleep(100 * time.Millisecond) {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), word) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nothing has written %q into %s", word, path)
		}
	}
}
