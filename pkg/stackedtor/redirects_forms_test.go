// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// built is the program in a root of its own, in which there is nothing else: no
// bash, no socat, no /proc.
func built(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	build := exec.Command("go", "build", "-o", m.root.Path("/socat-unix-sockets"), "whonix-networking/cmd/socat-unix-sockets")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return m
}

// alone runs the program there.
func (m *machine) alone(environ ...string) (cmd *exec.Cmd, stdout, stderr *lines) {
	m.t.Helper()
	stdout, stderr = &lines{}, &lines{}
	cmd = exec.Command("/socat-unix-sockets")
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", environ, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: string(m.root)}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, stdout, stderr
}

// descendants are the processes that have parent for their parent.
func descendants(t *testing.T, parent int) (out []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
			out = append(out, path)
		}
	}
	return out
}

// TestAcceptance03_Forms: the forms in use, by one process, where there is
// neither socat nor bash.
func TestAcceptance03_Forms(t *testing.T) {
	m := built(t)
	_, to, _ := net.SplitHostPort(echoServer(t))
	ports := freePorts(t, 18)
	m.write(userDropIn, fmt.Sprintf(`[ -n "$pre_command" ] || pre_command=""
$pre_command socat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:$GATEWAY_IP:%s &
$pre_command socat -t100 UNIX-LISTEN:/run/x/127.0.0.1_1.sock,mode=777,reuseaddr,fork TCP:$GATEWAY_IP:%[2]s &
i2p_ports=" %[3]s "
for port in $i2p_ports ; do
	$pre_command socat TCP-LISTEN:"$port",fork,bind=127.0.0.1 TCP:$GATEWAY_IP:%[2]s &
done
`, ports[0], to, strings.Join(ports[1:], " ")))
	cmd, _, stderr := m.alone("GATEWAY_IP=127.0.0.1")
	for _, p := range ports {
		eventually(t, "port "+p, func() bool { return reaches("tcp", "127.0.0.1:"+p) })
	}
	path := m.root.Path("/run/x/127.0.0.1_1.sock")
	eventually(t, path, func() bool { return reaches("unix", path) })
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o777 {
		t.Errorf("%v %v", fi, err)
	}
	if d := descendants(t, cmd.Process.Pid); len(d) > 0 {
		t.Errorf("it has started %v", d)
	}
	// Neither a hangup nor anything a client does ends it (D.5).
	if err := cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if !reaches("unix", path) {
		t.Error("gone after SIGHUP")
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 143 || stderr.String() != "" {
		t.Errorf("%v %q", err, stderr.String())
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is still there")
	}
}

// TestNoBash: what needs bash, where there is none, is named; nothing starts.
func TestNoBash(t *testing.T) {
	m := built(t)
	port := freePort(t)
	m.write(userDropIn, "socat TCP-LISTEN:"+port+",fork,bind=127.0.0.1 TCP:h:1 &\nx=$((1+1))\n")
	cmd, _, stderr := m.alone()
	_ = cmd.Wait()
	if want := "ERROR: " + userDropIn + ":2: needs /bin/bash ("; cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(stderr.String(), want) {
		t.Errorf("%d %q, want %q", cmd.ProcessState.ExitCode(), stderr.String(), want)
	}
	if reaches("tcp", "127.0.0.1:"+port) {
		t.Error("a relay was started")
	}
}

// TestAcceptance02_Broken: what cannot be read is named in the words that users
// know, whatever is wrong with it, and nothing of the others is served.
func TestAcceptance02_Broken(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		code int
	}{
		"syntax":   {func(p string) error { return os.WriteFile(p, []byte("if true\n"), 0o644) }, 2},
		"dangling": {func(p string) error { return os.Symlink("/nonexistent", p) }, 127},
		"folder":   {func(p string) error { return os.Mkdir(p, 0o755) }, 126},
	} {
		m := newMachine(t)
		port := freePort(t)
		m.write("/etc/anon-ws-disable-stacked-tor.d/10.conf", "socat TCP-LISTEN:"+port+",fork,bind=127.0.0.1 TCP:h:1 &\n")
		if err := c.make(m.root.Path(userDropIn)); err != nil {
			t.Fatal(err)
		}
		r := m.redirect()
		want := fmt.Sprintf("Invalid config file: %s\nbash_n_exit_code: %d\nbash_n_output:\n", userDropIn, c.code)
		if code := r.end(t); code != 1 || !strings.HasPrefix(r.stderr.String(), want) || len(r.stderr.String()) == len(want) {
			t.Errorf("%s: %d %q, want %q", name, code, r.stderr.String(), want)
		}
		if reaches("tcp", "127.0.0.1:"+port) {
			t.Errorf("%s: a relay was started", name)
		}
	}
}

// TestAcceptance02_Unreadable is for an account that is not root's, as the
// service's is not.
func TestAcceptance02_Unreadable(t *testing.T) {
	m := built(t)
	m.write(userDropIn, "socat TCP-LISTEN:1,fork TCP:h:1 &\n")
	if err := os.Chmod(m.root.Path(userDropIn), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(string(m.root), 0o755); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command("/socat-unix-sockets")
	cmd.Dir, cmd.Env, cmd.Stderr = "/", nil, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: string(m.root), Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(stderr.String(), "Invalid config file: "+userDropIn+"\nbash_n_exit_code: 126\n") {
		t.Errorf("%v %q", err, stderr.String())
	}
}

// TestAcceptance04_Grace: how long a reply may take after the client has ended
// its direction.
func TestAcceptance04_Grace(t *testing.T) {
	const late = time.Second
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
			go func() {
				defer c.Close()
				got, _ := io.ReadAll(c)
				<-time.After(late)
				_, _ = c.Write(got)
			}()
		}
	}()
	m := newMachine(t)
	ports := freePorts(t, 3)
	text := ""
	for i, option := range []string{"-t10", "-t0.2", ""} { // -t10 for the contract's -t2, as machines are slow
		text += fmt.Sprintf("socat %s TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%s &\n", option, ports[i], l.Addr())
	}
	m.write(userDropIn, text)
	r := m.redirect()
	for i, want := range []string{"question", "", "question"} {
		eventually(t, "the relay", func() bool { return strings.Contains(r.stdout.String(), "TCP-LISTEN:"+ports[i]) })
		c := connect(t, "tcp", "127.0.0.1:"+ports[i])
		if _, err := c.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != want || err != nil {
			t.Errorf("%q: %q %v", strings.Split(text, "\n")[i], got, err)
		}
	}
}

// TestAcceptance10_Brackets: however the Gateway's IPv6 address is written, set
// and quoted, and whoever evaluates it.
func TestAcceptance10_Brackets(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
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
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	_, to, _ := net.SplitHostPort(l.Addr().String())
	for _, address := range []string{"::1", "[::1]"} {
		for name, c := range map[string]struct{ text, environ string }{
			"set": {"GATEWAY_IP6='" + address + "'", ""}, "unquoted": {"GATEWAY_IP6=" + address, ""}, "environment": {"", "GATEWAY_IP6=" + address},
			"by bash": {"x=$((1))\nGATEWAY_IP6=" + address, ""}, "environment, by bash": {"x=$((1))", "GATEWAY_IP6=" + address},
		} {
			m := newMachine(t)
			text := c.text + "\n"
			words := []string{"TCP:$GATEWAY_IP6:" + to, `"TCP:$GATEWAY_IP6:` + to + `"`, `TCP6:"$GATEWAY_IP6":` + to, "TCP:${GATEWAY_IP6}:" + to, "TCP:" + address + ":" + to}
			ports := freePorts(t, len(words))
			for i, word := range words {
				text += fmt.Sprintf("socat TCP-LISTEN:%s,fork,bind=127.0.0.1 %s &\n", ports[i], word)
			}
			m.write(userDropIn, text)
			r := m.redirect(c.environ)
			for i, port := range ports {
				eventually(t, fmt.Sprintf("%s, %s: %s: %s", address, name, words[i], r.stderr.String()), func() bool { return reaches("tcp", "127.0.0.1:"+port) })
			}
			r.cancel()
			r.end(t)
		}
	}
}

// TestAcceptance15_SocatLoop: no relay to itself, to a name of itself, on all
// addresses, or by way of another; and the others are served.
func TestAcceptance15_SocatLoop(t *testing.T) {
	m := newMachine(t)
	p := freePorts(t, 9)
	path := m.root.Path("/run/s")
	loops := []string{
		fmt.Sprintf("TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:127.0.0.1:%[1]s", p[0]), fmt.Sprintf("TCP-LISTEN:%s,fork TCP:localhost:%[1]s", p[1]),
		fmt.Sprintf("TCP-LISTEN:%s,fork TCP:127.0.0.7:%[1]s", p[2]), fmt.Sprintf("TCP6-LISTEN:%s,fork,bind=::1 TCP:[::1]:%[1]s", p[3]),
		fmt.Sprintf("TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:0.0.0.0:%[1]s", p[4]), fmt.Sprintf("TCP-LISTEN:%s,fork TCP:[::ffff:127.0.0.1]:%[1]s", p[5]),
		fmt.Sprintf("UNIX-LISTEN:%s,fork UNIX-CONNECT:%s", path, filepath.Dir(path)+"/../run/s"),
		fmt.Sprintf("TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:127.0.0.1:%s", p[6], p[7]), fmt.Sprintf("TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:127.0.0.1:%s", p[7], p[6]),
	}
	text := ""
	for _, l := range loops {
		text += "socat " + l + " &\n"
	}
	m.write(userDropIn, text+fmt.Sprintf("socat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%s &\n", p[8], echoServer(t)))
	r := m.redirect()
	eventually(t, "the good one", func() bool { return reaches("tcp", "127.0.0.1:"+p[8]) })
	eventually(t, "all complaints", func() bool { return strings.Count(r.stderr.String(), "leads to itself") == len(loops) })
	for i, l := range loops {
		if want := fmt.Sprintf("ERROR: %s:%d: socat %s: leads to itself\n", userDropIn, i+1, l); !strings.Contains(r.stderr.String(), want) {
			t.Errorf("no %q in %q", want, r.stderr.String())
		}
	}
	for _, port := range p[:8] {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			t.Errorf("%s is listened on", port)
		}
	}
	r.cancel()
	r.end(t)

	m.write(userDropIn, "socat "+loops[0]+" &\n")
	r = m.redirect()
	if code := r.end(t); code != 1 {
		t.Errorf("a loop alone: %d", code)
	}
}

// TestAcceptance15_Dialled: a name that becomes the listener's address later is
// not connected either.
func TestAcceptance15_Dialled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{Control: listening{l.Addr()}.control}
	if c, err := d.Dial("tcp", l.Addr().String()); !errors.Is(err, errLoop) {
		t.Errorf("%v %v", c, err)
	}
	if c, err := (&net.Dialer{Control: listening{}.control}).Dial("tcp", l.Addr().String()); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	own := listening{&net.TCPAddr{IP: net.IPv4zero, Port: 9050}}
	for address, want := range map[string]bool{"127.0.0.1:9050": true, "127.0.0.1:9051": false, "[::1]:9050": false, "10.152.152.10:9050": false, "0.0.0.0:9050": true, "localhost:9050": true, "no.such.invalid:9050": false} {
		if got := own.leadsBack(context.Background(), "tcp", address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// TestDefect25_FalseCondition: the code of what failed, and where.
func TestDefect25_FalseCondition(t *testing.T) {
	for text, code := range map[string]int{"x=1\n[ \"$x\" = 2 ] && y=1": 1, "x=$((1))\n( exit 7 )": 7, "x=1\nexit 9": 9} {
		m := newMachine(t)
		m.write(userDropIn, text+"\n")
		r := m.redirect()
		if got := r.end(t); got != code || !strings.HasPrefix(r.stderr.String(), "ERROR: "+userDropIn+":2") || strings.Count(r.stderr.String(), "\n") != 1 {
			t.Errorf("%q: %d %q", text, got, r.stderr.String())
		}
	}
}

// TestDefect27_Writable: files that others can change are refused.
func TestDefect27_Writable(t *testing.T) {
	m := newMachine(t)
	for name, change := range map[string]func(path string) error{
		"group": func(p string) error { return errors.Join(os.Chown(p, 0, 65534), os.Chmod(p, 0o664)) }, "others": func(p string) error { return os.Chmod(p, 0o646) },
		"owner": func(p string) error { return os.Chown(p, 65534, 0) },
	} {
		m.write(userDropIn, "echo run\n")
		if err := change(m.root.Path(userDropIn)); err != nil {
			t.Fatal(err)
		}
		r := m.redirect()
		if code := r.end(t); code != 1 || !strings.HasPrefix(r.stderr.String(), "ERROR: "+userDropIn+": ") || strings.Contains(r.stdout.String(), "run") {
			t.Errorf("%s: %d %q %q", name, code, r.stderr.String(), r.stdout.String())
		}
		if err := os.Remove(m.root.Path(userDropIn)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSubshell: what a subshell starts is served (defect 24), by one bash, and
// what is in the foreground is too.
func TestSubshell(t *testing.T) {
	m := newMachine(t)
	p := freePorts(t, 2)
	to := echoServer(t)
	m.write(userDropIn, fmt.Sprintf("( socat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%s & )\nsocat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%[2]s\n", p[0], to, p[1]))
	r := m.redirect()
	for _, port := range p {
		eventually(t, "port "+port, func() bool { return reaches("tcp", "127.0.0.1:"+port) })
	}
	if want := fmt.Sprintf("INFO: %s:2: socat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%s: in the foreground", userDropIn, p[1], to); !strings.Contains(r.stdout.String(), want) {
		t.Errorf("no %q in %q", want, r.stdout.String())
	}
}

// TestTwice: of two relays on one address the first counts, and the other is
// named.
func TestTwice(t *testing.T) {
	m := newMachine(t)
	port := freePort(t)
	to := echoServer(t)
	m.write(userDropIn, fmt.Sprintf("socat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%s &\nsocat TCP-LISTEN:%[1]s,fork,bind=127.0.0.1 TCP:h:1 &\nsocat TCP-LISTEN:x TCP:h:1 &\nsocat TCP-LISTEN:1,fork TCP:h:70000 &\n", port, to))
	r := m.redirect()
	eventually(t, "the relay", func() bool { return reaches("tcp", "127.0.0.1:"+port) })
	for _, want := range []string{userDropIn + ":2: socat TCP-LISTEN:" + port + ",fork,bind=127.0.0.1 TCP:h:1: " + userDropIn + ":1 listens there already\n",
		userDropIn + ":3: socat TCP-LISTEN:x TCP:h:1: TCP-LISTEN:x: \"x\" is no port\n", userDropIn + ":4: socat TCP-LISTEN:1,fork TCP:h:70000: TCP:h:70000: \"70000\" is no port\n"} {
		if !strings.Contains(r.stderr.String(), "ERROR: "+want) {
			t.Errorf("no %q in %q", want, r.stderr.String())
		}
	}
}

// TestMissingFolder: a folder that cannot be made is reported, and tried again.
func TestMissingFolder(t *testing.T) {
	m := newMachine(t)
	m.write("/run/file", "")
	path := m.root.Path("/run/file/s")
	m.write(userDropIn, "socat UNIX-LISTEN:"+path+",fork TCP:"+echoServer(t)+" &\n")
	r := m.redirect()
	eventually(t, "the complaint", func() bool { return strings.Contains(r.stderr.String(), "not a directory; again in 1s\n") })
	if err := os.Remove(m.root.Path("/run/file")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the relay", func() bool { return reaches("unix", path) })
}

// TestOneLine: whatever is in a command, a complaint about it is one line.
func TestOneLine(t *testing.T) {
	m := newMachine(t)
	m.write(userDropIn, "socat 'TCP-LISTEN:0\nINFO: fine\x1b[2J' TCP:h:1 &\n")
	r := m.redirect()
	if code := r.end(t); code != 1 || strings.Count(r.stderr.String(), "\n") != 1 || strings.Contains(r.stderr.String(), "\x1b") {
		t.Errorf("%d %q", code, r.stderr.String())
	}
}

// TestChildEnvironment: a child gets what the file exports, when it starts it,
// and neither the settings nor a descriptor of ours.
func TestChildEnvironment(t *testing.T) {
	m := newMachine(t)
	out := m.root.Path("/out")
	m.write(userDropIn, fmt.Sprintf(`export A=1
sh -c 'echo "1 $A $GATEWAY_IP $OURS" >>%[1]s' &
A=2
sh -c 'echo "2 $A $bash_n_output$i" >>%[1]s; ls -l /proc/self/fd | grep -c socket >>%[1]s' &
socat TCP-LISTEN:%s,fork,bind=127.0.0.1 TCP:%s &
`, out, freePort(t), echoServer(t)))
	_ = m.redirect("OURS=x")
	eventually(t, "what the children say", func() bool { data, _ := os.ReadFile(out); return bytes.Count(data, []byte("\n")) == 3 })
	data, err := os.ReadFile(out)
	for _, want := range []string{"1 1  x\n", "2 2 \n", "\n0\n"} {
		if !strings.Contains("\n"+string(data), want) {
			t.Errorf("no %q in %q: %v", want, data, err)
		}
	}
}

// TestChildEnds with what it has started itself.
func TestChildEnds(t *testing.T) {
	m := newMachine(t)
	mark := m.root.Path("/pid")
	m.write(userDropIn, "sh -c 'sleep 1000 & echo $! >"+mark+"; wait' &\n")
	r := m.redirect()
	pid := 0
	eventually(t, "the grandchild", func() bool {
		data, _ := os.ReadFile(mark)
		n, _ := fmt.Sscan(string(data), &pid)
		return n == 1
	})
	r.cancel()
	if code := r.end(t); code != 143 {
		t.Errorf("%d", code)
	}
	eventually(t, "the grandchild's end", func() bool {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(data), ") Z ")
	})
}

// TestHelpAndMore: other arguments are ignored, as ever.
func TestHelpAndMore(t *testing.T) {
	m := newMachine(t)
	var out lines
	env := cli.Env{Args: []string{"socat-unix-sockets", "more", "--options"}, Stdout: &out, Stderr: &out}
	if err := serveRedirects(context.Background(), env, fsx.Root(m.root)); cli.Code(err) != 125 || !m.root.Exists(whonix.WorkstationMarker) {
		t.Errorf("%v %q", err, out.String())
	}
}
