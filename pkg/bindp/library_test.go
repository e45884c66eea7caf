// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// builtLibrary is the preload library, built as it is for the package.
func builtLibrary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("make", "--silent", "--directory=../..", "LIBDIR="+dir, "library").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "libindp.so")
}

// TestDynamicLibraryExports: programs get two functions and nothing else (B7).
func TestDynamicLibraryExports(t *testing.T) {
	out, err := exec.Command("nm", "--dynamic", "--defined-only", "--format=just-symbols", builtLibrary(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"bind", "connect"}) {
		t.Errorf("exports %v", got)
	}
}

// libraryProbe binds by the C library's functions, in ways that socket objects
// do not offer.
const libraryProbe = `
import ctypes, mmap, os, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def bind(s, address, length):
    ctypes.set_errno(0)
    r = libc.bind(s.fileno(), ctypes.c_void_p(address), length)
    return r, ctypes.get_errno()
def constant(ip):
    page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.write(struct.pack("=H", socket.AF_INET) + struct.pack("!H", 7777) + socket.inet_aton(ip) + bytes(8))
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    assert libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(4096), 1) == 0
    return page, at
`

// TestDynamicLibrary: the library by itself.
func TestDynamicLibrary(t *testing.T) {
	n := newNetwork(t)
	server, err := listenIn(n, "[::]:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	library := builtLibrary(t)
	for _, c := range []struct {
		name         string
		env          []string
		script, want string
		complaint    string
		code         int
	}{
		{"no address (B1)", []string{"BIND_ADDR=" + addrA}, "print(bind(socket.socket(), None, 16), bind(socket.socket(), None, -1))", "(-1, 14) (-1, 22)\n", "", 0},
		{"constant address (B1)", []string{"BIND_ADDR=" + addrA, "BIND_PORT=4444"},
			"s = socket.socket(); p, at = constant('127.0.0.1'); print(bind(s, at, 16), s.getsockname(), p[4:8])",
			fmt.Sprintf("(0, 0) ('%s', 4444) b'\\x7f\\x00\\x00\\x01'\n", addrA), "", 0},
		{"any family (B5)", []string{"BIND_ADDR=" + addrA, "REUSE_ADDR=1"},
			"u = socket.socket(socket.AF_UNIX); u.bind(b'\\0x'); print(u.getsockname(), u.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))\n" +
				"s = socket.socket(socket.AF_INET6); s.bind(('::', 7777)); print(s.getsockname()[:2], s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))",
			"b'\\x00x' 0\n('::', 7777) 1\n", "", 0},
		{"IPv6", []string{"BIND_ADDR=" + addrA, "BIND_ADDR6=" + addrA6, "BIND_PORT=4444"},
			"s = socket.socket(socket.AF_INET6); s.bind(('::', 7777)); print(s.getsockname()[:2]); s.close()\n" +
				"s = socket.socket(socket.AF_INET6); s.connect(('::1', 9000)); print(s.getsockname()[:2])\n" +
				"s = socket.socket(socket.AF_INET6); s.connect(('::ffff:127.0.0.1', 9000)); print(s.getsockname()[:2])",
			fmt.Sprintf("('%s', 4444)\n('%s', 4444)\n('::ffff:%s', 4444)\n", addrA6, addrA6, addrA), "", 0},
		{"source address (B3)", []string{"BIND_ADDR=" + elsewhere},
			"try: socket.create_connection(('127.0.0.1', 9000))\nexcept OSError as e: print(e.errno)", "99\n", "", 0},
		{"fixed port twice", []string{"BIND_ADDR=" + addrA, "BIND_PORT=4445"},
			"a = socket.create_connection(('127.0.0.1', 9000)); b = socket.create_connection(('127.0.0.1', 9000)); print(a.getsockname(), b.getsockname()[0])",
			fmt.Sprintf("('%s', 4445) %s\n", addrA, addrA), "", 0},
		{"threads (B7)", []string{"BIND_ADDR=" + addrA},
			"seen = set()\ndef f(ip):\n  for _ in range(200):\n    s = socket.socket(); s.bind((ip, 0)); seen.add(s.getsockname()[0]); s.close()\n" +
				"ts = [threading.Thread(target=f, args=('127.0.0.%d' % i,)) for i in range(1, 9)]\n[x.start() for x in ts]; [x.join() for x in ts]; print(seen)",
			fmt.Sprintf("{'%s'}\n", addrA), "", 0},
		{"invalid address (B4)", []string{"BIND_ADDR=80abc"}, "print('ran')", "", "invalid value '80abc' for variable 'BIND_ADDR'\n", codeRefused},
		{"invalid port (B4)", []string{"BIND_PORT=99999999999999999999999"}, "print('ran')", "", "invalid value '99999999999999999999999' for variable 'BIND_PORT'\n", codeRefused},
		{"invalid IPv6 address", []string{"BIND_ADDR6=::ffff:1.2.3.4"}, "print('ran')", "", "invalid value '::ffff:1.2.3.4' for variable 'BIND_ADDR6'\n", codeRefused},
		{"invalid switch", []string{"REUSE_PORT=yes"}, "print('ran')", "ran\n", "invalid value 'yes' for variable 'REUSE_PORT'\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(python(t), "-c", libraryProbe+c.script)
			cmd.Env = append(c.env, "LD_PRELOAD="+library)
			var out, complaint strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &complaint
			err := n.Do(cmd.Start)
			if err == nil {
				_ = cmd.Wait() // the code tells
			}
			if out.String() != c.want || complaint.String() != c.complaint || err != nil || cmd.ProcessState.ExitCode() != c.code {
				t.Errorf("printed %q, want %q; complaint %q; %v, %v", out.String(), c.want, complaint.String(), cmd.ProcessState, err)
			}
		})
	}
}

// TestDynamicPreload: the last rung of the ladder, and where it ends.
func TestDynamicPreload(t *testing.T) {
	n := newNetwork(t)
	library := builtLibrary(t)
	const script = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 7777)); print(s.getsockname())"
	env := []string{"BIND_ADDR=" + addrA, "bindp_so=" + library}
	want := fmt.Sprintf("('%s', 7777)\n", addrA)
	got := run{env: env, args: []string{"--mode=preload", python(t), "-c", script}}.in(t, n)
	if got.out != want || got.err != "" || got.code != 0 {
		t.Errorf("%+v, want %q", got, want)
	}
	for name, r := range map[string]run{
		"(static)":     {env: env, args: []string{"--mode=preload", "busybox", "true"}},
		"no such file": {env: append(env, "bindp_so=/nonexistent.so"), args: []string{"--mode=preload", python(t), "-c", script}},
	} {
		got := r.in(t, n)
		if got.code != codeRefused || got.out != "" || !strings.Contains(got.err, name) || !strings.Contains(got.err, "ptrace_scope") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// Inside a listener that is not known to be a launcher's: the marker is lost.
	nested := func(program ...string) run {
		return run{env: env, args: append([]string{"--mode=address", "/usr/bin/env", "-u", variableActive, "BIND_ADDR=" + addrB,
			"bash", "-c", `exec -a "$0" "$@"`, launcherName, self(t)}, program...)}
	}
	got = nested(python(t), "-c", script).in(t, n)
	if got.out != want || got.err != "" || got.code != 0 {
		t.Errorf("nested without marker: %+v, want %q", got, want)
	}
	got = nested("busybox", "true").in(t, n)
	if got.code != codeRefused || !strings.Contains(got.err, "there is a seccomp listener already") {
		t.Errorf("nested without marker, static: %+v", got)
	}
}
