// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torctl"
)

// TestLearn: what is refused becomes a profile that is sound and would allow just
// that, and is refused all the same.
func TestLearn(t *testing.T) {
	r := newRig(t).scripted()
	r.o.learn = "/learned.yml"
	r.start()
	c := r.dial(client11)
	lines := []string{
		"GETINFO address", "GETINFO address", "GETINFO a.b{c}'d", "ADD_ONION NEW:ED25519-V3 Port=80,8080 Port=81,127.0.0.1:82 Flags=DiscardPK", "ADD_ONION ED25519-V3:SECRET Port=80",
		"SETEVENTS BW CIRC", "GETINFO", "x y ", "AUTHCHALLENGE SAFECOOKIE abcd",
	}
	for _, l := range lines {
		c.want(l, filtered)
	}
	until(t, "the profile is written", func() bool { return r.root.IsFile("/learned.yml") })
	if err := r.p.learned.write(); err != nil {
		t.Fatal(err)
	}
	text, err := r.root.ReadFile("/learned.yml", fileMax)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "SECRET") {
		t.Errorf("a key was learned:\n%s", text)
	}
	r.filter(string(text))
	r.tor.Answer("ADD_ONION NEW:ED25519-V3 Port=80,10.152.152.11:8080 Port=81,10.152.152.11:82 Flags=DiscardPK", "250-ServiceID=a", "250 OK")
	c = r.dial(client11)
	for _, l := range lines {
		if got := c.ask(l); cmp.Equal(got, []string{filtered}) {
			t.Errorf("%q is not allowed by the learned profile:\n%s", l, text)
		}
	}
	c.want("GETINFO addressx", filtered)
	c.want("GETINFO axb{c}'d", filtered)
	if strings.Contains(r.log.String(), "error") {
		t.Error(r.log.String())
	}
}

// TestLearnIsBounded: a client that asks for everything fills no disk.
func TestLearnIsBounded(t *testing.T) {
	var log bytes.Buffer
	l := &learner{root: fsx.Root(t.TempDir()), path: "/p.yml", log: &journal{out: &log}}
	for i := range 10 * learnMax {
		l.refused(torctl.Command{Name: "GETINFO", Arguments: strings.Repeat("x", i+1)}, Values{})
	}
	if len(l.commands["GETINFO"]) != learnMax || strings.Count(log.String(), "full") != 1 {
		t.Errorf("%d rules; %s", len(l.commands["GETINFO"]), &log)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l.run(ctx) // the last write
	if !l.root.IsFile("/p.yml") {
		t.Error("nothing was written at the end")
	}
}

// TestSuggestions: rules that are logged with refusals.
func TestSuggestions(t *testing.T) {
	for line, want := range map[string]string{
		"getinfo address":                        `commands: {GETINFO: ['address']}`,
		"GETINFO":                                `commands: {GETINFO: ['']}`,
		"GETINFO it's":                           `commands: {GETINFO: ['it''s']}`,
		"SIGNAL a.b":                             `commands: {SIGNAL: ['a\.b']}`,
		"ADD_ONION NEW:BEST Port=80":             `commands: {ADD_ONION: [{pattern: 'NEW:BEST Port=80', replacement: 'NEW:BEST Port=80,{client-address}:80'}]}`,
		"ADD_ONION NEW:BEST Port=80,10.0.0.1:80": `commands: {ADD_ONION: ['NEW:BEST Port=80,10\.0\.0\.1:80']}`,
		"SETEVENTS BW ORCONN":                    `events: {BW: null, ORCONN: null}`,
		"SETEVENTS B-W":                          ``,
		"..":                                     ``,
		"X x25519:abc y":                         `commands: {X: ['x25519:\S+ y']}`,
		"AUTHCHALLENGE a secret":                 `commands: {AUTHCHALLENGE: ['SAFECOOKIE \S+']}`,
	} {
		c, _ := torctl.Split([]byte(line))
		if got := suggest(c, Values{ClientAddress: "10.0.0.1"}); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

// TestRedact: key material is gone, the rest stays, of the same kind whatever the
// case.
func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"ADD_ONION ED25519-V3:abc= Port=1": "ADD_ONION ED25519-V3:[redacted] Port=1",
		"ADD_ONION NEW:ED25519-V3 Port=1":  "ADD_ONION NEW:ED25519-V3 Port=1",
		"250-PrivateKey=ED25519-V3:abc":    "250-PrivateKey=[redacted]",
		"x RSA1024:a b x25519:c":           "x RSA1024:[redacted] b x25519:[redacted]",
		"ED25519-V3:":                      "ED25519-V3:",
		"authenticate \"a b\"":             "authenticate [redacted]",
		" AUTHCHALLENGE SAFECOOKIE x":      " AUTHCHALLENGE [redacted]",
		"GETINFO version":                  "GETINFO version",
		"\xc4\xb0ed25519-v3:abc":           "\xc4\xb0ed25519-v3:[redacted]",
	} {
		if got := redact(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := escaped("a\x1b[0m\xffb\t\r\n"); got != `a\x1b[0m\xffb\t\r\n` {
		t.Error(got)
	}
}

// FuzzLog: whatever a line holds, no byte that a terminal obeys is logged.
func FuzzLog(f *testing.F) {
	for _, seed := range []string{"ED25519-V3:abc", "AUTHENTICATE x", "\x1b[0m", "x25519:x25519:", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, b := range []byte(loggable(line)) {
			if b < 0x20 || b > 0x7e {
				t.Fatalf("%q", loggable(line))
			}
		}
		c, ok := torctl.Split([]byte(line))
		if !ok {
			return
		}
		hint := suggest(c, Values{ClientAddress: "10.0.0.1"})
		if hint == "" {
			return
		}
		filters, problems, _ := compile("hint.yml", []byte("- "+hint+"\n"), patterns{})
		if Broken(problems) || len(filters) != 1 {
			t.Fatalf("%q: %s: %v", line, hint, problems)
		}
	})
}

// FuzzTarget: an ADD_ONION that passes the guard names the client in every port,
// however Tor might split it.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"NEW:BEST Port=80,10.0.0.1:80", "Port=80,10.0.0.1", "Port=80", "port=1,10.0.0.1:1 PORT=2", `"Port=1"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arguments string) {
		if !torctl.Printable(arguments) || foreignTarget(arguments, "10.0.0.1") {
			return
		}
		for _, part := range strings.Split(strings.ToLower(" "+arguments), " port=")[1:] {
			_, target, ok := strings.Cut(part, ",")
			target, _, _ = strings.Cut(target, " ")
			if !ok || target != "10.0.0.1" && !strings.HasPrefix(target, "10.0.0.1:") {
				t.Fatalf("%q passes", arguments)
			}
		}
	})
}

// TestInterfaceAddresses: the loopback interface has the known address, and IPv6
// addresses that do not last are passed over.
func TestInterfaceAddresses(t *testing.T) {
	r := newRig(t)
	var addrs []netip.Addr
	err := r.ns.Do(func() (err error) {
		addrs, err = awaitInterface(context.Background(), "lo", time.Minute, func() { t.Error("it waits") })
		return err
	})
	if err != nil || len(addrs) == 0 || addrs[0] != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("%v, %v", addrs, err)
	}
	waited := false
	_, err = awaitInterface(context.Background(), "nosuchinterface-with-a-long-name", 10*time.Millisecond, func() { waited = true })
	if err == nil || !waited || !strings.Contains(err.Error(), `--listen-interface: "nosuchinterface"`) {
		t.Errorf("%v", err)
	}
	const list = "fe80000000000000000000000000000a 02 40 20 80     eth1\n" +
		"20010db8000000000000000000000001 02 40 00 01     eth1\n" +
		"fd19c33d88bc00000000000000000010 02 40 00 40     eth1\n" +
		"20010db8000000000000000000000002 02 40 00 80     eth1\n"
	if a, ok := firstIPv6(list, "eth1"); !ok || a.String() != gatewayIP6 {
		t.Errorf("%v, %v", a, ok)
	}
	if _, ok := firstIPv6(list, "eth0"); ok {
		t.Error("an address of another interface")
	}
}

// TestKernelDebug: the word alone counts.
func TestKernelDebug(t *testing.T) {
	for text, want := range map[string]bool{"ro debug quiet\n": true, "debug=1 nodebug\n": false, "": false} {
		root := fsx.Root(t.TempDir())
		if err := root.MkdirAll("/proc", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root.Path("/proc/cmdline"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		o, err := parseOptions(cli.Env{Args: []string{"onion-grater"}, Stdout: io.Discard, Stderr: io.Discard}, root)
		if err != nil || o.debug != want {
			t.Errorf("%q: %+v, %v", text, o, err)
		}
	}
}

// TestTestLine: the answers of --test-line.
func TestTestLine(t *testing.T) {
	root := fsx.Root(t.TempDir())
	if err := root.MkdirAll(FilterDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := root.WriteAtomic(mergedFile, []byte(mergedProfiles(t, "bisq")), 0o644); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"GETINFO version":                         "forwarded: GETINFO version",
		"getinfo  version":                        "forwarded: getinfo  version",
		"GETINFO address":                         "refused: no rule allows it\na profile allows it with: commands: {GETINFO: ['address']}",
		"PROTOCOLINFO":                            "answered here",
		"SETEVENTS BW":                            "refused: event BW\na profile allows it with: events: {BW: null}",
		"SETEVENTS HS_DESC":                       "answered here: 250 OK",
		"+LOADCONF":                               "refused: this is not one command",
		"SETCONF DisableNetwork=1":                "answered here: 250 OK",
		"add_onion NEW:ED25519-V3 Port=9999,9999": "forwarded: ADD_ONION NEW:ED25519-V3 Port=9999,10.152.152.11:9999",
	} {
		var out bytes.Buffer
		err := testLine(cli.Env{Stdout: &out, Stderr: &out}, root, client11, line)
		if !strings.Contains(out.String(), want) || (err != nil) != strings.Contains(want, "refused") {
			t.Errorf("%s: %v, %s", line, err, &out)
		}
	}
}

// TestListenerIsTCP: no other address can join a client's connection, as it could
// with Multipath TCP.
func TestListenerIsTCP(t *testing.T) {
	l, err := listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	protocol := 0
	var inner error
	err = raw.Control(func(fd uintptr) { protocol, inner = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL) })
	if err != nil || inner != nil || protocol != unix.IPPROTO_TCP {
		t.Errorf("protocol %d, %v, %v", protocol, err, inner)
	}
}
