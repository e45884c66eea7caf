// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/tornet"
)

// realMachine has Debian's own programs wrapped.
func realMachine(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	for _, name := range []string{"curl", "wget", "apt-get"} {
		m.wrap("/usr/bin/" + name)
		m.copy("/usr/bin/"+name, "/usr/bin/"+name+originalSuffix)
	}
	m.copy("../../etc/tor/torsocks.conf.anondist", "/etc/tor/torsocks.conf")
	return m
}

// repository is the smallest that apt-get takes.
func repository(w http.ResponseWriter, r *http.Request) {
	switch path.Clean(r.URL.Path) {
	case "/hello":
		_, _ = w.Write([]byte("hello"))
	case "/Packages":
		_, _ = w.Write([]byte("Package: nothing\nVersion: 1\nArchitecture: all\nFilename: ./nothing.deb\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\n\n"))
	default:
		http.NotFound(w, r)
	}
}

// persistently runs a command up to three times: circuits fail now and then.
func persistently(m *machine, n *tornet.Network, command string) *seen {
	var s *seen
	for range 3 {
		if s = m.in(n.Namespace, command); s.status == 0 {
			break
		}
	}
	return s
}

// watchStreams watches Tor's streams from now on. The function that it returns
// waits for streams of as many users, and checks that no two of these had the
// same circuit; it returns one of the last's. Who tries again has more than one.
func watchStreams(ctx context.Context, t *testing.T, n *tornet.Network) func(users int) tornet.Stream {
	t.Helper()
	c, err := n.Control()
	if err == nil {
		err = c.Command("SETEVENTS STREAM")
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(users int) (last tornet.Stream) {
		t.Helper()
		defer c.Close()
		circuits, seen := map[string]string{}, map[string]bool{}
		for len(seen) < users {
			s, err := c.Streams(ctx, 1)
			if err != nil {
				t.Fatalf("%v; streams so far: %v", err, circuits)
			}
			last = s[0]
			user := last.Username + " " + last.Password
			if other, ok := circuits[last.Circuit]; last.Username == "" || ok && other != user {
				t.Errorf("%q and %q had the circuit %s", user, other, last.Circuit)
			}
			circuits[last.Circuit], seen[user] = user, true
		}
		return last
	}
}

// TestThroughTor: what is typed as always leaves through the private Tor
// network, each run with a circuit of its own.
func TestThroughTor(t *testing.T) {
	m := realMachine(t)
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	n, err := tornet.Start(ctx, tornet.Options{Dir: t.TempDir(), Names: map[string]string{"repository.example": tornet.ServerIP}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	l, err := n.Namespace.Listen(0, tornet.ServerIP+":80")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(repository)}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	for _, command := range []string{"curl --retry 3 --retry-all-errors --silent --show-error http://repository.example/hello", "wget --tries=3 --retry-connrefused --quiet --output-document=- http://repository.example/hello"} {
		apart := watchStreams(ctx, t, n)
		for range 2 {
			if s := persistently(m, n, command).want(0); s.stdout != "hello" {
				t.Fatalf("%s: %q %q", command, s.stdout, s.stderr)
			}
		}
		apart(2)
	}
	// What torsocks cannot hold leaves through Tor by a namespace.
	m.copy(binaries+"/uwt", isolatorPath)
	m.wrap("/usr/bin/static")
	m.copy(binaries+"/fetch", "/usr/bin/static"+originalSuffix)
	apart := watchStreams(ctx, t, n)
	for range 2 {
		if s := persistently(m, n, "static http://repository.example/hello").want(0).quiet(); s.stdout != "hello" {
			t.Errorf("%q %q", s.stdout, s.stderr)
		}
	}
	apart(2)
	m.user("uwt_unsupported=refuse\n").in(n.Namespace, "static http://repository.example/hello").want(126).notRun()
	persistently(m.user("uwt_unsupported=warn\n"), n, "static http://"+tornet.ServerIP+"/hello").want(0).says("runs without stream isolation")
	m.user("")
	m.write("/etc/apt/test.list", "deb [trusted=yes allow-insecure=yes] http://repository.example/ ./\n", 0o644)
	for _, dir := range []string{"lists/partial", "cache/archives/partial"} {
		m.mkdir("/run/apt/" + dir)
	}
	const options = "-o Dir::Etc::sourcelist=/etc/apt/test.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=/run/apt/lists -o Dir::Cache=/run/apt/cache -o APT::Sandbox::User=root"
	apart = watchStreams(ctx, t, n)
	persistently(m, n, "apt-get "+options+" update && ls /run/apt/lists/repository.example_._Packages*").want(0)
	if s := apart(1); !strings.HasPrefix(s.Username, "torsocks-") {
		t.Errorf("%+v", s)
	}
}

// TestBoundForReal: a server that asks for the loopback interface is where the
// Workstation's own address is.
func TestBoundForReal(t *testing.T) {
	m, n := newMachine(t), newNamespace(t)
	m.copy(binaries+"/bindp-launcher", bindpPath)
	m.wrap("/usr/bin/onionshare")
	m.write("/usr/bin/onionshare"+originalSuffix, `#!/usr/bin/python3
import socket
s = socket.create_server(("127.0.0.1", 7777))
print(*s.getsockname(), end="")
`, 0o755)
	s := m.in(n, "ip link add eth0 type veth peer eth9; ip addr add 10.152.152.11/18 dev eth0; ip link set eth0 up; onionshare").want(0).quiet()
	if s.stdout != "10.152.152.11 7777" {
		t.Errorf("%q", s.stdout)
	}
}
