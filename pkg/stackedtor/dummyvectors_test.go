// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/netlab"
)

// TestVectors: what programs are known to pass works for them, each as it is
// called (B.2). Ports in angle brackets are written by the program itself.
func TestVectors(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  string
		files map[string]string
		stdin string
		leads map[string]string // address to the Gateway's port
		has   map[string]string // file to its begin
		log   string
	}{
		{name: "Bisq 2 of 2024", args: "-f home/Bisq2/tor/torrc __OwningControllerProcess $PID",
			files: map[string]string{"home/Bisq2/tor/torrc": "ControlPort 127.0.0.1:17201\nSocksPort 17202\nDataDirectory home/Bisq2/tor\n"},
			leads: map[string]string{"127.0.0.1:17201": controlPort, "127.0.0.1:17202": socksPort},
			has:   map[string]string{"home/.local/share/Bisq2/tor/debug.log": "Opened Control listener connection (ready) on 127.0.0.1:17201\n"}},
		{name: "Bisq 2 now", args: "--torrc-file d/torrc --defaults-torrc d/torrc __OwningControllerProcess $PID",
			files: map[string]string{"d/torrc": "ControlPort auto\nControlPortWriteToFile d/control/control\nSocksPort 0\nLog notice file d/debug.log\n", "d/control/x": ""},
			has:   map[string]string{"d/control/control": "PORT=127.0.0.1:", "d/debug.log": "Opened Control listener connection (ready) on 127.0.0.1:"}},
		{name: "stem", args: "-f - __OwningControllerProcess $PID", stdin: "SocksPort 17203\nControlPort 17204\n",
			leads: map[string]string{"127.0.0.1:17203": socksPort, "127.0.0.1:17204": controlPort}, log: "[notice] Bootstrapped 100% (done): Done\n"},
		{name: "Feather", args: "--ignore-missing-torrc --SocksPort 127.0.0.1:17205 --DataDirectory d --pidfile d/pid",
			leads: map[string]string{"127.0.0.1:17205": socksPort}, has: map[string]string{"d/pid": "$TOR\n"}},
		{name: "Wasabi", args: "--SOCKSPort 127.0.0.1:17206_ExtendedErrors_KeepAliveIsolateSOCKSAuth --ControlPort 17207 --CookieAuthFile d/cookie __OwningControllerProcess $PID", files: map[string]string{"d/x": ""},
			leads: map[string]string{"127.0.0.1:17206": socksPort, "127.0.0.1:17207": controlPort}, has: map[string]string{"d/cookie": ""}},
		{name: "Tor Browser's launcher", args: "--defaults-torrc d/defaults -f d/torrc DataDirectory d/data GeoIPFile /x HashedControlPassword 16:00 +__ControlPort 17208 +__SocksPort 127.0.0.1:17209_IPv6Traffic __OwningControllerProcess $PID DisableNetwork 1",
			files: map[string]string{"d/defaults": "AvoidDiskWrites 1\n", "d/torrc": "SocksPort 17210\n"},
			leads: map[string]string{"127.0.0.1:17208": controlPort, "127.0.0.1:17209": socksPort, "127.0.0.1:17210": socksPort}},
		{name: "TorChat", args: "-f torrc.txt", files: map[string]string{"torrc.txt": "SocksPort SocksPort=17211\nControlPort 17212\nDataDirectory tor_data\nHiddenServiceDir hidden_service\nHiddenServicePort 11009 127.0.0.1:11009\n"},
			leads: map[string]string{"127.0.0.1:17211": socksPort, "127.0.0.1:17212": controlPort}},
		{name: "unix sockets", args: "-f torrc", files: map[string]string{"torrc": "SocksPort unix:s WorldWritable\nControlPort unix:\"a b\"\nControlPortWriteToFile port\nControlSocket c GroupWritable\n"},
			leads: map[string]string{"s": socksPort, "a b": controlPort}, has: map[string]string{"port": "UNIX_PORT=$DIR/a b\nUNIX_PORT=$DIR/c\n"}},
		{name: "a later source wins", args: "--defaults-torrc d/1 -f d/2 --SocksPort 17215", files: map[string]string{"d/1": "SocksPort 17213\nControlPort 17216\n", "d/2": "SocksPort 17214\n"},
			leads: map[string]string{"127.0.0.1:17215": socksPort, "127.0.0.1:17216": controlPort}},
		{name: "an option that does not exist", args: "-f torrc --Quux 1", files: map[string]string{"torrc": "SocksPort 17217\nNoSuchThing 1\n"}, leads: map[string]string{"127.0.0.1:17217": socksPort}},
		{name: "an address of loopback", args: "--SocksPort 127.1.2.3:17218", leads: map[string]string{"127.1.2.3:17218": socksPort}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStation(t)
			s.gateway("127.0.0.1")
			for name, text := range c.files {
				s.write(name, text)
			}
			var args []string
			for a := range strings.FieldsSeq(c.args) {
				a = strings.ReplaceAll(a, "$PID", fmt.Sprint(os.Getpid()))
				args = append(args, strings.ReplaceAll(a, "_Ex", " Ex")) // one word with flags
			}
			for i, a := range args {
				if strings.HasPrefix(a, "127.") {
					args[i] = strings.ReplaceAll(a, "_", " ")
				}
			}
			p := s.start(tor{stdin: c.stdin, environ: []string{"HOME=" + s.path("home")}}, args...)
			for address, port := range c.leads {
				network := "tcp"
				if !strings.Contains(address, ":") {
					network, address = "unix", s.path(address)
				}
				s.leads(network, address, port)
			}
			for name, text := range c.has {
				text = strings.NewReplacer("$TOR", fmt.Sprint(p.cmd.Process.Pid), "$DIR", strings.TrimSuffix(s.path(""), "/")).Replace(text)
				eventually(t, name+" has "+text, func() bool {
					_, err := os.Lstat(s.path(name))
					return err == nil && strings.Contains(s.read(name), text)
				})
			}
			if c.log != "" {
				p.says(c.log)
			}
			if c.name == "a later source wins" {
				if l := s.listening(); !slices.Equal(l, []string{"127.0.0.1:17215", "127.0.0.1:17216"}) {
					t.Errorf("%q", l)
				}
			}
			p.stop()
		})
	}
}

// TestGatewayStraight: where no redirection listens on loopback, connections
// still reach the Gateway, through a network.
func TestGatewayStraight(t *testing.T) {
	net, err := netlab.NewTopology()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(net.Close)
	s := newStation(t)
	workstation := s.ns
	s.ns = net.Gateway.Namespace
	s.gateway("10.152.152.10")
	s.ns = net.Workstation.Namespace
	defer func() { s.ns = workstation }()
	ready := `NOTICE BOOTSTRAP PROGRESS=45 TAG=requesting_descriptors SUMMARY="Asking for relay descriptors"`
	s.phase.Store(&ready)
	p := s.start(tor{environ: []string{"GATEWAY_IP=192.0.2.1"}}, "--SocksPort", "9050", "--ControlPort", "17301")
	s.leads("tcp", "127.0.0.1:17301", controlPort)
	s.leads("tcp", "127.0.0.1:9050", socksPort) // not to itself (defect 36)
	p.says("[notice] Bootstrapped 45% (requesting_descriptors): Asking for relay descriptors\n")
	if strings.Contains(p.stdout.String(), "100%") {
		t.Error("it was not ready")
	}
	done := `NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"`
	s.phase.Store(&done)
	p.says("[notice] Bootstrapped 100% (done): Done\n")
	p.stop()
}

// TestNoGateway: nothing is promised that is not there.
func TestNoGateway(t *testing.T) {
	s := newStation(t)
	p := s.start(tor{}, "--SocksPort", "17302")
	p.says("Bootstrapped 5% (conn): Connecting to a relay\n")
	c, err := s.dial("tcp", "127.0.0.1:17302")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes", n)
	}
	p.says("[warn] The Gateway cannot be reached: ")
	s.gateway("127.0.0.1")
	p.says("Bootstrapped 100% (done): Done\n")
	out := p.stdout.String()
	if want := "Opening Socks listener on 127.0.0.1:17302"; strings.Index(out, want) > strings.Index(out, "Bootstrapped 0% (starting): Starting") || strings.Count(out, "Bootstrapped 5%") != 1 {
		t.Errorf("%s", out)
	}
	p.stop()
}

func TestBusyPort(t *testing.T) {
	s := newStation(t)
	s.gateway("127.0.0.1")
	var l net.Listener
	if err := s.ns.Do(func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:17303"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := s.start(tor{}, "--SocksPort", "17303", "--ControlPort", "17304")
	s.leads("tcp", "127.0.0.1:17304", controlPort)
	p.says("[warn] Could not bind to 127.0.0.1:17303: bind: address already in use\n")
	p.stop()
	p = s.start(tor{}, "--SocksPort", "17303")
	if code := p.end(); code != 1 || !strings.Contains(p.stdout.String(), "Failed to bind one of the listener ports.") {
		t.Errorf("%d %q", code, p.stdout.String())
	}
	// One port for two things is a mistake, and not what a redirection serves.
	p = s.start(tor{}, "--SocksPort", "9151", "--ControlPort", "9151")
	p.says("[warn] Could not bind to 127.0.0.1:9151: bind: address already in use\n")
	s.leads("tcp", "127.0.0.1:9151", socksPort)
	p.stop()
	// The redirections' own ports are what was asked for.
	p = s.start(tor{}, "--SocksPort", "9050", "--ControlPort", "9051", "--ControlPortWriteToFile", "port")
	p.says("Opened Control listener connection (ready) on 127.0.0.1:9051\n")
	p.says("Bootstrapped 100%")
	if s.read("port") != "PORT=127.0.0.1:9051\n" {
		t.Errorf("%q", s.read("port"))
	}
	p.stop()
}

// TestOthersStay: what is not this program's is neither replaced nor followed
// nor removed.
func TestOthersStay(t *testing.T) {
	s := newStation(t)
	s.gateway("127.0.0.1")
	precious := s.write("precious", "precious\n")
	for _, name := range []string{"control", "cookie", "pid", "port"} {
		s.write(name, "precious\n")
	}
	s.write("log", "root:x:0:0:\n")
	nobody := s.path("nobody")
	if err := os.Mkdir(nobody, 0o777); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{nobody + "/way": s.path(""), nobody + "/log": precious, nobody + "/pid": precious, s.path("own"): "nobody"} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"way", "log", "pid"} {
		if err := os.Lchown(nobody+"/"+name, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	p := s.start(tor{}, "-f", s.write("torrc", "SocksPort 17305\nControlSocket control\nCookieAuthFile cookie\nPidFile pid\nControlPort 17306\nControlPortWriteToFile port\nLog notice stdout\nLog notice file log\n"))
	p.says("/control exists, and is not replaced")
	p.says("cookie exists, and is not replaced")
	p.says("pid exists, and is not replaced")
	p.says("port exists, and is not replaced")
	p.says("log exists, and is no log")
	p.stop()
	p = s.start(tor{}, "-f", s.write("torrc", "SocksPort unix:nobody/way/s\nSocksPort unix:own/t\nLog notice stdout\nLog notice file nobody/log\nPidFile nobody/pid\nCookieAuthFile nobody/way/c\nDataDirectory nobody/way/d\n"))
	p.says("nobody/way/s: way: not a directory, or a link of somebody else")
	p.says("nobody/way/c: way: not a directory, or a link of somebody else")
	p.says("nobody/way/d: way: not a directory, or a link of somebody else")
	p.says("nobody/log: too many levels of symbolic links")
	s.leads("unix", s.path("own/t"), socksPort)
	eventually(t, "the link to the precious file is replaced by a pid file", func() bool { return s.read("nobody/pid") == fmt.Sprintf("%d\n", p.cmd.Process.Pid) })
	for _, name := range []string{"precious", "control", "cookie", "pid", "port"} {
		if s.read(name) != "precious\n" {
			t.Errorf("%s: %q", name, s.read(name))
		}
	}
	// Somebody puts something else in the place of what is ours.
	if err := os.Remove(nobody + "/pid"); err != nil {
		t.Fatal(err)
	}
	s.write("nobody/pid", "another\n")
	p.stop()
	if s.read("nobody/pid") != "another\n" {
		t.Errorf("%q", s.read("nobody/pid"))
	}
	if _, err := os.Lstat(nobody + "/t"); err == nil {
		t.Error("the socket is still there")
	}
}

// TestModes: a socket is the user's alone unless its flags say otherwise.
func TestModes(t *testing.T) {
	s := newStation(t)
	p := s.start(tor{}, "-f", s.write("torrc", "SocksPort unix:a\nSocksPort unix:b GroupWritable\nSocksPort unix:c WorldWritable IsolateDestAddr\nPidFile pid\nControlSocket 0\n"))
	p.says("Bootstrapped 0%")
	for name, want := range map[string]os.FileMode{"a": 0o600, "b": 0o660, "c": 0o666, "pid": 0o644} {
		if fi, err := os.Stat(s.path(name)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v %v", name, fi, err)
		}
	}
	p.stop()
	if is := s.files(); !slices.Equal(is, []string{"torrc"}) {
		t.Errorf("%q", is)
	}
}

// TestCookie: where the system's cannot be read, there is one all the same.
func TestCookie(t *testing.T) {
	s := newStation(t)
	for range 2 { // the second finds that of the first
		p := s.start(tor{}, "--SocksPort", "auto", "--DataDirectory", "d", "--CookieAuthentication", "1")
		p.says("Bootstrapped 0%")
		if c := s.read("d/control_auth_cookie"); fmt.Sprintf("%x", c) != cookie {
			t.Errorf("%x", c)
		}
		p.signal(unix.SIGKILL)
		_ = p.end()
	}
}

// TestControlSocketAlone: without the redirection's socket there is one all the
// same.
func TestControlSocketAlone(t *testing.T) {
	s := newStation(t)
	p := s.start(tor{}, "--ControlSocket", "c", "--ControlPortWriteToFile", "port")
	p.says("Bootstrapped 0%")
	s.gateway("127.0.0.1")
	s.leads("unix", s.path("c"), controlPort)
	if want := "UNIX_PORT=" + s.path("c") + "\n"; s.read("port") != want {
		t.Errorf("%q, want %q", s.read("port"), want)
	}
	p.stop()
	if is := s.files(); len(is) > 0 {
		t.Errorf("left: %q", is)
	}
}

// TestReload: SIGHUP opens logs again, and does nothing else.
func TestReload(t *testing.T) {
	s := newStation(t)
	s.write("torrc", "SocksPort 17307\nLog notice file a.log\n")
	p := s.start(tor{}, "-f", "torrc")
	eventually(t, "a.log", func() bool { return strings.Contains(s.read("a.log"), "Opened Socks listener") })
	s.write("torrc", "SocksPort 17308\nLog notice file b.log\n")
	if err := os.Rename(s.path("a.log"), s.path("a.log.1")); err != nil {
		t.Fatal(err)
	}
	p.idles()
	p.signal(unix.SIGHUP)
	eventually(t, "b.log", func() bool { _, err := os.Stat(s.path("b.log")); return err == nil })
	s.write("torrc", "Log \"bad\n")
	p.signal(unix.SIGHUP)
	eventually(t, "the complaint", func() bool {
		return strings.Contains(s.read("b.log"), "[warn] torrc:1: Invalid escape sequence in quoted string\n")
	})
	if l := s.listening(); !slices.Equal(l, []string{"127.0.0.1:17307"}) {
		t.Errorf("%q", l)
	}
	if p.stdout.String() != "" {
		t.Errorf("%q", p.stdout.String())
	}
	p.stop()
	if !strings.Contains(s.read("b.log"), "Catching signal TERM, exiting cleanly.") {
		t.Errorf("%q", s.read("b.log"))
	}
}

// TestQuiet: --quiet says nothing where no Log does, also when it fails.
func TestQuiet(t *testing.T) {
	s := newStation(t)
	p := s.start(tor{}, "--quiet", "--SocksPort", "17309", "--PidFile", "pid")
	eventually(t, "pid", func() bool { return s.read("pid") != "" })
	p.idles()
	p.signal(unix.SIGINT)
	if code := p.end(); code != 0 || p.stdout.String()+p.stderr.String() != "" {
		t.Errorf("%d %q", code, p.stdout.String())
	}
	p = s.start(tor{}, "--quiet", "--SocksPort", "x")
	if code := p.end(); code != 1 || p.stdout.String()+p.stderr.String() != "" {
		t.Errorf("%d %q", code, p.stdout.String())
	}
}

// TestBadInput: one line says what is wrong and where, and nothing is left.
func TestBadInput(t *testing.T) {
	s := newStation(t)
	for text, want := range map[string]string{
		"SocksPort 1\nDataDirectory \"x\n": "[warn] torrc:2: Invalid escape sequence in quoted string\n",
		"SocksPort x\n":                    "[warn] torrc:1: Couldn't parse address \"x\" for SocksPort\n",
		"DataDirectory d\n\nLog loud\n":    "[warn] torrc:3: Couldn't parse log levels in Log option 'Log loud'\n",
		"%include none\n":                  "[warn] torrc:1: Error reading included configuration file or directory: \"none\": open none: no such file or directory\n",
		"__OwningControllerProcess x\n":    "Bad OwningControllerProcess: invalid PID\n",
		"Contact\x00Info\n":                "[warn] torrc:1: there is a NUL byte\n",
	} {
		p := s.start(tor{}, "-f", s.write("torrc", text))
		if want = strings.ReplaceAll(want, "torrc:", s.path("torrc")+":"); strings.Contains(want, "none:") {
			want = strings.Split(want, ": open")[0]
		}
		if code := p.end(); code != 1 || !strings.Contains(p.stdout.String(), want) {
			t.Errorf("%q: %d %q, want %q", text, code, p.stdout.String(), want)
		}
		if is := s.files(); !slices.Equal(is, []string{"torrc"}) {
			t.Errorf("%q: %q", text, is)
		}
	}
	for args, want := range map[string]string{"-f none": "Unable to open configuration file \"none\": no such file or directory", "-f .": "is no file", "-f": "with no value", "-f none --allow-missing-torrc": "Unable to open"} {
		p := s.start(tor{}, strings.Fields(args)...)
		if code := p.end(); code != 1 || !strings.Contains(p.stdout.String(), want) {
			t.Errorf("%s: %d %q", args, code, p.stdout.String())
		}
	}
	p := s.start(tor{}, "-f", "none", "--allow-missing-torrc", "--defaults-torrc", s.write("d", "SocksPort 17310\n"))
	p.says("Opened Socks listener connection (ready) on 127.0.0.1:17310")
	p.stop()
}

// TestClosed: without standard input and output, without an environment, as
// somebody who may write nowhere, it still serves.
func TestClosed(t *testing.T) {
	s := newStation(t)
	s.gateway("127.0.0.1")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, "bin/tor.anondist")); err != nil {
		t.Fatal(err)
	}
	s.copy(program, "bin/tor.anondist") // where the account can read it
	s.copy("/usr/bin/setpriv", "bin/setpriv")
	s.write("torrc", "SocksPort 17311\nDataDirectory d\nPidFile p\nControlPort 17319\nControlPortWriteToFile c\nCookieAuthFile k\nLog notice file l\n")
	p := s.start(tor{path: "/usr/bin/setpriv", closed: true}, "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/tor", "-f", "torrc")
	s.leads("tcp", "127.0.0.1:17311", socksPort)
	s.leads("tcp", "127.0.0.1:17319", controlPort)
	if is := s.files(); !slices.Equal(is, []string{"torrc"}) {
		t.Errorf("%q", is)
	}
	p.stop()
}

// TestUnreadPipe: a caller that never reads does not stop the program.
func TestUnreadPipe(t *testing.T) {
	s := newStation(t)
	s.gateway("127.0.0.1")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	size, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096)
	if err != nil || size != 4096 {
		t.Fatalf("%d %v", size, err)
	}
	if _, err := w.Write(make([]byte, 4096)); err != nil { // full from the begin
		t.Fatal(err)
	}
	link := s.path("tor")
	program, _ := os.Executable()
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(link, "--SocksPort", "17312")
	cmd.Stdout = w
	if err := s.ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	w.Close()
	s.leads("tcp", "127.0.0.1:17312", socksPort)
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestDaemon: RunAsDaemon 1 returns when the listeners are open, and the daemon
// stays.
func TestDaemon(t *testing.T) {
	s := newStation(t)
	s.gateway("127.0.0.1")
	for _, c := range []struct {
		args  []string
		stdin string
	}{
		{[]string{"--RunAsDaemon", "1", "--SocksPort", "17313", "--PidFile", "pid"}, ""},
		{[]string{"-f", "-"}, "RunAsDaemon 1\nSocksPort 17313\nPidFile pid\n"},
	} {
		p := s.start(tor{stdin: c.stdin}, c.args...)
		if code := p.end(); code != 0 {
			t.Fatalf("%d %q %q", code, p.stdout.String(), p.stderr.String())
		}
		var pid int
		if _, err := fmt.Sscan(s.read("pid"), &pid); err != nil {
			t.Fatalf("%v: %q", err, p.stdout.String())
		}
		if !s.reaches("tcp", "127.0.0.1:17313", socksPort) {
			t.Error("it is not there at once")
		}
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		out, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", pid))
		if want := strings.Join(append([]string{"/usr/bin/tor"}, c.args...), "\x00") + "\x00"; string(cmdline) != want || string(comm) != "tor\n" || out != os.DevNull {
			t.Errorf("%q %q %q", cmdline, comm, out)
		}
		if sid, err := unix.Getsid(pid); err != nil || sid != pid {
			t.Errorf("session %d, %v", sid, err)
		}
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			t.Error(err)
		}
		eventually(t, "its pid file goes", func() bool { return s.read("pid") == "" })
		eventually(t, "it goes", func() bool { return !s.reaches("tcp", "127.0.0.1:17313", socksPort) })
	}
	p := s.start(tor{}, "--RunAsDaemon", "1", "--SocksPort", "1,2")
	if code := p.end(); code != 1 {
		t.Errorf("%d", code)
	}
	// The system's call as a daemon touches nothing either.
	p = s.start(tor{}, "--defaults-torrc", "/usr/share/tor/tor-service-defaults-torrc", "--RunAsDaemon", "1")
	if code := p.end(); code != 0 {
		t.Errorf("%d", code)
	}
	s.killIdle()
	// Under a service manager that is notified it stays in the foreground.
	p = s.start(tor{environ: []string{"NOTIFY_SOCKET=/run/none"}}, "--RunAsDaemon", "1", "--SocksPort", "17314")
	s.leads("tcp", "127.0.0.1:17314", socksPort)
	p.stop()
	// Who sets the variable that marks a daemon has a program in the foreground.
	p = s.start(tor{environ: []string{inDaemon + "=1"}}, "--RunAsDaemon", "1", "--SocksPort", "17314")
	s.leads("tcp", "127.0.0.1:17314", socksPort)
	p.stop()
}

// killIdle ends the daemons that are left in the station.
func (s *station) killIdle() {
	s.t.Helper()
	var own string
	if err := s.ns.Do(func() (err error) { own, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
		s.t.Fatal(err)
	}
	all, _ := filepath.Glob("/proc/[0-9]*")
	found := 0
	for _, dir := range all {
		comm, _ := os.ReadFile(dir + "/comm")
		if ns, _ := os.Readlink(dir + "/ns/net"); ns == own && string(comm) == "tor\n" {
			var pid int
			_, _ = fmt.Sscan(filepath.Base(dir), &pid)
			found++
			if err := unix.Kill(pid, unix.SIGTERM); err != nil {
				s.t.Error(err)
			}
		}
	}
	if found != 1 {
		s.t.Errorf("%d daemons", found)
	}
}

// TestHTTPTunnel: an HTTPTunnelPort speaks HTTP, and the Gateway is asked by
// SOCKS.
func TestHTTPTunnel(t *testing.T) {
	s := newStation(t)
	gateway, err := s.ns.ServeSOCKS("127.0.0.1:9050", func(r netlab.SOCKSRequest, c *net.TCPConn) {
		if r.Host != "example.org" {
			_, _ = c.Write(netlab.SOCKSReply(4))
			return
		}
		_, _ = c.Write(netlab.SOCKSReply(0))
		fmt.Fprintf(c, "to %s ", r.Destination())
		_, _ = io.Copy(c, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	p := s.start(tor{}, "--HTTPTunnelPort", "17315")
	p.says("Opened HTTP tunnel listener connection (ready) on 127.0.0.1:17315\n")
	for request, want := range map[string]string{
		"CONNECT example.org:80 HTTP/1.1\r\nHost: x\r\n\r\nhello": "HTTP/1.0 200 OK\r\n\r\nto example.org:80 hello",
		"CONNECT example.net:80 HTTP/1.1\r\n\r\n":                 "HTTP/1.0 502 Bad Gateway\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n":                                  "HTTP/1.0 405 Method Not Allowed\r\nAllow: CONNECT\r\n\r\n",
		"CONNECT example.org HTTP/1.1\r\n\r\n":                    "HTTP/1.0 400 Bad Request\r\n\r\n",
		"CONNECT example.org:0 HTTP/1.1\r\n\r\n":                  "HTTP/1.0 400 Bad Request\r\n\r\n",
		"nonsense\n\n":                                            "HTTP/1.0 400 Bad Request\r\n\r\n",
		strings.Repeat("x", 9<<10):                                "HTTP/1.0 400 Bad Request\r\n\r\n",
	} {
		c, err := s.dial("tcp", "127.0.0.1:17315")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(c, request)
		_ = c.(*net.TCPConn).CloseWrite()
		got, _ := io.ReadAll(c)
		c.Close()
		if len(request) < 9<<10 && string(got) != want { // what was not read makes a reset
			t.Errorf("%.50q: %q, want %q", request, got, want)
		}
	}
	// As a program does it.
	c, err := s.dial("tcp", "127.0.0.1:17315")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "CONNECT example.org:443 HTTP/1.1\r\n\r\n")
	if answer, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "CONNECT"}); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("%v %v", answer, err)
	}
	p.stop() // with a connection open
}

func TestParsePhase(t *testing.T) {
	for line, want := range map[string]phase{
		"250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY=\"Done\"\r\n":                               {100, "done", "Done"},
		"250-status/bootstrap-phase=WARN BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY=\"Conn to \x1b[2J\" WARNING=\"No = route\"\r\n": {5, "conn", "Conn to ?[2J"},
	} {
		if got, ok := parsePhase(line); !ok || got != want {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"", "250 OK\r\n", "510 Command filtered\r\n", "250-status/bootstrap-phase=\r\n", "250-status/bootstrap-phase=NOTICE PROGRESS=101 TAG=x\r\n", "250-status/bootstrap-phase=NOTICE PROGRESS=-1 TAG=x\r\n", "250-status/bootstrap-phase=PROGRESS=5\r\n"} {
		if got, ok := parsePhase(line); ok {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

func TestProcessID(t *testing.T) {
	for text, want := range map[string]int{"1": 1, "123:456": 123, "77 x": 77, "": 0, "x": 0, "-1": 0, "0": 0, "99999999999": 0, "1x": 0} {
		if got, ok := processID(text); ok != (want > 0) || ok && got != want {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("CONNECT a:1 HTTP/1.1\r\n\r\n")
	f.Add("CONNECT [::1]:1 HTTP/1.1\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		host, port, answer := request(strings.NewReader(text))
		if answer == "" && (host == "" || port == 0) || answer != "" && host+fmt.Sprint(port) != "0" {
			t.Fatalf("%q %d %q", host, port, answer)
		}
	})
}

func FuzzPhase(f *testing.F) {
	f.Add("250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY=\"Done\"\r\n")
	f.Fuzz(func(t *testing.T, line string) {
		if p, ok := parsePhase(line); ok && (p.progress < 0 || p.progress > 100 || len(p.summary) > 100 || strings.ContainsAny(p.summary+p.tag, "\r\n\x1b")) {
			t.Fatalf("%+v", p)
		}
	})
}
