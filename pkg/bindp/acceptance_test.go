// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestAcceptance21: a static server is where BIND_ADDR says and nowhere else;
// a port can be found by binding and closing; the other side sees the end of
// a connection.
func TestAcceptance21(t *testing.T) {
	for _, mode := range filterModes() {
		t.Run(string(mode), func(t *testing.T) {
			n := newNetwork(t)
			input, output, finish := background(t, n, run{env: []string{"BIND_ADDR=" + addrA}, args: probing(t, mode,
				"socket tcp", "bind 127.0.0.1:7777", "close", "socket tcp", "bind 127.0.0.1:7777", "close",
				"socket tcp", "bind 127.0.0.1:7777", "listen", "name", "get cloexec", "accept", "close",
				"socket tcp", "set reuseaddr 1", "bind 0.0.0.0:7778", "listen", "name", "get reuseaddr", "get reuseport", "wait")})
			for _, want := range []string{"bind ok", "close ok", "bind ok", "close ok", "bind ok", "listen ok", "name " + addrA + ":7777", "cloexec 1"} {
				if got := output(); got != want {
					t.Fatalf("%q, want %q", got, want)
				}
			}
			err := n.Do(func() error {
				if c, err := net.Dial("tcp", "127.0.0.1:7777"); err == nil {
					c.Close()
					t.Error("reached at 127.0.0.1")
				}
				c, err := net.Dial("tcp", addrA+":7777")
				if err != nil {
					return err
				}
				defer c.Close()
				if k, err := c.Read(make([]byte, 1)); k != 0 || err == nil || err.Error() != "EOF" {
					t.Errorf("read %d bytes, %v; want EOF", k, err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"accept at " + addrA + ":7777 ok", "close ok", "set ok", "bind ok", "listen ok",
				"name " + addrA + ":7778", "reuseaddr 1 <nil>", "reuseport 0 <nil>"} {
				if got := output(); got != want {
					t.Fatalf("%q, want %q", got, want)
				}
			}
			input.Close()
			finish()
		})
	}
}

// TestValueMoveFromAny: a server that asks for every address is moved in mode
// value too, although the old socket has the port.
func TestValueMoveFromAny(t *testing.T) {
	n := newNetwork(t)
	expect(t, n, ModeValue, []string{"BIND_ADDR=" + addrA},
		[]string{"socket tcp", "set keepalive 1", "bind 0.0.0.0:7777", "name", "listen", "name", "get keepalive", "get reuseport", "get reuseaddr"},
		"set ok", "bind ok", "name 0.0.0.0:7777", "listen ok", "name "+addrA+":7777", "keepalive 1 <nil>", "reuseport 0 <nil>", "reuseaddr 0 <nil>")
}

// TestAcceptance22: ports, sources and options.
func TestAcceptance22(t *testing.T) {
	for _, mode := range filterModes() {
		t.Run(string(mode), func(t *testing.T) {
			n := newNetwork(t)
			server, err := listenIn(n, "127.0.0.1:9000")
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			const to = "connect 127.0.0.1:9000"
			t.Run("port", func(t *testing.T) {
				expect(t, n, mode, []string{"BIND_PORT=4444", "BIND_ADDR=" + addrA},
					[]string{"socket tcp", "bind 127.0.0.1:7777", "listen", "name", "socket udp", "bind 127.0.0.1:0", "name"},
					"bind ok", "listen ok", "name "+addrA+":4444", "bind ok", "name "+addrA+":4444")
				expect(t, n, mode, []string{"BIND_PORT=4444"},
					[]string{"socket tcp", "bind 127.0.0.1:7777", "listen", "name"}, "bind ok", "listen ok", "name 127.0.0.1:4444")
			})
			t.Run("source", func(t *testing.T) {
				got := run{env: []string{"BIND_ADDR=" + addrA}, args: probing(t, mode, "socket tcp", to, "name", "get noport",
					"socket udp", "connect 127.0.0.1:53", "name", "connect "+addrB+":53", "name")}.in(t, n)
				lines := strings.Split(got.out, "\n")
				if got.err != "" || len(lines) < 7 || lines[0] != "connect ok" || !strings.HasPrefix(lines[1], "name "+addrA+":") ||
					lines[2] != "noport 0 <nil>" || lines[3] != "connect ok" || !strings.HasPrefix(lines[4], "name "+addrA+":") || lines[4] != lines[6] {
					t.Errorf("%+v", got)
				}
			})
			t.Run("fixed port twice", func(t *testing.T) {
				got := run{env: []string{"BIND_ADDR=" + addrA, "BIND_PORT=4444"}, args: probing(t, mode,
					"socket tcp", to, "name", "socket tcp", to, "name")}.in(t, n)
				lines := strings.Split(got.out, "\n")
				if got.err != "" || len(lines) < 4 || lines[1] != "name "+addrA+":4444" || lines[2] != "connect ok" ||
					!strings.HasPrefix(lines[3], "name "+addrA+":") || lines[3] == lines[1] {
					t.Errorf("%+v", got)
				}
			})
			t.Run("not local", func(t *testing.T) {
				expect(t, n, mode, []string{"BIND_ADDR=" + elsewhere},
					[]string{"socket tcp", to, to}, "connect EADDRNOTAVAIL", "connect EADDRNOTAVAIL")
				expect(t, n, mode, []string{"BIND_ADDR=" + elsewhere, "BIND_PORT=4444"},
					[]string{"socket tcp", "bind 127.0.0.1:7777"}, "bind EADDRNOTAVAIL")
				expect(t, n, mode, []string{"BIND_ADDR=" + elsewhere, "BIND_PORT=4444", "IP_TRANSPARENT=1"},
					[]string{"socket tcp", "bind 127.0.0.1:7777", "name", "get transparent"},
					"bind ok", "name "+elsewhere+":4444", "transparent 1 <nil>")
			})
			t.Run("options", func(t *testing.T) {
				expect(t, n, mode, []string{"REUSE_ADDR=1", "REUSE_PORT=1"},
					[]string{"socket tcp", "bind 127.0.0.1:7777", "get reuseaddr", "get reuseport", "listen", "get reuseaddr", "get reuseport", "name"},
					"bind ok", "reuseaddr 1 <nil>", "reuseport 1 <nil>", "listen ok", "reuseaddr 1 <nil>", "reuseport 1 <nil>", "name 127.0.0.1:7777")
			})
		})
	}
}

// TestAcceptance23: hostile and unusual arguments.
func TestAcceptance23(t *testing.T) {
	for _, mode := range filterModes() {
		t.Run(string(mode), func(t *testing.T) {
			n := newNetwork(t)
			path := filepath.Join(t.TempDir(), "socket")
			env := []string{"BIND_ADDR=" + addrA, "BIND_PORT=4444"}
			expect(t, n, mode, env, []string{"socket unix", "bind " + path, "name", "listen", "socket unix", "connect " + path},
				"bind ok", "name "+path, "listen ok", "connect ok")
			expect(t, n, mode, env, []string{"socket tcp6", "bind [::]:7777", "name", "listen", "name"},
				"bind ok", "name [::]:7777", "listen ok", "name [::]:7777")
			expect(t, n, mode, env, []string{"uring"}, "uring ENOSYS")
			expect(t, n, mode, env, []string{"socket tcp", "constant 127.0.0.1:7777", "name"}, "constant ok", "unchanged true", "name "+addrA+":4444")
			expect(t, n, mode, env, []string{"bind 127.0.0.1:1"}, "bind EBADF")
			if mode == ModeValue {
				return // its binds with both settings do not look at the program's address, and so take any
			}
			expect(t, n, mode, env, []string{"socket tcp", "null", "length 1", "length 15", "length 129", "length -1"},
				"null EFAULT", "length EINVAL", "length EINVAL", "length EINVAL", "length EINVAL")
			got := run{env: []string{"BIND_ADDR=" + addrA}, args: probing(t, mode, "flip 2000")}.in(t, n)
			if want := fmt.Sprintf("flip map[%s:2000]\n", addrA); got.out != want {
				t.Errorf("%+v, want %q", got, want)
			}
		})
	}
}

// TestIPv6 is the second address family.
func TestIPv6(t *testing.T) {
	n := newNetwork(t)
	server, err := listenIn(n, "[::]:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	env := []string{"BIND_ADDR6=" + addrA6, "BIND_ADDR=" + addrA, "BIND_PORT=4444", "REUSE_ADDR=1"}
	for _, asked := range []string{"[::]:7777", "[::1]:0"} {
		for _, kind := range []string{"tcp6", "udp6"} {
			expect(t, n, ModeAddress, env, []string{"socket " + kind, "bind " + asked, "name"}, "bind ok", "name ["+addrA6+"]:4444")
		}
	}
	expect(t, n, ModeAddress, env, []string{"socket tcp6", "set v6only 0", "bind [::ffff:127.0.0.1]:7777", "name"},
		"set ok", "bind ok", "name [::ffff:"+addrA+"]:4444")
	expect(t, n, ModeAddress, env[:1], []string{"socket tcp6", "set v6only 0", "bind [::ffff:127.0.0.1]:7777", "name"},
		"set ok", "bind ok", "name [::ffff:127.0.0.1]:7777")
	expect(t, n, ModeAddress, env, []string{"socket tcp6", "connect [::1]:9000", "name"}, "connect ok", "name ["+addrA6+"]:4444")
	expect(t, n, ModeAddress, env, []string{"socket tcp6", "set v6only 0", "connect [::ffff:127.0.0.1]:9000", "name"},
		"set ok", "connect ok", "name [::ffff:"+addrA+"]:4444")
	expect(t, n, ModeAddress, env[1:], []string{"socket tcp6", "bind [::]:7777", "name", "get reuseaddr"},
		"bind ok", "name [::]:7777", "reuseaddr 1 <nil>")
	expect(t, n, ModeAddress, env[:1], []string{"socket tcp", "bind 127.0.0.1:7777", "name"}, "bind ok", "name 127.0.0.1:7777")
}

// TestIPv6Value: the second address family where the program's memory is not
// read. Where a socket goes is known only when it listens.
func TestIPv6Value(t *testing.T) {
	n := newNetwork(t)
	server, err := listenIn(n, "[::]:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	env := []string{"BIND_ADDR6=" + addrA6, "BIND_ADDR=" + addrA, "BIND_PORT=4444"}
	for _, asked := range []string{"[::]:7777", "[::1]:7777"} {
		expect(t, n, ModeValue, env[:1], []string{"socket tcp6", "bind " + asked, "listen", "name", "get reuseport", "get cloexec"},
			"bind ok", "listen ok", "name ["+addrA6+"]:7777", "reuseport 0 <nil>", "cloexec 1")
		expect(t, n, ModeValue, env, []string{"socket tcp6", "set v6only 1", "bind " + asked, "listen", "name", "get v6only"},
			"set ok", "bind ok", "listen ok", "name ["+addrA6+"]:4444", "v6only 1 <nil>")
		expect(t, n, ModeValue, env, []string{"socket udp6", "bind " + asked, "name"}, "bind ok", "name ["+addrA6+"]:4444")
	}
	expect(t, n, ModeValue, env, []string{"socket tcp6", "set v6only 0", "bind [::ffff:127.0.0.1]:7777", "listen", "name"},
		"set ok", "bind ok", "listen ok", "name [::ffff:"+addrA+"]:4444")
	expect(t, n, ModeValue, env[:1], []string{"socket tcp6", "set v6only 0", "bind [::ffff:127.0.0.1]:7777", "listen", "name"},
		"set ok", "bind ok", "listen ok", "name [::ffff:127.0.0.1]:7777")
	expect(t, n, ModeValue, env, []string{"socket tcp6", "connect [::1]:9000", "name", "socket tcp", "connect 127.0.0.1:9000", "name"},
		"connect ok", "name ["+addrA6+"]:4444", "connect ok", "name "+addrA+":4444")
	// The source address is the right one or there is none.
	expect(t, n, ModeValue, env, []string{"socket tcp6", "set v6only 0", "connect [::ffff:127.0.0.1]:9000"}, "set ok", "connect ENETUNREACH")
	expect(t, n, ModeValue, env[1:], []string{"socket tcp6", "bind [::]:7777", "listen", "name"}, "bind ok", "listen ok", "name [::]:7777")
	expect(t, n, ModeValue, []string{"BIND_ADDR6=2001:db8::99"}, []string{"socket tcp6", "connect [::1]:9000", "bind [::]:7777", "listen"},
		"connect EADDRNOTAVAIL", "bind ok", "listen EADDRNOTAVAIL")
}

// TestAcceptance25: privileges are not lent, and refusals run nothing.
func TestAcceptance25(t *testing.T) {
	n := newNetwork(t)
	if err := n.Sysctl("ipv4/ip_unprivileged_port_start", "1024"); err != nil {
		t.Fatal(err)
	}
	for _, mode := range filterModes() {
		env := []string{"BIND_ADDR=" + addrA, "BIND_PORT=81"}
		expect(t, n, mode, env, []string{"socket tcp", "bind 127.0.0.1:7777", "name"}, "bind ok", "name "+addrA+":81")
		expect(t, n, mode, env, []string{"socket tcp", "drop", "bind 127.0.0.1:7777"}, "drop ok", "bind EACCES")
		expect(t, n, mode, []string{"BIND_ADDR=" + elsewhere, "IP_TRANSPARENT=1", "BIND_PORT=4444"},
			[]string{"drop", "socket udp", "bind 127.0.0.1:7777", "get transparent"}, transparentRefused(mode)...)
	}
	for _, refused := range [][]string{
		{"BIND_ADDR=1.2.3.4.5"}, {"BIND_ADDR=80abc"}, {"BIND_PORT=80abc"}, {"BIND_PORT=65536"}, {"BIND_PORT=-1"}, {"BIND_ADDR6=1.2.3.4"},
		{"BIND_ADDR6=::ffff:1.2.3.4"}, {"BIND_ADDR=192.0.2.1", "BIND_ADDR6=x"},
	} {
		got := run{env: refused, args: probing(t, ModeAuto, "process pid")}.in(t, n)
		variable, value, _ := strings.Cut(refused[len(refused)-1], "=")
		if got.code != codeRefused || got.out != "" || got.err != fmt.Sprintf("invalid value '%s' for variable '%s'\n", value, variable) {
			t.Errorf("%v: %+v", refused, got)
		}
	}
	got := run{env: []string{"BIND_ADDR=" + addrA, "REUSE_PORT=2"}, args: probing(t, ModeAuto, "socket tcp", "bind 127.0.0.1:1234", "name")}.in(t, n)
	if got.err != "invalid value '2' for variable 'REUSE_PORT'\n" || got.out != "bind ok\nname "+addrA+":1234\n" {
		t.Errorf("%+v", got)
	}
}

// transparentRefused is what an unprivileged process sees: mode value leaves
// its sockets alone, another account's.
func transparentRefused(mode Mode) []string {
	if mode == ModeValue {
		return []string{"drop ok", "bind ok", "transparent 0 <nil>"}
	}
	return []string{"drop ok", "bind EADDRNOTAVAIL", "transparent 0 <nil>"}
}

// TestAcceptance25Ladder: where nobody may look into processes, mode value is
// chosen, and mode address is refused.
func TestAcceptance25Ladder(t *testing.T) {
	n := newNetwork(t)
	steps := []string{"socket tcp", "bind 127.0.0.1:7777", "name", "listen", "name"}
	env := []string{"BIND_ADDR=" + addrA}
	for _, c := range []struct {
		name  string
		mode  Mode
		first string
	}{{launcherName, ModeAuto, addrA}, {restrictedName, ModeAuto, "127.0.0.1"}} {
		got := run{name: c.name, env: env, args: probing(t, c.mode, steps...)}.in(t, n)
		want := []string{"bind ok", "name " + c.first + ":7777", "listen ok", "name " + addrA + ":7777", ""}
		if !slices.Equal(strings.Split(got.out, "\n"), want) || got.err != "" || got.code != 0 {
			t.Errorf("%s: %+v, want %q", c.name, got, want)
		}
	}
	got := run{name: restrictedName, env: env, args: probing(t, ModeAddress, steps...)}.in(t, n)
	if got.code != codeRefused || got.out != "" || !strings.Contains(got.err, "bindp-launcher: error: mode address is not permitted here: operation not permitted (ptrace_scope ") {
		t.Errorf("%+v", got)
	}
}

// TestUnprivileged: a user gets what root gets, but for privileges; and what is
// given up for the filter is given up only by those who have to.
func TestUnprivileged(t *testing.T) {
	n := newNetwork(t)
	if err := n.Sysctl("ipv4/ip_unprivileged_port_start", "1024"); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	path := readableSelf(t)
	for _, mode := range append(filterModes(), ModeAuto) {
		for _, c := range []struct {
			user             *syscall.Credential
			noNewPrivs, bind string
		}{{nil, "0", "ok"}, {&syscall.Credential{Uid: nobody, Gid: nobody}, "1", "EACCES"}} {
			program := []string{"--mode=" + string(mode), "--argv0=" + probeName, "--", path}
			low := run{user: c.user, path: path, env: []string{"BIND_ADDR=" + addrA, "BIND_PORT=81"},
				args: append(program, "process privileges", "socket tcp", "bind 127.0.0.1:7777")}
			if got, want := low.in(t, n), "[NoNewPrivs: "+c.noNewPrivs+"]\nbind "+c.bind+"\n"; got.out != want || got.err != "" {
				t.Errorf("mode %s, %+v: %+v, want %q", mode, c.user, got, want)
			}
			high := run{user: c.user, path: path, env: []string{"BIND_ADDR=" + addrA},
				args: append(program, "socket tcp", "bind 127.0.0.1:7777", "listen", "name")}
			if got, want := high.in(t, n), "bind ok\nlisten ok\nname "+addrA+":7777\n"; got.out != want || got.err != "" {
				t.Errorf("mode %s, %+v: %+v, want %q", mode, c.user, got, want)
			}
		}
	}
}

// readableSelf is the test binary where every account can execute it.
func readableSelf(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bindp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	const everybody = 0o755
	path := filepath.Join(dir, "probe")
	if err := errors.Join(os.Chmod(dir, everybody), os.WriteFile(path, data, everybody)); err != nil {
		t.Fatal(err)
	}
	return path
}
