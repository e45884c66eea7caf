// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/netlab"
)

// Tests that need more than this binary and a kernel: other programs, or a
// compiler. Their names begin with TestDynamic.

// TestDynamicPython: a dynamically linked program, with its own threads.
func TestDynamicPython(t *testing.T) {
	const script = `
import socket, threading
s = socket.socket()
s.bind(("127.0.0.1", 7777))
s.listen()
print(s.getsockname())
def serve():
    c, _ = s.accept()
    c.sendall(b"hello")
    c.close()
thread = threading.Thread(target=serve)
thread.start()
c = socket.create_connection(s.getsockname())
print(c.getsockname()[0], c.recv(100), c.recv(100))
thread.join()
`
	want := fmt.Sprintf("('%s', 7777)\n%s b'hello' b''\n", addrA, addrA)
	for _, mode := range filterModes() {
		n := newNetwork(t)
		got := run{env: []string{"BIND_ADDR=" + addrA}, args: []string{"--mode=" + string(mode), python(t), "-c", script}}.in(t, n)
		if got.out != want || got.err != "" || got.code != 0 {
			t.Errorf("mode %s: %+v, want %q", mode, got, want)
		}
	}
}

// TestDynamicHTTPServer: a web server as people start it, which looks at where
// it is between binding and listening.
func TestDynamicHTTPServer(t *testing.T) {
	for _, mode := range filterModes() {
		n := newNetwork(t)
		background(t, n, run{env: []string{"BIND_ADDR=" + addrA}, args: []string{"--mode=" + string(mode), python(t),
			"-m", "http.server", "--bind", "127.0.0.1", "--directory", t.TempDir(), "7777"}})
		where := listening(t, n)
		if want := addrA + ":7777"; where != want {
			t.Fatalf("mode %s: listens at %s, want %s", mode, where, want)
		}
		err := n.Do(func() error {
			c, err := net.Dial("tcp", where)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
				return err
			}
			answer, err := io.ReadAll(c)
			if !strings.HasPrefix(string(answer), "HTTP/1.0 200 ") {
				t.Errorf("mode %s: %.100q", mode, answer)
			}
			return err
		})
		if err != nil {
			t.Errorf("mode %s: %v", mode, err)
		}
	}
}

// python is an interpreter, not a script that looks for one.
func python(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestDynamicBusybox: a statically linked program in C.
func TestDynamicBusybox(t *testing.T) {
	for _, mode := range filterModes() {
		n := newNetwork(t)
		input, line, finish := background(t, n, run{env: []string{"BIND_ADDR=" + addrA},
			args: []string{"--mode=" + string(mode), "busybox", "nc", "-l", "-p", "7777", "127.0.0.1"}})
		if got, want := listening(t, n), addrA+":7777"; got != want {
			t.Errorf("mode %s: listens at %s, want %s", mode, got, want)
		}
		err := n.Do(func() error {
			c, err := net.Dial("tcp", addrA+":7777")
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = fmt.Fprintln(c, "to the server")
			return err
		})
		if err != nil {
			t.Fatalf("mode %s: %v", mode, err)
		}
		if got := line(); got != "to the server" {
			t.Errorf("mode %s: %q", mode, got)
		}
		input.Close()
		if got := finish(); got.code != 0 {
			t.Errorf("mode %s: code %d", mode, got.code)
		}
	}
}

// listening waits until a socket of the namespace listens, and returns where.
func listening(t *testing.T, n *netlab.Namespace) (where string) {
	t.Helper()
	const listenState, stateField = "0A", 3 // see proc_net(5)
	for deadline := time.Now().Add(patience); where == ""; {
		err := n.Do(func() error {
			data, err := os.ReadFile("/proc/thread-self/net/tcp")
			for line := range strings.Lines(string(data)) {
				f := strings.Fields(line)
				var a, p uint32
				if len(f) > stateField && f[stateField] == listenState {
					_, err = fmt.Sscanf(f[1], "%08X:%04X", &a, &p)
					where = netip.AddrPortFrom(netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, a))), uint16(p)).String()
				}
			}
			return err
		})
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("nobody listens: %v", err)
		}
	}
	return where
}

// socketcall386 is a 32-bit program, which has two ways to bind. Where it was
// built before, the kernel must run it; see scripts/vm.
func socketcall386(t *testing.T) (program string, runs bool) {
	t.Helper()
	program, err := exec.LookPath("socketcall386")
	must := err == nil
	if !must {
		program = filepath.Join(t.TempDir(), "socketcall386")
		build := exec.Command("go", "build", "-o", program, "./testdata/socketcall")
		build.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	out, err := exec.Command(program).CombinedOutput()
	if err != nil && (must || !errors.Is(err, unix.ENOEXEC)) {
		t.Fatalf("%v: %s", err, out)
	}
	return program, err == nil
}

// TestDynamicSocketcall: a 32-bit program is intercepted whichever way it binds.
// On a kernel that runs no such programs there is nothing to intercept.
func TestDynamicSocketcall(t *testing.T) {
	program, runs := socketcall386(t)
	if !runs {
		got := run{env: []string{"BIND_ADDR=" + addrA}, args: []string{program}}.in(t, newNetwork(t))
		if got.code != execx.StatusNotExecutable || got.out != "" || !strings.Contains(got.err, "exec format error") {
			t.Errorf("%+v", got)
		}
		return
	}
	for mode, want := range map[Mode]string{
		ModeAddress: "socket 0\nbundled bind 0 [192 0 2 1] 4444\nlisten 0 [192 0 2 1] 4444\nbind 0 [192 0 2 1] 4444\n" +
			"bundled connect 0\nbad address 14\nio_uring 38\n",
		ModeValue: "socket 0\nbundled bind 38 [0 0 0 0] 0\n",
	} {
		n := newNetwork(t)
		got := run{env: []string{"BIND_ADDR=" + addrA, "BIND_PORT=4444"}, args: []string{"--mode=" + string(mode), program}}.in(t, n)
		if !strings.HasPrefix(got.out, want) || got.err != "" || got.code != 0 {
			t.Errorf("mode %s: %+v, want %q", mode, got, want)
		}
	}
}

// TestDynamicPipe: who reads from the program sees its end, also while the
// helper lives.
func TestDynamicPipe(t *testing.T) {
	n := newNetwork(t)
	for _, mode := range filterModes() {
		script := fmt.Sprintf(`exec 3<&0; (exec -a %s "$0" --mode=%s --argv0=%s "$0" "process marker" "quiet wait" <&3) | cat`,
			launcherName, mode, probeName)
		in, input, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer input.Close()
		cmd := exec.Command("bash", "-c", script, self(t))
		cmd.Env = []string{"BIND_ADDR=" + addrA, "PATH=/usr/bin:/bin"}
		var out strings.Builder
		cmd.Stdin, cmd.Stdout = in, &out
		err = n.Do(cmd.Start)
		in.Close()
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			t.Fatalf("mode %s: %v", mode, err)
		}
		pid, _ := helperOf(t, strings.TrimSpace(out.String())) // lives
		input.Close()
		waitEnd(t, pid, time.Second+exitDelay)
	}
}
