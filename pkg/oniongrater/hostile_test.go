// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/torctl/tortest"
)

const versionFilter = anyHost + "  commands: {GETINFO: [version]}\n  events: {BW: null}\n"

// until waits for a condition about which nobody tells.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// descriptors counts this process's open files.
func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// resident is the process's memory in use, in bytes.
func resident(t testing.TB) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// TestAcceptance13_OneAddress: one address has 64 places, and others find room.
func TestAcceptance13_OneAddress(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.start()
	begin := time.Now()
	var served []*workstation
	for range 300 {
		served = append(served, r.dial(client11))
	}
	for i, c := range served {
		if i < guestsOfOne {
			c.want("GETINFO version", versionReply()...)
			continue
		}
		if got := c.rest(); got != "" {
			t.Fatalf("client %d: %q", i, got)
		}
	}
	if n := r.tor.Connections(); n != guestsOfOne {
		t.Errorf("tor has %d connections", n)
	}
	r.dial(client12).want("GETINFO version", versionReply()...)
	for _, c := range served[:guestsOfOne] {
		c.want("GETINFO version", versionReply()...)
	}
	if n, most := strings.Count(r.log.String(), "too many connections"), 1+int(time.Since(begin)/time.Minute); n < 1 || n > most {
		t.Errorf("%d records of refused clients, at most %d expected", n, most)
	}
}

// TestFairness: addresses that hold many places give some to those that hold
// none.
func TestFairness(t *testing.T) {
	g := &guests{}
	conn := func() *net.TCPConn { return &net.TCPConn{} }
	addr := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
	for n := range 4 {
		for range guestsOfOne {
			if !g.admit(addr(n), conn()) {
				t.Fatal("there is room")
			}
		}
	}
	for n := range 100 {
		if !g.admit(addr(10+n), conn()) {
			t.Fatalf("address %d found no room", n)
		}
	}
	if count, addresses := g.numbers(); count != guestsMax || addresses != 104 {
		t.Errorf("%d connections from %d addresses", count, addresses)
	}
	for n := range 4 {
		if len(g.of[addr(n)]) < 30 {
			t.Errorf("address %d has %d left", n, len(g.of[addr(n)]))
		}
	}
}

// TestTenThousandConnections: a flood leaves nothing behind, and honest clients
// go on.
func TestTenThousandConnections(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.start()
	honest := r.dial(client12)
	honest.want("GETINFO version", versionReply()...)
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	err := r.ns.Do(func() error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client11)}, Timeout: patience}
		var open []net.Conn
		defer func() {
			for _, c := range open {
				c.Close()
			}
		}()
		for i := range 10_000 {
			c, err := d.Dial("tcp", gatewayAddr+":9051")
			if err != nil {
				return err
			}
			_, _ = io.WriteString(c, "GETINFO ver") // it may be refused already
			if open = append(open, c); len(open) > 500 {
				open[0].Close()
				open = open[1:]
			}
			if i%1000 == 0 {
				honest.want("GETINFO version", versionReply()...)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	honest.want("GETINFO version", versionReply()...)
	until(t, "nothing remains of the flood", func() bool {
		return r.tor.Connections() == 1 && runtime.NumGoroutine() <= goroutines+5 && descriptors(t) <= files+5
	})
}

// TestAcceptance14_TorDown: clients that leave while Tor is down leave nothing.
func TestAcceptance14_TorDown(t *testing.T) {
	r := newRig(t)
	r.filter(versionFilter)
	r.start()
	r.dial(client12).c.Close()
	r.log.wait(t, "disconnected: ") // the proxy has all its goroutines now, but for one or two
	before, files := runtime.NumGoroutine(), descriptors(t)
	for i := range 40 {
		c := r.dial(client11)
		if i%2 == 0 {
			c.send("GETINFO version\r\nGETINFO version\r\n")
		}
		c.c.Close()
	}
	until(t, "nothing remains of the clients", func() bool {
		n, _ := r.p.guests.numbers()
		return n == 0 && runtime.NumGoroutine() <= before+5 && descriptors(t) <= files+5
	})
	if n := strings.Count(r.log.String(), "tor is not ready"); n > 40 {
		t.Errorf("%d records", n)
	}
}

// TestAcceptance15_SlowReader: a client that never reads is closed, before it
// costs memory.
func TestAcceptance15_SlowReader(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.start()
	c := r.dial(client11)
	c.want("SETEVENTS BW", "250 OK")
	event := "650 BW " + strings.Repeat("1", 4000) + " 0\r\n"
	before := resident(t)
	for r.tor.Emit("BW", event) > 0 {
	}
	r.log.wait(t, "disconnected: "+errSlow.Error())
	if grown := resident(t) - before; grown > 64<<20 {
		t.Errorf("%d MiB more", grown>>20)
	}
}

// TestAcceptance16_SlowLoris: a half line harms nobody, and is not waited for
// without end.
func TestAcceptance16_SlowLoris(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.start()
	for range guestsOfOne {
		r.dial(client11).send("GETINFO vers")
	}
	until(t, "all are served", func() bool { n, _ := r.p.guests.numbers(); return n == guestsOfOne })
	honest := r.dial(client12)
	begin, cpu := time.Now(), cpuTime(t)
	for range 100 {
		honest.want("GETINFO version", versionReply()...)
	}
	if took := time.Since(begin); took > 100*100*time.Millisecond {
		t.Errorf("100 commands took %v", took)
	}
	if used := cpuTime(t) - cpu; used > 5*time.Second {
		t.Errorf("%v of CPU", used)
	}
}

func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestEndlessLine: a line of 1 GiB is not read.
func TestEndlessLine(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.start()
	before := resident(t)
	c := r.dial(client11)
	c.send("GETINFO version\r\n")
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	sent := 0
	for range 1 << 10 {
		n, err := c.c.Write(chunk)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= 1<<30 {
		t.Error("all of it was taken")
	}
	if got := c.rest(); got != "" && got != strings.Join(versionReply(), "\r\n")+"\r\n" {
		t.Errorf("%q", got)
	}
	if grown := resident(t) - before; grown > 64<<20 {
		t.Errorf("%d MiB more", grown>>20)
	}
	r.log.wait(t, "disconnected: line too long")
}

// TestGarbage: random bytes are refused line by line, or end the connection; no
// byte of them reaches Tor.
func TestGarbage(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.start()
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b := make([]byte, 1+random.IntN(4000))
		for i := range b {
			b[i] = byte(random.IntN(256))
		}
		c := r.dial(client11)
		_, _ = c.c.Write(b)
		_ = c.c.CloseWrite()
		for _, l := range strings.Split(strings.TrimSuffix(c.rest(), "\r\n"), "\r\n") {
			if l != filtered && l != "" {
				t.Fatalf("%q: %q", b, l)
			}
		}
	}
	if got := r.tor.Received(); len(got) > 0 {
		t.Errorf("tor received %q", got)
	}
}

// TestBrokenReplies: whatever Tor's side sends, the client gets whole messages or
// is closed, and the next one is served.
func TestBrokenReplies(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.start()
	for _, reply := range []string{
		"250-version=1\n250 OK\r\n", "\x00\x01\x02\r\n", "250-version=1\r\n\r\n", "abc OK\r\n", "250_OK\r\n", "250-version=1\r\n650 BW 1 1\r\n250 OK\r\n",
		"250 OK\r\n250 OK\r\n", "\r\n",
	} {
		r.tor.AnswerRaw("GETINFO version", reply)
		c := r.dial(client11)
		c.send("GETINFO version\r\n")
		got := c.rest
		if strings.HasPrefix(reply, "250 OK") { // the first reply is one
			c.want("GETINFO version", "250 OK")
			got = func() string { c.c.CloseWrite(); return c.rest() }
			_ = got()
			continue
		}
		if text := got(); text != "" {
			t.Errorf("%q: the client got %q", reply, text)
		}
	}
	r.log.wait(t, "disconnected: "+errTwice.Error())
	r.tor.Answer("GETINFO version", versionReply()...)
	r.dial(client11).want("GETINFO version", versionReply()...)
}

// TestAcceptance17_Scripted: rows 90 and 91, and the sequel of row 89.
func TestAcceptance17_Scripted(t *testing.T) {
	r := newRig(t)
	r.filter(versionFilter)
	r.start()
	early := r.dial(client11)
	early.send("PROTOCOLINFO 1\r\n")
	r.log.wait(t, "tor is not ready: ")
	_ = early.c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if b, err := early.r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%q, %v", b, err)
	}
	r.scripted()
	if got := early.reply(); !allLike(got, protocol) {
		t.Errorf("%q", got)
	}
	early.want("SETEVENTS BW", "250 OK")
	logins := r.tor.Logins()
	r.tor.Drop()
	if err := r.tor.Wait(soon(t), func() bool { return r.tor.Logins() > logins && r.tor.Emit("BW", "650 BW 1 1\r\n") > 0 }); err != nil {
		t.Fatal(err)
	}
	if got := early.line(); got != "650 BW 1 1" {
		t.Errorf("%q", got)
	}
	r.log.wait(t, "lost connection to tor, reconnecting...")
	r.log.wait(t, "successfully recovered a tor connection!")

	// Tor is restarted with another cookie.
	r.tor.Close()
	r.tor.Cookie = bytes.Repeat([]byte{9}, 32)
	early.send("GETINFO version\r\n")
	r.write(defaultCookie, string(r.tor.Cookie))
	r.startTor()
	if got := early.reply(); !allLike(got, versionReply()) {
		t.Errorf("%q", got)
	}
	// A command at which Tor is lost twice ends the connection.
	r.tor.Answer("GETINFO version")
	r.tor.Forget()
	early.send("GETINFO version\r\n")
	for range 2 {
		if err := r.tor.Wait(soon(t), func() bool { return contains(r.tor.Received(), "GETINFO version") }); err != nil {
			t.Fatal(err)
		}
		r.tor.Forget()
		r.tor.Drop()
	}
	if got := early.rest(); got != "" {
		t.Errorf("%q", got)
	}
}

func contains(list []string, text string) bool {
	for _, l := range list {
		if l == text {
			return true
		}
	}
	return false
}

// TestLostServices: a program whose onion services have gone with Tor is told by
// the end of its connection; one whose services stay, or are deleted, is not
// (defect 25).
func TestLostServices(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands:\n    GETINFO: [version]\n    DEL_ONION: ['.*']\n    ADD_ONION: [{pattern: '(.*)', replacement: '{} Port=80,{client-address}'}]\n")
	on := " Port=80," + client11
	r.tor.Answer("ADD_ONION NEW:BEST"+on, "250-ServiceID=aaa", "250 OK")
	r.tor.Answer("ADD_ONION NEW:BEST Flags=DiscardPK,Detach"+on, "250-ServiceID=bbb", "250 OK")
	r.tor.Answer("DEL_ONION aaa", "250 OK")
	r.start()
	bound, detached, deleted := r.dial(client11), r.dial(client11), r.dial(client11)
	bound.want("ADD_ONION NEW:BEST", "250-ServiceID=aaa", "250 OK")
	detached.want("ADD_ONION NEW:BEST Flags=DiscardPK,Detach", "250-ServiceID=bbb", "250 OK")
	deleted.want("ADD_ONION NEW:BEST", "250-ServiceID=aaa", "250 OK")
	deleted.want("DEL_ONION aaa", "250 OK")
	r.tor.Drop()
	if got := bound.rest(); got != "" {
		t.Errorf("%q", got)
	}
	r.log.wait(t, "disconnected: "+errServices.Error())
	detached.want("GETINFO version", versionReply()...)
	deleted.want("GETINFO version", versionReply()...)
}

// TestCookie: a missing or short cookie is waited for, and named.
func TestCookie(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.write(defaultCookie, "short")
	r.start()
	c := r.dial(client11)
	c.send("GETINFO version\r\n")
	r.log.wait(t, "tor is not ready: cookie "+defaultCookie+": 5 bytes, not 32")
	r.write(defaultCookie, string(r.tor.Cookie))
	if got := c.reply(); !allLike(got, versionReply()) {
		t.Errorf("%q", got)
	}
}

// TestImpostor: what listens at Tor's port and does not know the cookie gets
// nothing.
func TestImpostor(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.write(defaultCookie, strings.Repeat("x", 32))
	r.start()
	r.dial(client11).send("GETINFO version\r\n")
	r.log.wait(t, "tor is not ready: the server does not know the cookie")
	if r.tor.Logins() > 0 || len(r.tor.Received()) > 0 {
		t.Errorf("%d logins, %q", r.tor.Logins(), r.tor.Received())
	}
}

// TestControlSocket: --control-socket-path.
func TestControlSocket(t *testing.T) {
	r := newRig(t)
	r.filter(versionFilter)
	r.tor = &tortest.Tor{Cookie: bytes.Repeat([]byte{7}, 32)}
	r.write(defaultCookie, string(r.tor.Cookie))
	path := r.root.Path("/run/tor/control")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r.tor.Serve(l)
	t.Cleanup(r.tor.Close)
	r.o.tor.Network, r.o.tor.Address = "unix", path
	r.start()
	r.dial(client11).want("GETINFO version", versionReply()...)
}

// TestAcceptance03_Loopback: row 94.
func TestAcceptance03_Loopback(t *testing.T) {
	r := newRig(t).scripted()
	r.filter("- apparmor-profiles: [onionshare]\n  users: [root]\n  commands: {GETINFO: [version]}\n")
	r.o.address = "127.0.0.1"
	var label atomic.Pointer[string]
	is := func(name string) { label.Store(&name) }
	is("onionshare")
	id := identifier{proc: procOf(t), net: inNamespace(t, r), label: func(int) (string, error) {
		if name := *label.Load(); name != "" {
			return name, nil
		}
		return "", errors.New("no")
	}}
	r.start(func(p *proxy) { p.id = id })
	c := r.dialTo("127.0.0.1", "127.0.0.1:9051")
	c.want("GETINFO version", versionReply()...)
	r.log.wait(t, "onionshare (pid: "+strconv.Itoa(os.Getpid())+", user: root, port: ")
	is("onionshare//child")
	r.dialTo("127.0.0.1", "127.0.0.1:9051").want("GETINFO version", filtered)
	is("")
	if got := r.dialTo("127.0.0.1", "127.0.0.1:9051").rest(); got != "" {
		t.Errorf("%q", got)
	}
	r.log.wait(t, "cannot identify client: no")
}

// inNamespace are the lists of sockets of the rig's namespace.
func inNamespace(t *testing.T, r *rig) string {
	t.Helper()
	hold, held := make(chan struct{}), make(chan int)
	go func() {
		_ = r.ns.Do(func() error {
			held <- unix.Gettid()
			<-hold
			return nil
		})
	}()
	tid := <-held
	t.Cleanup(func() { close(hold) })
	return fmt.Sprintf("/proc/self/task/%d/net", tid)
}

// TestAcceptance19_Decoy: another account's UDP socket on the client's address and
// port is not taken for the client, and processes that differ are not told
// apart by chance.
func TestAcceptance19_Decoy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	proc := procOf(t)
	ends := func() (program, error) {
		id := newIdentifier(proc)
		id.net = "/proc/thread-self/net" // the first thread may be in another namespace
		return id.identify(peer(c.LocalAddr()), peer(served.LocalAddr()))
	}
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	decoy := child(t, proc, nil, "exec "+udpHolder(port))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if who, err := ends(); err != nil || who.pid != os.Getpid() || who.user != "root" || who.label != self {
		t.Errorf("%+v, %v", who, err)
	}
	decoy()
	// The same socket in the hands of another account: there is no one answer.
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other := child(t, proc, f, "echo ready; exec sleep 600")
	if who, err := ends(); !errors.Is(err, errUnknown) {
		t.Errorf("%+v, %v", who, err)
	}
	other()
	f.Close()
	c.Close()
	if who, err := ends(); !errors.Is(err, errUnknown) {
		t.Errorf("%+v, %v", who, err)
	}
}

const nobody = 65534

// udpHolder is a command that holds a UDP port.
func udpHolder(port string) string {
	return `/usr/bin/python3 -c 'import socket,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(("127.0.0.1",` + port + `)); print("ready",flush=True); time.sleep(600)'`
}

// procOf is a folder like /proc with this process only: not all of a test
// machine's can be looked at.
func procOf(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink("/proc/self", filepath.Join(dir, strconv.Itoa(os.Getpid()))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// child starts a shell as another account with a file as its standard input, and
// shows it in proc. It returns once the child has said a line; the result ends
// it.
func child(t *testing.T, proc string, stdin *os.File, script string) (end func()) {
	t.Helper()
	cmd := execCommand(script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if stdin != nil {
		cmd.Stdin = stdin
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	if err := os.Symlink("/proc/"+pid, filepath.Join(proc, pid)); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
