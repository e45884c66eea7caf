// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// qubesTemplate is a machine with the Qubes snippet that believes to be a
// template.
func qubesTemplate(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.copy("../../etc/uwt.d/40_qubes.conf", "/etc/uwt.d/40_qubes.conf")
	m.copy("../../scripts/qubes-whonix/qubes_torified_dom0.txt", "/usr/share/doc/qubes-whonix/qubes_torified_dom0.txt")
	m.write("/usr/bin/qubesdb-read", "#!/bin/sh\n", 0o755)
	m.write("/run/qubes/this-is-templatevm", "", 0o644)
	m.mkdir("/run/updatesproxycheck")
	m.wrap("/usr/bin/apt")
	m.copy(binaries+"/probe", "/usr/bin/apt"+originalSuffix)
	return m
}

const (
	secureProxy = "/run/updatesproxycheck/whonix-secure-proxy"
	checkDone   = "/run/updatesproxycheck/whonix-secure-proxy-check-done"
)

func TestAcceptance14_QubesTemplate(t *testing.T) {
	m := qubesTemplate(t)
	m.write(checkDone, "", 0o644)
	warning := "WARNING: Execution of '/usr/bin/apt' prevented by '/etc/uwt.d/40_qubes.conf' because no torified Qubes updates proxy found.\n"
	m.run("apt update").want(255).notRun().says(warning, "sudo systemctl restart qubes-whonix-torified-updates-proxy-check")
	m.run("apt update", "UWT_DEV_PASSTHROUGH=1").want(255).notRun()
	m.run("apt", "torified_check=skip").want(0).quiet().wantIsolated(true)
	m.run("rawdog").want(0).quiet().wantIsolated(true)
	m.run("rawdog", "torified_check=true").want(255).notRun()
	m.write(secureProxy, "", 0o644)
	m.run("apt update").want(0).quiet().wantIsolated(false).wantArgs("/usr/bin/apt", "update")
	m.run("/bin/apt").want(0).quiet().wantIsolated(false)
	m.run("apt.anondist").want(0).quiet().wantIsolated(false)
	m.run("rawdog").want(0).quiet().wantIsolated(true)
}

// TestQubesProofIsRenewed: a verdict of more than ten minutes ago does not count
// before the proxy was asked again, nor does one of the future; without an answer
// it is asked again.
func TestQubesProofIsRenewed(t *testing.T) {
	const check = "/usr/lib/qubes-whonix/init/torified-updates-proxy-check"
	m := qubesTemplate(t)
	m.write(secureProxy, "", 0o644)
	m.write(checkDone, "", 0o644)
	asks := func(script string) { m.write(check, "#!/bin/sh\n[ \"$*\" = --ask ] || exit 9\n"+script+"\n", 0o755) }
	old := func(age time.Duration) {
		t.Helper()
		then := time.Now().Add(-age)
		if err := os.Chtimes(m.path(secureProxy), then, then); err != nil {
			t.Fatal(err)
		}
	}
	asks("exit 1")
	m.run("apt update").want(0).wantIsolated(false)
	for _, age := range []time.Duration{11 * time.Minute, -time.Hour} {
		old(age)
		m.run("apt update").want(255).notRun().says("no torified Qubes updates proxy found")
	}
	asks("exit 0")
	m.run("apt update").want(0).quiet().wantIsolated(false)
	asks("mkdir /run/updatesproxycheck/asked 2>/dev/null && exit 3\nexit 0")
	m.run("apt update").want(0).wantIsolated(false)
	if _, err := os.Stat(m.path("/run/updatesproxycheck/asked")); err != nil {
		t.Error(err)
	}
	m.write("/run/qubes-service/skip-torified-updates-proxy-check", "", 0o644)
	asks("exit 1")
	m.run("apt update").want(0).wantIsolated(false)
	if err := os.Remove(m.path("/run/qubes-service/skip-torified-updates-proxy-check")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(m.path(check)); err != nil {
		t.Fatal(err)
	}
	m.run("apt update").want(255).notRun()
}

// TestAcceptance14_Waiting: it goes on when the file appears, and Ctrl-C ends
// it at once.
func TestAcceptance14_Waiting(t *testing.T) {
	m := qubesTemplate(t)
	begin := time.Now()
	s := m.run("(sleep 1.5; touch " + secureProxy + ") & apt").want(0).wantIsolated(false)
	if took := time.Since(begin); took < 1500*time.Millisecond || took > stuck {
		t.Errorf("took %v", took)
	}
	// A machine with much to do may take long enough for it to say so.
	if s.stderr != "" && s.stderr != "uwtwrapper: waiting up to 120 seconds for the check of the Qubes updates proxy\n" {
		t.Errorf("stderr %q", s.stderr)
	}
	if err := os.Remove(m.path(secureProxy)); err != nil {
		t.Fatal(err)
	}
	cmd := m.command("exec apt")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the waiting sleep", func() bool {
		out, err := exec.Command("ps", "-A", "-o", "pgid=,args=").Output()
		if err != nil {
			t.Fatal(err)
		}
		group := fmt.Sprint(cmd.Process.Pid)
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); f[0] == group && strings.HasSuffix(strings.Join(f, " "), "sleep -- 1") {
				return true
			}
		}
		return false
	})
	begin = time.Now()
	if err := unix.Kill(-cmd.Process.Pid, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	ws, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ws.Signaled() || ws.Signal() != unix.SIGINT || time.Since(begin) > stuck {
		t.Errorf("%v after %v", cmd.ProcessState, time.Since(begin))
	}
}

// stuck is longer than anything takes that goes on at once, also on a machine
// with much to do, and shorter than what waits.
const stuck = time.Minute

// waitFor polls a condition that nothing announces.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	const limit, step = stuck, 20 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for end := time.Now().Add(limit); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not seen within %v: %s", limit, what)
		}
	}
}

// curlMachine has curl and dnf-3 wrapped, curl being the real one or the probe.
func curlMachine(t *testing.T, real bool) *machine {
	t.Helper()
	m := newMachine(t)
	program := binaries + "/probe"
	if real {
		program = "/usr/bin/curl"
	}
	for _, name := range []string{"curl", "dnf-3"} {
		m.wrap("/usr/bin/" + name)
		m.copy(program, "/usr/bin/"+name+originalSuffix)
	}
	return m
}

// serveSocks has a SocksPort answer every request with a short HTTP page, and
// tells of each.
func serveSocks(t *testing.T, n *netlab.Namespace, address string) <-chan netlab.SOCKSRequest {
	t.Helper()
	asked := make(chan netlab.SOCKSRequest, 100)
	l, err := n.ServeSOCKS(address, func(r netlab.SOCKSRequest, c *net.TCPConn) {
		asked <- r
		_, _ = c.Write(append(netlab.SOCKSReply(0), "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes"...))
		_, _ = io.Copy(io.Discard, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return asked
}

// serveSilence accepts connections and says nothing.
func serveSilence(t *testing.T, n *netlab.Namespace, address string) {
	t.Helper()
	l, err := n.Listen(0, address)
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
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
}

func newNamespace(t *testing.T) *netlab.Namespace {
	t.Helper()
	n, err := netlab.New("uwt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// in runs a command line of a machine in a network namespace.
func (m *machine) in(n *netlab.Namespace, script string, env ...string) *seen {
	m.t.Helper()
	var s *seen
	if err := n.Do(func() error { s = m.run(script, env...); return nil }); err != nil {
		m.t.Fatal(err)
	}
	return s
}

func TestAcceptance16_CurlThroughTor(t *testing.T) {
	m, n := curlMachine(t, true), newNamespace(t)
	tor := serveSocks(t, n, "127.0.0.1:9050")
	tor6 := serveSocks(t, n, "[::1]:9050")
	var passwords []string
	for _, c := range []struct {
		args, destination string
		from              <-chan netlab.SOCKSRequest
		env               []string
	}{
		{"http://example.onion/", "example.onion:80", tor, nil},
		{"http://example.org/?q=127.0.0.1", "example.org:80", tor, nil},
		{"-q -d 127.0.0.1 http://example.org/", "example.org:80", tor, nil},
		{"-H -x http://example.org:8080/", "example.org:8080", tor, nil},
		{"-6 http://example.org/", "example.org:80", tor6, nil},
		{"http://example.org/", "example.org:80", tor, []string{"no_proxy=*"}},
		{"http://127.0.0.1:1/ http://example.org/ || true", "example.org:80", tor, nil},
		{"-sSL http://192.0.2.1/", "192.0.2.1:80", tor, nil},
		// Behind --next a new set of options begins.
		{"http://127.0.0.1:1/ --next -s http://example.org/", "example.org:80", tor, nil},
		{"-d --next http://127.0.0.1:1/ -: -s http://example.org/", "example.org:80", tor, nil},
		{"http://127.0.0.1:1/ -sg: -s http://example.org/", "example.org:80", tor, nil},
		{"http://127.0.0.1:1/ -s -: -s http://127.0.0.1:1/ --nex -s http://example.org/", "example.org:80", tor, nil},
	} {
		s := m.in(n, "curl -s "+strings.TrimPrefix(c.args, "-q "), c.env...)
		if strings.HasPrefix(c.args, "-q ") {
			s = m.in(n, "curl -q -s "+strings.TrimPrefix(c.args, "-q "))
			<-c.from
		}
		if s.want(0).stdout != "yes" {
			t.Errorf("%s: %q %q", c.args, s.stdout, s.stderr)
			continue
		}
		r := <-c.from
		password, ok := strings.CutPrefix(r.Password, "curl-wrapper_")
		if !ok || r.User != "<torS0X>0" || len(password) != 43 || r.Destination() != c.destination || slices.Contains(passwords, password) {
			t.Errorf("%s: asked %+v", c.args, r)
		}
		passwords = append(passwords, password)
	}
}

func TestAcceptance16_CurlUntouched(t *testing.T) {
	m, n := curlMachine(t, false), newNamespace(t)
	_ = serveSocks(t, n, "127.0.0.1:9050")
	proxy := "WARNING: Detected '--proxy' or '-x' argument. Stream isolation will be disabled.\n"
	loop := "NOTE: Detected loopback address. Stream isolation will be disabled.\n"
	for args, said := range map[string]string{
		"-x h:1 http://a/": proxy, "--proxy h:1 http://a/": proxy, "-sxh:1 http://a/": "Detected '-sxh:1' argument",
		"--socks5-hostname h:1 http://a/": "Detected '--socks5-hostname' argument", "--noproxy a http://a/": "'--noproxy'",
		"-U u:p http://a/":    "WARNING: Detected '--proxy-user' or '-U' argument. Stream isolation will be disabled.\n",
		"http://127.0.0.1/":   loop,
		"127.0.0.1:80":        loop,
		"localhost":           loop,
		"-o x http://[::1]/":  loop,
		"--url 127.1.2.3":     loop,
		"-s localhost:8082/x": loop,
	} {
		s := m.in(n, "curl "+args).want(0).wantIsolated(false).says(said)
		s.wantArgs(append([]string{"/usr/bin/curl"}, strings.Fields(args)...)...)
	}
	m.in(n, "curl http://a/", "https_proxy=h:1").want(0).says("'https_proxy'").wantArgs("/usr/bin/curl", "http://a/")
	for _, args := range []string{"-K f", "--config f", "-Kf", "-sK f", "--conf f"} {
		m.in(n, "curl "+args).want(1).notRun().says("ERROR: Detected '--config' or '-K' argument. The uwt curl wrapper cannot handle this. Please use '/usr/bin/curl.anondist-orig' instead.\n")
	}
	s := m.in(n, "curl -q http://a/").want(0)
	if args := s.items("arg"); len(args) != 7 || args[1] != "-q" || args[2] != "--config" || args[5] != "socks5h://127.0.0.1:9050/" {
		t.Errorf("%q", args)
	}
	for _, kv := range s.items("env") {
		if strings.HasPrefix(kv, "UWT_DEV_PASSTHROUGH") {
			t.Errorf("curl's children get %s", kv)
		}
	}
	m.user("uwtwrapper[\"/usr/bin/curl\"]=0\n")
	m.in(n, "curl -x a").want(0).quiet().wantIsolated(false).wantArgs("/usr/bin/curl", "-x", "a")
}

func TestAcceptance16_TorDoesNotAnswer(t *testing.T) {
	m, n := curlMachine(t, false), newNamespace(t)
	for _, silent := range []bool{false, true} {
		if silent {
			serveSilence(t, n, "127.0.0.1:9050")
		}
		begin := time.Now()
		m.in(n, "curl http://a/").want(7).notRun().says("no answer from Tor", "UWT_FAIL_OPEN=1")
		// The server would be silent for ever; TestTorAnswers has the limit.
		if took := time.Since(begin); took > stuck {
			t.Errorf("decided after %v", took)
		}
	}
	m.in(n, "dnf-3 install x").want(1).notRun().says("no answer from Tor")
	m.in(n, "curl http://a/", "UWT_FAIL_OPEN=1").want(0).wantArgs("/usr/bin/curl", "http://a/").says("WARNING: Tor proxy")
	m.write(whonix.WorkstationMarker, "", 0o644)
	m.in(n, "curl http://a/").want(0).wantArgs("/usr/bin/curl", "http://a/").says("WARNING: Tor proxy doesn't seem to be functional. Stream isolation will be disabled.\n")
}

func TestAcceptance17_Dnf(t *testing.T) {
	m, n := curlMachine(t, false), newNamespace(t)
	_ = serveSocks(t, n, "127.0.0.1:9050")
	m.wrap("/usr/bin/yum")
	m.link("dnf-3", "/usr/bin/yum"+originalSuffix)
	args := m.in(n, "cd /; yum install x").want(0).quiet().wantIsolated(false).items("arg")
	if len(args) != 6 || args[0] != "/usr/bin/yum" || args[1] != "--setopt=proxy=socks5h://127.0.0.1:9050/" ||
		args[2] != "--setopt=proxy_username=<torS0X>0" || !strings.HasPrefix(args[3], "--setopt=proxy_password=dnf-wrapper_") {
		t.Errorf("%q", args)
	}
	for _, args := range []string{"--setopt=proxy=x", "--setopt proxy=x", "--setopt=proxy_username=x"} {
		m.in(n, "dnf-3 "+args).want(0).quiet().wantArgs(append([]string{"/usr/bin/dnf-3"}, strings.Fields(args)...)...)
	}
	// Children of dnf are wrapped as ever.
	m.write("/usr/bin/dnf-3"+originalSuffix, "#!/bin/sh\nexec rawdog child\n", 0o755)
	m.in(n, "dnf-3").want(0).quiet().wantIsolated(true).wantArgs("/usr/bin/rawdog", "child")
	// The wait for Tor is made by whom there is, and its failure ends it.
	m.write(waitPath, "#!/bin/sh\necho waited >&2\nexit 0\n", 0o755)
	m.in(n, "dnf-3").want(0).says("waited")
	m.write("/usr/bin/leaprun", "#!/bin/sh\necho leap \"$@\" >&2\n[ \"$1\" = --check ] || exit 3\n", 0o755)
	m.in(n, "dnf-3").want(3).notRun().says("leap try-wait-for-tor-service-running")
}

// TestRicochet: its own Tor is not to be started.
func TestRicochet(t *testing.T) {
	m := newMachine(t).user("bindp_use[\"/usr/bin/ricochet\"]=false\n")
	m.wrap("/usr/bin/ricochet")
	m.copy(binaries+"/probe", "/usr/bin/ricochet"+originalSuffix)
	s := m.run("ricochet").want(0).wantIsolated(true)
	if s.env("TOR_CONTROL_HOST") != "127.0.0.1" || s.env("TOR_CONTROL_PORT") != "9151" {
		t.Errorf("%q", s.items("env"))
	}
}

// TestCurlFlags holds the table of options without value to the curl that is
// installed.
func TestCurlFlags(t *testing.T) {
	out, err := exec.Command("/usr/bin/curl", "--help", "all").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(strings.Replace(line, ",", "", 1))
		for i, w := range words[:min(2, len(words))] {
			if !strings.HasPrefix(w, "--") {
				continue
			}
			seen++
			var f curlFindings
			takes := i+1 < len(words) && strings.ContainsAny(words[i+1][:1], "<[")
			if value := f.long(w, ""); value != takes {
				t.Errorf("%s: taken to have a value: %v; curl says %q", w, value, strings.TrimSpace(line))
			}
			if i == 1 {
				if value := f.short(words[0], ""); value != takes {
					t.Errorf("%s: taken to have a value: %v", words[0], value)
				}
			}
		}
	}
	if seen < 200 {
		t.Errorf("curl names %d options only", seen)
	}
}

// TestCurlNeverOffByData: no option's value turns isolation off.
func TestCurlNeverOffByData(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.SampledFrom([]string{"127.0.0.1", "-x", "--proxy", "localhost", "-K", "-U", "[::1]"}).Draw(rt, "value")
		option := rapid.SampledFrom([]string{"-d", "-H", "-A", "-o", "-u", "--data", "--user-agent", "--header", "-sd", "--new-option", "-e"}).Draw(rt, "option")
		f := scanCurl([]string{option, value, "https://example.org/"})
		if f.config != "" || f.proxy != "" || f.proxyUser != "" || !slices.Equal(f.hosts, []string{"example.org"}) {
			rt.Fatalf("%s %s: %+v", option, value, f)
		}
	})
}

func TestHosts(t *testing.T) {
	for text, local := range map[string]bool{
		"127.0.0.1": true, "localhost": true, "LOCALHOST:80/x": true, "http://[::1]:8/": true, "https://127.9.9.9": true, "x.localhost": true,
		"http://user:p@127.0.0.1/": true, "[::ffff:127.0.0.1]": true, "localhost.": true,
		"example.org": false, "http://127.0.0.1.example.org": false, "http://a/127.0.0.1": false, "http://127.0.0.1@evil.example/": false,
		"http://{127.0.0.1,evil.example}/": false, "": false, "http://0.0.0.0": false, "127.1": false, "http://[::1": false, "http://127.0.0.[1-9]/": false,
	} {
		if got := loopback(hostOf(text)); got != local {
			t.Errorf("%q (host %q): local %v, want %v", text, hostOf(text), got, local)
		}
	}
}

func FuzzCurlArguments(f *testing.F) {
	f.Add("-sx\x00a\x00--url\x00localhost")
	f.Fuzz(func(t *testing.T, args string) {
		_ = scanCurl(strings.Split(args, "\x00"))
	})
}

func TestTorAnswers(t *testing.T) {
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
			_, _ = c.Write([]byte("HTTP/1.0 400 no\r\n"))
			c.Close()
		}
	}()
	if err := torAnswers(context.Background(), l.Addr().String()); err == nil {
		t.Error("a web server is no Tor")
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var timeout net.Error
	begin := time.Now()
	err = torAnswers(context.Background(), silent.Addr().String())
	if took := time.Since(begin); !errors.As(err, &timeout) || !timeout.Timeout() || took < answerLimit || took > stuck {
		t.Errorf("silence: %v after %v", err, took)
	}
}
