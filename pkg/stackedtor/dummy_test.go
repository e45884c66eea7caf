// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/netlab"
)

// station is a Workstation in namespaces of its own, with the program installed
// as it is by the package, and a Gateway's ports.
type station struct {
	t     *testing.T
	ns    *netlab.Namespace
	dir   string // what is below /run, /usr/bin and /usr/sbin there lies here
	phase atomic.Pointer[string]
}

const runStation = `set -e
mount --bind "$DIR/run" /run
mount -t tmpfs tmpfs /usr/share
mkdir /usr/share/anon-ws-base-files
: >/usr/share/anon-ws-base-files/workstation
mount --bind "$DIR/sbin" /usr/sbin
mount --bind "$DIR/bin" /usr/bin
cd "$DIR/work"
if [ -n "$CLOSED" ]; then exec <&- >&-; fi
exec /usr/bin/env -i "$@"
`

func newStation(t *testing.T) *station {
	t.Helper()
	s := &station{t: t, dir: t.TempDir()}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"run/tor", "bin", "sbin", "work"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"bin/tor": "tor.anondist", "bin/tor.anondist": program, "sbin/tor": "tor.anondist", "sbin/tor.anondist": "../bin/tor.anondist"} {
		if err := os.Symlink(target, filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.copy("/usr/bin/env", "bin/env")
	s.copy("/usr/bin/socat", "bin/socat")
	if s.ns, err = netlab.New("ws"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.ns.Close)
	return s
}

func (s *station) copy(from, to string) {
	s.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, to), data, 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// withRealTor installs Debian's Tor besides.
func (s *station) withRealTor() *station {
	s.copy("/usr/bin/tor", "bin/tor.anondist-orig")
	return s
}

func (s *station) path(name string) string { return filepath.Join(s.dir, "work", name) }

func (s *station) write(name, text string) string {
	s.t.Helper()
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// gateway serves what the redirections lead to: each port answers with its
// number and then what it is sent; the control port also speaks a little of its
// protocol.
func (s *station) gateway(host string) {
	s.t.Helper()
	for _, port := range []string{socksPort, controlPort} {
		var l net.Listener
		if err := s.ns.Do(func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(host, port)); return err }); err != nil {
			s.t.Fatal(err)
		}
		s.accept(l, port)
	}
	l, err := net.Listen("unix", filepath.Join(s.dir, "run/tor/control"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.accept(l, controlPort)
	if err := os.WriteFile(filepath.Join(s.dir, "run/tor/control.authcookie"), make([]byte, 32), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *station) accept(l net.Listener, port string) {
	var wg sync.WaitGroup
	s.t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				s.answer(c, port)
			}()
		}
	}()
}

func (s *station) answer(c net.Conn, port string) {
	if port == socksPort {
		_, _ = io.Copy(c, c)
		return
	}
	r := bufio.NewScanner(c)
	for r.Scan() {
		switch phase := s.phase.Load(); {
		case r.Text() == "PING":
			fmt.Fprintf(c, "%s\r\n", port)
		case phase == nil:
			fmt.Fprint(c, "510 Command filtered\r\n")
		case r.Text() == "AUTHENTICATE":
			fmt.Fprint(c, "250 OK\r\n")
		default:
			fmt.Fprintf(c, "250-status/bootstrap-phase=%s\r\n250 OK\r\n", *phase)
		}
	}
}

// process is a program in the station.
type process struct {
	t              *testing.T
	s              *station
	cmd            *exec.Cmd
	stdout, stderr lines
	done           chan struct{}
}

// tor starts the program by a path, with nothing in its environment but what is
// given.
type tor struct {
	path    string
	environ []string
	stdin   string
	closed  bool // no standard input and output
}

func (s *station) start(o tor, arg ...string) *process {
	s.t.Helper()
	p := &process{t: s.t, s: s, done: make(chan struct{})}
	if o.path == "" {
		o.path = "/usr/bin/tor"
	}
	p.cmd = exec.Command("/bin/sh", "-c", runStation, "sh")
	p.cmd.Args = append(p.cmd.Args, o.environ...)
	p.cmd.Args = append(append(p.cmd.Args, o.path), arg...)
	p.cmd.Env = []string{"PATH=/usr/bin:/bin", "DIR=" + s.dir}
	if o.closed {
		p.cmd.Env = append(p.cmd.Env, "CLOSED=1")
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = strings.NewReader(o.stdin), &p.stdout, &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if err := s.ns.Do(p.cmd.Start); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // its state tells
	}()
	s.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if s.t.Failed() {
			s.t.Logf("%q: %s%s", arg, p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Errorf("%v: %v", sig, err)
	}
}

// end waits for the end and returns the exit code.
func (p *process) end() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("it does not end: %s", p.stdout.String())
		return -1
	}
}

// stop ends the program as a caller does.
func (p *process) stop() {
	p.t.Helper()
	p.signal(unix.SIGTERM)
	if code := p.end(); code != 0 {
		p.t.Errorf("exit code %d", code)
	}
}

func (p *process) says(text string) {
	p.t.Helper()
	eventually(p.t, text, func() bool { return strings.Contains(p.stdout.String(), text) })
}

// idles waits until the program takes signals, and sees that it survives them.
func (p *process) idles() {
	p.t.Helper()
	eventually(p.t, "SIGHUP is taken", func() bool {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		var caught uint64
		for line := range strings.Lines(string(status)) {
			_, _ = fmt.Sscanf(line, "SigCgt: %x", &caught)
		}
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.cmd.Process.Pid))
		return string(comm) == "tor\n" && caught&(1<<(unix.SIGUSR2-1)) != 0
	})
}

// within dials in the station.
func (s *station) dial(network, address string) (c net.Conn, err error) {
	err = s.ns.Do(func() error { c, err = net.Dial(network, address); return err })
	return c, err
}

// leadsTo reports an address that leads to a port of the Gateway.
func (s *station) reaches(network, address, port string) bool {
	c, err := s.dial(network, address)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	want := "PING\r\n"
	fmt.Fprint(c, want)
	if port == controlPort {
		want = controlPort + "\r\n"
	}
	got := make([]byte, len(want))
	_, err = io.ReadFull(c, got)
	return err == nil && string(got) == want
}

func (s *station) leads(network, address, port string) {
	s.t.Helper()
	eventually(s.t, address+" leads to "+port, func() bool { return s.reaches(network, address, port) })
}

// listening are the addresses of TCP listeners in the station, but the
// Gateway's.
func (s *station) listening() (out []string) {
	s.t.Helper()
	var data [2][]byte
	if err := s.ns.Do(func() (err error) {
		for i, name := range []string{"tcp", "tcp6"} {
			if data[i], err = os.ReadFile("/proc/thread-self/net/" + name); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	const listen = "0A"
	for line := range strings.Lines(string(data[0]) + string(data[1])) {
		f := strings.Fields(line)
		if len(f) > 3 && f[3] == listen {
			host, port, _ := strings.Cut(f[1], ":")
			var n int
			_, _ = fmt.Sscanf(port, "%X", &n)
			if fmt.Sprint(n) != socksPort && fmt.Sprint(n) != controlPort {
				out = append(out, fmt.Sprintf("%s:%d", strings.ReplaceAll(host, "0100007F", "127.0.0.1"), n))
			}
		}
	}
	slices.Sort(out)
	return out
}

// files are what lies in the working directory.
func (s *station) files() (out []string) {
	s.t.Helper()
	if err := filepath.WalkDir(s.path(""), func(p string, _ os.DirEntry, err error) error {
		if rel := strings.TrimPrefix(strings.TrimPrefix(p, filepath.Join(s.dir, "work")), "/"); rel != "" {
			out = append(out, rel)
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	return out
}

// noRealTor sees that no real Tor runs in the station.
func (s *station) noRealTor() {
	s.t.Helper()
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil || len(exes) == 0 {
		s.t.Fatalf("no processes: %v", err)
	}
	real := filepath.Join(s.dir, "bin/tor.anondist-orig")
	for _, e := range exes {
		if target, err := os.Readlink(e); err == nil && (target == real || target == realTor) {
			s.t.Errorf("%s is %s", e, target)
		}
	}
}

func (s *station) read(name string) string {
	data, _ := os.ReadFile(s.path(name))
	return string(data)
}

func TestAcceptance19_NeverARealTor(t *testing.T) {
	s := newStation(t).withRealTor()
	s.gateway("127.0.0.1")
	p := s.start(tor{}, "--ContactInfo", "--verify-config", "--SocksPort", "19999")
	s.leads("tcp", "127.0.0.1:19999", socksPort)
	s.noRealTor()
	p.stop()
	// Other words that could be taken for an operand, with a command: the real
	// one is asked, and ends.
	for _, args := range [][]string{
		{"--ContactInfo", "--quiet", "--verify-config", "--SocksPort", "19998"},
		{"SocksPort", "19998", "--list-fingerprint", "--DataDirectory", s.path("d")},
		{"-f", "/dev/null", "--ContactInfo", "--keygen", "--dump-config"},
		{"--SocksPort", "19998", "--RunAsDaemon", "1", "--verify-config"},
		{"--defaults-torrc", "--verify-config", "--SocksPort", "19998", "--version"},
	} {
		_ = s.start(tor{}, args...).end()
		s.noRealTor()
		if l := s.listening(); len(l) > 0 {
			t.Errorf("%q: %q", args, l)
		}
	}
}

func TestAcceptance19_Version(t *testing.T) {
	for _, real := range []bool{false, true} {
		s := newStation(t)
		if real {
			s.withRealTor()
		}
		for _, path := range []string{"/usr/bin/tor", "/usr/sbin/tor"} {
			p := s.start(tor{path: path}, "--version")
			code := p.end()
			first, _, _ := strings.Cut(p.stdout.String(), "\n")
			first = strings.TrimRight(first, " ") // the real one has a blank behind it
			if code != 0 || !strings.HasPrefix(first, "Tor version ") || !strings.HasSuffix(first, ".") || strings.Contains(p.stdout.String(), "Gateway") || real != strings.Contains(p.stdout.String(), "Libevent") {
				t.Errorf("%s, real %v: %d %q", path, real, code, p.stdout.String())
			}
		}
	}
}

func TestAcceptance19_HashPassword(t *testing.T) {
	for _, real := range []bool{false, true} {
		s := newStation(t)
		if real {
			s.withRealTor()
		}
		for _, args := range [][]string{{"--hash-password", "x"}, {"--quiet", "--hash-password", "--version"}, {"--hash-password", ""}, {"--hash-password", strings.Repeat("long ", 20000)}} {
			p := s.start(tor{}, args...)
			code := p.end()
			all := strings.Fields(p.stdout.String())
			hash := all[len(all)-1]
			if code != 0 || !verifies(t, hash, args[len(args)-1]) || verifies(t, hash, "wrong") {
				t.Errorf("real %v, %.20q: %d %q %q", real, args, code, p.stdout.String(), p.stderr.String())
			}
		}
		if code := s.start(tor{}, "--hash-password").end(); code != 1 {
			t.Errorf("real %v, no password: %d", real, code)
		}
	}
}

// verifies recomputes a hash with its own salt.
func verifies(t *testing.T, hash, password string) bool {
	t.Helper()
	var salt, sum []byte
	var count int
	if n, err := fmt.Sscanf(hash, "16:%16X%2X%40X", &salt, &count, &sum); n != 3 || err != nil || count != 0x60 || len(hash) != 3+58 || strings.ToUpper(hash) != hash {
		t.Errorf("%q: %v", hash, err)
		return false
	}
	return bytes.Equal(s2k(salt, password, 65536), sum)
}

func TestAcceptance19_VerifyConfig(t *testing.T) {
	good := []string{"", "SocksPort 1234\n", "socksport auto\nLog notice stdout\n", "HiddenServiceDir /x\nHiddenServicePort 80\n", "ContactInfo a\\\n  b\n", "ControlPort 1\nCookieAuthentication 1\n", "AllowDotExit 1\n", "%include /none*\n", "+SocksPort 1\n"}
	bad := []string{"Foo 1\n", "SocksPort abc\n", "SocksPort 1,2\n", "ControlPort 99999\n", "Log foo\n", "ContactInfo \"a\n", "%include /none\n", "--SocksPort 1\n", "__OwningControllerProcess abc\n"}
	for _, real := range []bool{false, true} {
		s := newStation(t)
		if real {
			s.withRealTor()
		}
		for _, text := range slices.Concat(good, bad) {
			want := 0
			if slices.Contains(bad, text) {
				want = 1
			}
			file := s.write("torrc", text)
			var all []*process // at the same time: starting them takes the longest
			orders := [][]string{{"--verify-config", "-f", file}, {"-f", file, "--verify-config"}, {"--defaults-torrc", "/nonexistent", "-f", file, "--RunAsDaemon", "0", "--verify-config"}}
			for _, args := range orders {
				all = append(all, s.start(tor{environ: []string{"HOME=" + s.path("home")}}, args...))
			}
			for i, p := range all {
				if code := p.end(); code != want || strings.Contains(p.stdout.String(), "Configuration was valid\n") != (want == 0) {
					t.Errorf("real %v, %q, %q: %d %q", real, text, orders[i], code, p.stdout.String())
				}
			}
		}
		p := s.start(tor{}, "--verify-config", "-f", s.write("torrc", "Foo 1\n"))
		if _ = p.end(); !strings.Contains(p.stdout.String(), "[warn] Failed to parse/validate config: Unknown option 'Foo'.  Failing.\n") || !strings.Contains(p.stdout.String(), "[err] Reading config failed--see warnings above.\n") {
			t.Errorf("real %v: %q", real, p.stdout.String())
		}
		if code := s.start(tor{}, "--verify-config", "-f", s.path("none")).end(); code != 1 {
			t.Errorf("real %v, no file: %d", real, code)
		}
	}
}

func TestInformation(t *testing.T) {
	s := newStation(t)
	for _, c := range []struct {
		arg    string
		code   int
		stdout string
		stderr string
	}{
		{"--help", 0, "usage: tor ", ""},
		{"-h", 0, "usage: tor ", ""},
		{"--list-modules", 0, "relay: no\ndirauth: no\ndircache: no\npow: no\n", ""},
		{"--list-torrc-options", 0, "__AllDirActionsPrivate\n", ""},
		{"--list-deprecated-options", 0, "HTTPProxy\n", ""},
		{"--library-versions", 1, "", "tor: error: --library-versions needs the real Tor, which is not installed here\n"},
		{"--dump-config short", 1, "", "tor: error: --dump-config needs"},
		{"--list-fingerprint", 1, "", "tor: error: --list-fingerprint needs"},
		{"--keygen", 1, "", "tor: error: --keygen needs"},
		{"--key-expiration", 1, "", "tor: error: --key-expiration needs"},
		{"foo", 1, "Command-line option 'foo' with no value. Failing.\n", ""},
	} {
		p := s.start(tor{}, strings.Fields(c.arg)...)
		if code := p.end(); code != c.code || !strings.Contains(p.stdout.String(), c.stdout) || !strings.HasPrefix(p.stderr.String(), c.stderr) {
			t.Errorf("%s: %d %q %q", c.arg, code, p.stdout.String(), p.stderr.String())
		}
	}
	s.withRealTor()
	for arg, text := range map[string]string{"--help": "Roger Dingledine", "--list-modules": "relay: yes", "--library-versions": "Libevent", "--dump-config short -f /dev/null --SocksPort 7": "SocksPort 7",
		"SocksPort 7 --dump-config --DataDirectory " + s.path("d"): "SocksPort 7"} {
		p := s.start(tor{}, strings.Fields(arg)...)
		if code := p.end(); !strings.Contains(p.stdout.String(), text) && code == 0 {
			t.Errorf("%s: %d %q %q", arg, code, p.stdout.String(), p.stderr.String())
		}
	}
	s.noRealTor()
}

func TestAcceptance20_SystemCall(t *testing.T) {
	for _, args := range [][]string{
		{"--defaults-torrc", "/usr/share/tor/tor-service-defaults-torrc", "-f", "/etc/tor/torrc", "--RunAsDaemon", "0"},
		{"--defaults-torrc", "/run/tor-instances/x.defaults", "-f", "/etc/tor/instances/x/torrc"},
		{"--defaults-torrc", "/usr/share/../share/tor/tor-service-defaults-torrc", "SocksPort", "17001"},
		{"-f", "/etc/tor/torrc", "--SocksPort", "17001"},
		{"--DataDirectory", "d", "--PidFile", "p"},
		{},
	} {
		s := newStation(t)
		s.gateway("127.0.0.1")
		if err := os.MkdirAll(filepath.Join(s.dir, "run/tor-instances"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, "run/tor-instances/x.defaults"), []byte("SocksPort 17001\nPidFile "+s.path("pid")+"\nDataDirectory "+s.path("d")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(s.dir, "run/notify"), Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer notify.Close()
		_ = notify.SetDeadline(time.Now().Add(patience))
		p := s.start(tor{environ: []string{"NOTIFY_SOCKET=/run/notify"}}, args...)
		buffer := make([]byte, 64)
		if n, err := notify.Read(buffer); err != nil || string(buffer[:n]) != "READY=1" {
			t.Errorf("%q: %q, %v", args, buffer[:n], err)
		}
		for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGHUP} {
			p.signal(sig)
		}
		p.says("Received reload signal")
		if l, f := s.listening(), s.files(); len(l)+len(f) > 0 {
			t.Errorf("%q: %q %q", args, l, f)
		}
		p.stop()
		if n, err := notify.Read(buffer); err != nil || string(buffer[:n]) != "STOPPING=1" {
			t.Errorf("%q: %q, %v", args, buffer[:n], err)
		}
	}
}

func TestAcceptance21_OnionShare(t *testing.T) {
	s := newStation(t)
	s.gateway("127.0.0.1")
	dir := s.path("data dir")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	torrc := s.write("data dir/torrc", "DataDirectory \""+dir+"\"\nSocksPort 17600\nControlSocket "+dir+"/control_socket\nCookieAuthentication 1\nCookieAuthFile "+dir+"/cookie\nAvoidDiskWrites 1\nLog notice stdout\n")
	for range 2 {
		p := s.start(tor{environ: []string{"LD_LIBRARY_PATH=/usr/lib"}}, "-f", torrc)
		s.leads("tcp", "127.0.0.1:17600", socksPort)
		p.says("Bootstrapped 100% (done): Done")
		pid := p.cmd.Process.Pid
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if string(cmdline) != "/usr/bin/tor\x00-f\x00"+torrc+"\x00" || string(comm) != "tor\n" {
			t.Errorf("%q %q", cmdline, comm)
		}
		for name, target := range map[string]string{"control_socket": controlTarget, "cookie": cookieTarget} {
			if is, err := os.Readlink(filepath.Join(dir, name)); is != target {
				t.Errorf("%s: %q, %v", name, is, err)
			}
		}
		// As a program in the station sees them.
		within := func(arg ...string) string {
			cmd := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(pid), "-m", "-n", "/usr/bin/socat", "-t20"}, arg...)...)
			cmd.Stdin = strings.NewReader("PING\r\n")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%q: %v", arg, err)
			}
			return string(out)
		}
		if cookie := within("-u", "OPEN:"+dir+"/cookie,rdonly", "-"); len(cookie) != 32 {
			t.Errorf("cookie %q", cookie)
		}
		if answer := within("-", "UNIX-CONNECT:"+dir+"/control_socket"); answer != controlPort+"\r\n" {
			t.Errorf("control: %q", answer)
		}
		p.signal(unix.SIGKILL) // nothing is tidied, and the next start works as well
		_ = p.end()
		if l := s.listening(); len(l) > 0 {
			t.Errorf("%q", l)
		}
	}
	p := s.start(tor{}, "-f", torrc)
	p.says("Bootstrapped 100% (done): Done")
	p.stop()
	if is := strings.Join(s.files(), " "); is != "data dir data dir/torrc" {
		t.Errorf("left: %q", is)
	}
}

func TestAcceptance22_Bine(t *testing.T) {
	s := newStation(t)
	s.gateway("127.0.0.1")
	s.write("torrc", "")
	p := s.start(tor{}, "--DataDirectory", "data", "--CookieAuthentication", "1", "--DisableNetwork", "1", "--hush", "--SocksPort", "auto", "-f", "torrc", "--ControlPort", "auto", "--ControlPortWriteToFile", "control-port")
	eventually(t, "control-port", func() bool { return strings.HasPrefix(s.read("control-port"), "PORT=127.0.0.1:") })
	address := strings.TrimSuffix(strings.TrimPrefix(s.read("control-port"), "PORT="), "\n")
	s.leads("tcp", address, controlPort)
	if fi, err := os.Stat(s.path("control-port")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("%v %v", fi, err)
	}
	if fi, err := os.Stat(s.path("data")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", fi, err)
	}
	if target, _ := os.Readlink(s.path("data/control_auth_cookie")); target != cookieTarget {
		t.Errorf("cookie: %q", target)
	}
	p.stop()
	if out := p.stdout.String(); out != "" {
		t.Errorf("--hush: %q", out)
	}
	if is := strings.Join(s.files(), " "); is != "data torrc" {
		t.Errorf("left: %q", is)
	}
}

const stemScript = `
import os, sys
import stem.process
import stem.version
process = stem.process.launch_tor_with_config({'SocksPort': '17700', 'ControlPort': '17701', 'DataDirectory': sys.argv[1]}, tor_cmd=sys.argv[2], take_ownership=True, completion_percent=100, timeout=60, init_msg_handler=print)
print(stem.version.get_system_tor_version(sys.argv[2]))
print('ready', process.pid, flush=True)
sys.stdin.read()
os._exit(0)
`

// TestAcceptance22_Stem: stem itself, which closes its ends of the pipes.
func TestAcceptance22_Stem(t *testing.T) {
	s := newStation(t)
	s.gateway("127.0.0.1")
	link := s.path("tor")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-c", stemScript, s.path("data"), link)
	cmd.Dir = s.dir
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out lines
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	var pid int
	eventually(t, "stem is ready: "+out.String(), func() bool {
		_, after, ok := strings.Cut(out.String(), "ready ")
		_, err := fmt.Sscan(after, &pid)
		return ok && err == nil
	})
	if !strings.Contains(out.String(), "Bootstrapped 100% (done): Done") {
		t.Errorf("%s", out.String())
	}
	s.leads("tcp", "127.0.0.1:17701", controlPort)
	if err := unix.Kill(pid, unix.SIGHUP); err != nil { // which writes a line to the closed pipe
		t.Error(err)
	}
	s.leads("tcp", "127.0.0.1:17700", socksPort)
	stdin.Close()
	_ = cmd.Wait() // what it had to say is checked above
	eventually(t, "it goes with its owner", func() bool { return unix.Kill(pid, 0) != nil })
}

func TestAcceptance22_Owner(t *testing.T) {
	s := newStation(t)
	owner := exec.Command("sleep", "1000")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	p := s.start(tor{}, "--SocksPort", "auto", "__OwningControllerProcess", fmt.Sprint(owner.Process.Pid))
	p.says("Opened Socks listener")
	p.idles()
	_ = owner.Process.Kill()
	_ = owner.Wait() // it was killed
	if code := p.end(); code != 0 {
		t.Errorf("%d", code)
	}
	p = s.start(tor{}, "--SocksPort", "auto", "__OwningControllerProcess", fmt.Sprint(owner.Process.Pid))
	if code := p.end(); code != 0 {
		t.Errorf("already gone: %d", code)
	}
}

func TestAcceptance23_OnlyLoopback(t *testing.T) {
	s := newStation(t)
	s.gateway("127.0.0.1")
	data := s.path("a data/directory of mine")
	p := s.start(tor{}, "-f", s.write("torrc", "SocksPort 0.0.0.0:17005\nSocksPort 127.0.0.1:17005\nDataDirectory \""+data+"\"\nDataDirectoryGroupReadable 1\nControlPort example.org:17006\nHTTPTunnelPort [2001:db8::1]:17007\nControlPort [::]:17008\n"))
	p.says("Bootstrapped 100%")
	want := []string{"00000000000000000000000001000000:17007", "00000000000000000000000001000000:17008", "127.0.0.1:17005", "127.0.0.1:17006"}
	if l := s.listening(); !slices.Equal(l, want) {
		t.Errorf("%q, want %q", l, want)
	}
	if fi, err := os.Stat(data); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", fi, err)
	}
	if is := strings.Join(s.files(), "|"); is != "a data|a data/directory of mine|torrc" {
		t.Errorf("%q", is)
	}
	p.stop()
	for _, value := range []string{"17005,bind=0.0.0.0", "127.0.0.1:17005,fork", "17005;id"} {
		p := s.start(tor{}, "-f", s.write("torrc", "SocksPort 17010\nControlPort "+value+"\n"))
		if code := p.end(); code != 1 || len(s.listening()) > 0 || !strings.Contains(p.stdout.String(), "torrc:2: Couldn't parse address") {
			t.Errorf("%s: %d %q %q", value, code, s.listening(), p.stdout.String())
		}
	}
}
