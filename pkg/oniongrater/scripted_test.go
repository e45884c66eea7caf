// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const anyHost = "- hosts: ['*']\n"

// TestAcceptance03_Replacements: rows 73 to 77.
func TestAcceptance03_Replacements(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + `  commands:
    FOO:
    - pattern: 'x( y)?( z)?'
      replacement: 'x{}{} {client-address} {client-port} {server-address} {server-port}'
    E: []
    N: ['']
    Z: null
    GETINFO:
    - pattern: a
      response: [{pattern: '250-a=(.*)', replacement: '250-a=<{}>'}]
    - x
  confs:
    foo: ['', '1', '2']
`)
	r.start()
	c := r.dial(client11)
	_, port, _ := net.SplitHostPort(c.c.LocalAddr().String())
	r.tor.Answer("N", "250 yes")
	r.tor.Answer("GETINFO a", "250-a=hello", "250-a=second line", "250 OK")
	r.tor.Answer("GETINFO x", "250+x=", "..dot", "foo", ".", "250 OK")
	for _, l := range []string{"SETCONF foo", "SETCONF foo=", "SETCONF FOO=1 Foo=2", "SETCONF  foo=1"} {
		r.tor.Answer(l, "250 OK")
	}
	unknown := `510 Unrecognized command "FOO"`
	for _, x := range []struct {
		line string
		want []string
	}{
		{"FOO x y z", []string{unknown}}, {"FOO x", []string{unknown}},
		{"E", refusal}, {"E x", refusal}, {"N", []string{"250 yes"}}, {"N ", []string{"250 yes"}}, {"Z", refusal},
		{"SETCONF foo", ok}, {"SETCONF foo=", ok}, {"SETCONF FOO=1 Foo=2", ok}, {"SETCONF  foo=1", ok}, {"SETCONF foo=3", refusal},
		{"GETINFO a", []string{"250-a=<hello>", "250-a=<second line>", "250 OK"}},
		{"GETINFO x", []string{"250+x=", "..dot", "foo", ".", "250 OK"}},
	} {
		c.want(x.line, x.want...)
	}
	want := []string{"FOO x y z 10.152.152.11 " + port + " 10.152.152.10 9051", "FOO x 10.152.152.11 " + port + " 10.152.152.10 9051", "N", "N",
		"SETCONF foo", "SETCONF foo=", "SETCONF FOO=1 Foo=2", "SETCONF  foo=1", "GETINFO a", "GETINFO x"}
	if d := cmp.Diff(want, r.tor.Received()); d != "" {
		t.Errorf("tor: %s", d)
	}
}

// emitted subscribes to one event, has it sent, and returns what arrives before
// the reply to the next command.
func (r *rig) emitted(c *workstation, event, bytes string) []string {
	r.t.Helper()
	c.want("SETEVENTS "+event, "250 OK")
	if n := r.tor.Emit(event, bytes); n != 1 {
		r.t.Fatalf("%s: %d subscribers", event, n)
	}
	c.send("GETINFO version\r\n")
	var out []string
	for {
		got := c.reply()
		if cmp.Equal(got, versionReply()) {
			return out
		}
		out = append(out, got...)
	}
}

// TestAcceptance03_EventRewriting: rows 78 to 83.
func TestAcceptance03_EventRewriting(t *testing.T) {
	for _, x := range []struct {
		number, profile, event string
		want                   []string
	}{
		{"78", "onionshare", "650 HS_DESC CREATED A UNKNOWN UNKNOWN D", []string{"650 HS_DESC CREATED A redacted redacted redacted"}},
		{"79", "onionshare", "650 HS_DESC CREATED A UNKNOWN UNKNOWN D REPLICA=1", []string{"650 HS_DESC CREATED A UNKNOWN UNKNOWN redacted REPLICA=1"}},
		{"80", "onionshare", "650 HS_DESC UPLOAD A UNKNOWN $FP~n D HSDIR_INDEX=H", []string{"650 HS_DESC UPLOAD A UNKNOWN redacted redacted"}},
		{"80", "onionshare", "650 HS_DESC UPLOADED A UNKNOWN $FP~n", []string{"650 HS_DESC UPLOADED A UNKNOWN redacted"}},
		{"81", "onionshare", "650 HS_DESC REQUESTED A NO_AUTH $FP~n D", nil},
		{"82", "bisq", "650 HS_DESC FAILED A NO_AUTH $FP~n D REASON=NOT_FOUND", []string{"650 HS_DESC FAILED A redacted redacted redacted REASON=NOT_FOUND"}},
		{"83", "bisq", "650 HS_DESC CREATED", nil},
	} {
		t.Run(x.number, func(t *testing.T) {
			r := newRig(t).scripted()
			r.filter(mergedProfiles(t, x.profile))
			r.start()
			if got := r.emitted(r.dial(client11), "HS_DESC", x.event+"\r\n"); !cmp.Equal(got, x.want) {
				t.Errorf("%q, want %q", got, x.want)
			}
		})
	}
}

const browserFilter = `- hosts: ['*']
  tor-browser-mode: true
  commands: {GETINFO: [circuit-status, stream-status, 'circuit-status version', version]}
  events: {STREAM: null, CIRC: null}
`

// TestAcceptance03_TorBrowserMode: rows 85 to 88 with scripted events, for
// clients of any address (defect 3).
func TestAcceptance03_TorBrowserMode(t *testing.T) {
	for _, from := range []string{"10.200.1.2", client11, client11IP6} {
		t.Run(from, func(t *testing.T) {
			r := newRig(t).scripted()
			r.filter(browserFilter)
			r.tor.Answer("GETINFO circuit-status", "250+circuit-status=", "4 BUILT a", "5 BUILT b", ".", "250 OK")
			r.tor.Answer("getinfo circuit-status", "250+circuit-status=", "4 BUILT a", "5 BUILT b", ".", "250 OK")
			r.tor.Answer("GETINFO stream-status", "250+stream-status=", "1 SUCCEEDED 4 x:80", "2 SUCCEEDED 5 y:80", ".", "250 OK")
			r.start()
			c := r.dial(from)
			host := addressText(netip.MustParseAddr(from))
			c.want("GETINFO circuit-status", "250-circuit-status=", "250 OK")
			c.want("SETEVENTS STREAM CIRC", "250 OK")
			for _, e := range []string{"650 STREAM 1 NEW 0 x:80 SOURCE_ADDR=" + host + ":4000 PURPOSE=USER", "650 STREAM 2 NEW 0 y:80 SOURCE_ADDR=10.200.1.9:4000 PURPOSE=USER",
				"650 STREAM 3 NEW 0 y:80", "650 STREAM 2 SENTCONNECT 5 y:80", "650-STREAM 6 NEW 0 z:80 SOURCE_ADDR=" + host + ":1\r\n650 OK", "650 STREAM 1 SENTCONNECT 4 x:80",
				"650 STREAM 7 NEW 0 z:80 SOURCE_ADDR=" + host + ":1 SOURCE_ADDR=10.200.1.9:2"} {
				r.tor.Emit("STREAM", e+"\r\n")
			}
			for _, e := range []string{"650 CIRC 4 BUILT $a~b", "650 CIRC 4 CLOSED $a~b REASON=FINISHED", "650 CIRC 5 FAILED $a~b"} {
				r.tor.Emit("CIRC", e+"\r\n")
			}
			for _, want := range []string{"650 STREAM 1 NEW 0 x:80 SOURCE_ADDR=" + host + ":4000 PURPOSE=USER", "650 STREAM 1 SENTCONNECT 4 x:80", "650 CIRC 4 CLOSED"} {
				if got := c.line(); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
			c.want("getinfo circuit-status", "250+circuit-status=", "4 BUILT a", ".", "250 OK")
			c.want("GETINFO stream-status", filtered)
			c.want("GETINFO circuit-status version", filtered)
			r.tor.Emit("STREAM", "650 STREAM 1 CLOSED 4 x:80 REASON=DONE\r\n")
			if got := c.line(); got != "650 STREAM 1 CLOSED 4 x:80 REASON=DONE" {
				t.Errorf("%q", got)
			}
			c.want("GETINFO circuit-status", "250-circuit-status=", "250 OK")
		})
	}
}

// TestAcceptance03_ManyFilters: rows 92 and 93.
func TestAcceptance03_ManyFilters(t *testing.T) {
	r := newRig(t).scripted()
	r.write(FilterDir+"/a.yml", "- hosts: ['10.152.152.12']\n  commands: {GETINFO: [version]}\n")
	r.start()
	r.dial(client11).want("GETINFO version", filtered)
	r.dial(client12).want("GETINFO version", versionReply()...)
	r.write(FilterDir+"/b.yml", "- hosts: ['*']\n")
	if got := r.dial(client12).rest(); got != "" {
		t.Errorf("%q", got)
	}
	r.log.wait(t, "multiple filters matched: a, b")
	r.dial(client11).want("GETINFO version", filtered)
	r.write(FilterDir+"/b.yml", "- hosts: ['*']\n  combine: true\n  commands: {GETINFO: [version]}\n")
	r.dial(client12).want("GETINFO version", versionReply()...)
}

// TestAcceptance04_Targets: no onion service leads to anything but the client,
// even by a rule that allows everything.
func TestAcceptance04_Targets(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands:\n    ADD_ONION:\n    - pattern: 'ANY (.*)'\n      replacement: '{}'\n      allow-any-target: true\n    - '.*'\n")
	r.start()
	for _, from := range []string{client11, client11IP6} {
		c := r.dial(from)
		own := addressText(netip.MustParseAddr(from))
		for _, target := range []string{
			"Port=80,192.0.2.7:80#," + own, "Port=80,unix:/run/tor/control", "Port=80,127.0.0.1:9052", "Port=22", "port=22", "PORT=22,22", "Port=80,", "Port=,",
			"Port=80," + own + "0:80", "Port=80," + own + ":", "Port=80," + own + ":80x", "Port=80," + own + ":80 Port=22", `Port="80,` + own + `"`, "Port=80," + own + "#",
			"Port=800000," + own, "Port=80,localhost:80", "Port=80,0x7f000001:80", "Port=80,10.152.152.12:80", `X="a Port=80,1.2.3.4:5"`, "Port=-1," + own, "Port=80,[::1]:80",
		} {
			c.want("ADD_ONION NEW:ED25519-V3 "+target, filtered)
			r.log.wait(t, "onion service target refused: ADD_ONION")
		}
		c.want("ADD_ONION NEW:ED25519-V3 Port=80,192.0.2.7:80\x00,9", filtered)
		if got := r.tor.Received(); len(got) > 0 {
			t.Fatalf("tor received %q", got)
		}
		for _, target := range []string{"Port=80," + own, "Port=80," + own + ":8080", "port=80," + own + ":8080 Port=81," + own + ":1 Flags=DiscardPK"} {
			line := "ADD_ONION NEW:ED25519-V3 " + target
			r.tor.Answer(line, "250-ServiceID=x", "250 OK")
			c.want(line, "250-ServiceID=x", "250 OK")
		}
		r.tor.Answer("ADD_ONION NEW:BEST Port=80,192.0.2.7:80", "250-ServiceID=x", "250 OK")
		c.want("ADD_ONION ANY NEW:BEST Port=80,192.0.2.7:80", "250-ServiceID=x", "250 OK")
		r.tor.Forget()
	}
}

// TestAcceptance05_Bytes: bytes that Tor could take for something else get no
// further, wherever they are, and the connection goes on.
func TestAcceptance05_Bytes(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands:\n    GETINFO: [version]\n    ADD_ONION:\n    - pattern: 'NEW:(\\S+) Port=9999,(\\S+)'\n      replacement: 'NEW:{} Port=9999,{client-address}:{}'\n")
	r.start()
	c := r.dial(client11)
	line := "ADD_ONION NEW:ED25519-V3 Port=9999,80"
	for b := range 256 {
		printable := b >= 0x20 && b < 0x7f
		if printable || b == '\n' {
			continue
		}
		for at := 0; at <= len(line); at++ {
			if b == '\t' && at >= len("ADD_ONION") && at <= len("ADD_ONION ") || b == '\r' && at == len(line) {
				continue // a separator, or the line's end
			}
			c.want(line[:at]+string([]byte{byte(b)})+line[at:], filtered)
		}
	}
	if got := r.tor.Received(); len(got) > 0 {
		t.Errorf("tor received %q", got)
	}
	c.want("GETINFO version", versionReply()...)
}

// TestAcceptance06_BadRules: a bad rule takes its command away, and nothing else.
func TestAcceptance06_BadRules(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands:\n    GETINFO: ['version']\n    A:\n    - '(?=x)'\n    - '.*'\n")
	r.start()
	c := r.dial(client11)
	c.want("A x", filtered)
	c.want("GETINFO version", versionReply()...)
	r.log.wait(t, FilterDir+"/30_autogenerated.yml:5")
	r.log.wait(t, "(?=")
}

// TestAcceptance08_Anchors: alternatives are grouped before they are anchored.
func TestAcceptance08_Anchors(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands:\n    A: ['aa|bb']\n")
	r.start()
	c := r.dial(client11)
	c.want("A aabbb", filtered)
	c.want("A aa x", filtered)
	c.want("A bb", `510 Unrecognized command "A"`)
}

// TestAcceptance09_Confs: a value of any text is one value.
func TestAcceptance09_Confs(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  confs:\n    bridge: ['.*']\n")
	r.start()
	c := r.dial(client11)
	c.want(`SETCONF bridge="a b" SocksPort=9`, filtered)
	r.tor.Answer(`SETCONF bridge="a b" Bridge=c`, "250 OK")
	c.want(`SETCONF bridge="a b" Bridge=c`, "250 OK")
}

// TestAcceptance10_Unsubscribe: the set of events is replaced in one go.
func TestAcceptance10_Unsubscribe(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands: {GETINFO: [version]}\n  events: {A: null, B: null, C: null, D: null, PT_LOG: null}\n")
	r.start()
	c := r.dial(client11)
	c.want("SETEVENTS a b c D", "250 OK")
	c.want("SETEVENTS D C B A", "250 OK") // the same set
	c.want("SETEVENTS", "250 OK")
	if got := r.emittedTo("A", "B", "C", "D"); got != 0 {
		t.Errorf("%d events were still subscribed", got)
	}
	c.want("SETEVENTS PT_LOG", "250 OK")
	want := []string{"SETEVENTS A B C D", "SETEVENTS", "SETEVENTS PT_LOG"}
	if d := cmp.Diff(want, r.tor.Received()); d != "" {
		t.Error(d)
	}
	// Tor refuses a set: the old one stays (defect 12).
	r.tor.Answer("SETEVENTS A", `552 Unrecognized event "A"`)
	c.want("SETEVENTS A", `552 Unrecognized event "A"`)
	r.tor.Emit("PT_LOG", "650 PT_LOG x\r\n")
	if got := c.line(); got != "650 PT_LOG x" {
		t.Errorf("%q", got)
	}
}

// emittedTo counts who would get events.
func (r *rig) emittedTo(events ...string) (n int) {
	for _, e := range events {
		n += r.tor.Emit(e, "650 "+e+" x\r\n")
	}
	return n
}

// TestAcceptance11_MultiLine: events of several lines do not escape redaction
// (defect 4), and others pass as they are.
func TestAcceptance11_MultiLine(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands: {GETINFO: [version]}\n  events:\n    PLAIN: null\n    HS_DESC_CONTENT: {response: [{pattern: '.*', replacement: ''}]}\n" +
		"    X: {response: [{pattern: '650 X (\\S+).*', replacement: '650 X {}'}, {pattern: '.*', replacement: 'REDACTED'}]}\n    S: {strict: true, response: [{pattern: '650 S ok', replacement: '650 S ok'}]}\n")
	r.start()
	c := r.dial(client11)
	content := func(name string) string { return "650+" + name + " a b\r\nsecret\r\n.\r\n650 OK\r\n" }
	for _, x := range []struct {
		event, bytes string
		want         []string
	}{
		{"HS_DESC_CONTENT", content("HS_DESC_CONTENT"), nil},
		{"PLAIN", content("PLAIN"), []string{"650+PLAIN a b", "secret", ".", "650 OK"}},
		{"PLAIN", "650-PLAIN\r\n650-\xff\x1b=1\r\n650 OK\r\n", []string{"650-PLAIN", "650-\xff\x1b=1", "650 OK"}},
		{"X", content("X"), []string{"650 X a"}},
		{"X", "650 X\r\n", nil},
		{"S", "650 S ok\r\n", []string{"650 S ok"}},
		{"S", "650 S other\r\n", nil},
	} {
		if got := r.emitted(c, x.event, x.bytes); !cmp.Equal(got, x.want) {
			t.Errorf("%s: %q, want %q", x.event, got, x.want)
		}
	}
	r.log.wait(t, "an event was not passed, because its rule makes it into none: REDACTED")
}

// TestAcceptance12_NoInterleaving: no event lies inside a reply.
func TestAcceptance12_NoInterleaving(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands: {GETINFO: [long]}\n  events: {BW: null}\n")
	r.tor.Answer("GETINFO long", "250-a=1", "250+long=", "a", "b", ".", "250-b=1", "250 OK")
	r.start()
	c := r.dial(client11)
	c.want("SETEVENTS BW", "250 OK")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.tor.Emit("BW", "650 BW 1 1\r\n")
			case <-stop:
				return
			}
		}
	}()
	events := 0
	for i := range 10_000 {
		want := []string{"250-a=1", "250+long=", "a", "b", ".", "250-b=1", "250 OK"}
		if i%2 == 0 {
			c.send("PROTOCOLINFO\r\n")
			want = []string{"250-PROTOCOLINFO 1", "250-AUTH METHODS=NULL", `250-VERSION Tor="0.4.9.11"`, "250 OK"}
		} else {
			c.send("GETINFO long\r\n")
		}
		got := c.reply()
		for ; cmp.Equal(got, []string{"650 BW 1 1"}); got = c.reply() {
			events++
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	close(stop)
	<-stopped
	if events == 0 {
		t.Error("there were no events")
	}
}

// TestAcceptance18_FilesChange: every client gets the filters of its moment.
func TestAcceptance18_FilesChange(t *testing.T) {
	r := newRig(t).scripted().start()
	first := r.dial(client11)
	first.want("GETINFO version", filtered)
	r.filter(anyHost + "  commands: {GETINFO: [version]}\n")
	first.want("GETINFO version", filtered)
	r.dial(client11).want("GETINFO version", versionReply()...)
	r.write(FilterDir+"/50_empty.yml", "")
	if err := os.Symlink("/nowhere", r.root.Path(FilterDir+"/60_dangling.yml")); err != nil {
		t.Fatal(err)
	}
	if err := r.root.MkdirAll(FilterDir+"/70_folder.yml", 0o755); err != nil {
		t.Fatal(err)
	}
	r.write(FilterDir+"/80_syntax.yml", "- a: [\n")
	r.dial(client11).want("GETINFO version", versionReply()...)
	for _, name := range []string{"50_empty", "60_dangling", "70_folder"} {
		r.log.wait(t, "filter '"+FilterDir+"/"+name+".yml' was not loaded: ")
	}
	r.log.wait(t, "filter '"+FilterDir+"/80_syntax.yml' has bad YAML and was not loaded: ")
}

// TestReload: at SIGHUP bad files leave the old filters in use, until a file
// changes again.
func TestReload(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands: {GETINFO: [version]}\n")
	r.start()
	r.dial(client11).want("GETINFO version", versionReply()...)
	r.filter("- hosts: [\n")
	r.p.filters.reload()
	r.log.wait(t, "reload: there are errors, the old filters stay in use")
	r.dial(client11).want("GETINFO version", versionReply()...)
	r.filter(anyHost + "  commands: {GETINFO: [address]}\n")
	r.p.filters.reload()
	r.log.wait(t, "reload: 1 filters are in use")
	r.dial(client11).want("GETINFO version", filtered)
}

// TestAcceptance25_Secrets: neither keys nor control bytes are logged.
func TestAcceptance25_Secrets(t *testing.T) {
	r := newRig(t).scripted()
	r.o.debug = true
	r.filter(anyHost + "  commands: {GETINFO: [version], SECRET: ['']}\n")
	r.tor.Answer("SECRET", "250-PrivateKey=ED25519-V3:SECRETKEY", "250 OK")
	r.start()
	c := r.dial(client11)
	for _, line := range []string{
		"ADD_ONION ED25519-V3:SECRETKEY\x1b[31m Port=80", "ADD_ONION ED25519-V3:SECRETKEY Port=80", "add_onion rsa1024:SECRETKEY", "ONION_CLIENT_AUTH_ADD x x25519:SECRETKEY",
		"AUTHCHALLENGE SAFECOOKIE SECRETKEY", "X PrivateKey=SECRETKEY", "authenticate\x1b SECRETKEY",
	} {
		c.want(line, filtered)
	}
	c.want("AUTHENTICATE SECRETKEY", "250 OK")
	c.want("SECRET", "250-PrivateKey=ED25519-V3:SECRETKEY", "250 OK")
	c.send("QUIT\r\n")
	c.rest()
	r.log.wait(t, "disconnected: client quit")
	text := r.log.String()
	if strings.Contains(text, "SECRETKEY") || strings.ContainsAny(text, "\x1b\x00\r") {
		t.Errorf("the log:\n%s", text)
	}
	for _, want := range []string{"10.152.152.11:", "(filter: 30_autogenerated) connected: loaded filter: 30_autogenerated", "Final rules:\ncommands:\n", "debug on",
		": -> ADD_ONION ED25519-V3:[redacted] Port=80", ": command filtered: ADD_ONION ED25519-V3:[redacted] Port=80", ": <- 510 Command filtered", ": <- (multi-line)\n    250-PrivateKey=[redacted]\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("not logged: %q", want)
		}
	}
}

// TestRefusalsAreLimited: a client cannot fill the log.
func TestRefusalsAreLimited(t *testing.T) {
	r := newRig(t).scripted().start()
	c := r.dial(client11)
	for i := range 1000 {
		c.want(fmt.Sprintf("GETINFO x%d", i), filtered)
	}
	if n := strings.Count(r.log.String(), "command filtered"); n < 1 || n > 10*refusalsMax {
		t.Errorf("%d records", n)
	}
	if s := r.p.counters.status(r.p.guests.numbers()); !strings.Contains(s, "1000 lines refused\n    GETINFO: 1000\nlast refused:\n    GETINFO x990\n") {
		t.Error(s)
	}
}

// TestStrictReplies: what no response knows is not shown, and no rewriting breaks
// the form of a reply.
func TestStrictReplies(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + `  commands:
    GETINFO:
    - {pattern: a, strict: true, response: [{pattern: '250-a=.*', replacement: '250-a=x'}]}
    - {pattern: b, response: [{pattern: '250-b=(.*)', replacement: '251+b={}'}]}
    - {pattern: c, response: [{pattern: '250-c=.*', replacement: ''}, {pattern: '250 OK', replacement: ''}]}
    - {pattern: d, response: [{pattern: 'x', replacement: '.'}, {pattern: 'y', replacement: ''}]}
    - {pattern: e, reply: ['250-e=mine', '250 OK']}
`)
	r.tor.Answer("GETINFO a", "250-a=secret", "250 OK")
	r.tor.Answer("GETINFO b", "250-b=1", "250 OK")
	r.tor.Answer("GETINFO c", "250-c=1", "250 OK")
	r.tor.Answer("GETINFO d", "250+d=", "x", "y", "z", ".", "250 OK")
	r.start()
	c := r.dial(client11)
	c.want("GETINFO a", "250-a=x", "250 OK")
	c.want("GETINFO b", filtered)
	c.want("GETINFO c", "250 ")
	c.want("GETINFO d", "250+d=", "..", "z", ".", "250 OK")
	c.want("GETINFO e", "250-e=mine", "250 OK")
	r.tor.Answer("GETINFO a", "250-a=secret", "250-other=secret", "250 OK")
	c.want("GETINFO a", filtered)
	if slices.Contains(r.tor.Received(), "GETINFO e") {
		t.Error("tor was asked for what is answered here")
	}
}

// TestDataBlocks: a block is refused as one, and not without end.
func TestDataBlocks(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands: {GETINFO: [version]}\n")
	r.start()
	c := r.dial(client11)
	c.want("+LOADCONF\x00\r\nGETINFO version\r\n..\r\n.", filtered)
	c.want("GETINFO version", versionReply()...)
	c.send("+POSTDESCRIPTOR\r\n" + strings.Repeat(strings.Repeat("x", 100)+"\r\n", 600))
	c.want(".", filtered)
	c.send("+POSTDESCRIPTOR\r\n")
	go func() { _, _ = io.Copy(c.c, strings.NewReader(strings.Repeat("x\r\n", 100_000))) }()
	if got := c.rest(); got != "" {
		t.Errorf("%q", got)
	}
	r.log.wait(t, "disconnected: "+errData.Error())
}

// TestComplain: nothing is filtered but data blocks, and everything is told.
func TestComplain(t *testing.T) {
	r := newRig(t).scripted()
	r.o.complain = true
	r.filter(anyHost + "  events: {STREAM: {suppress: true}}\n  commands:\n    GETINFO: [{pattern: b, replacement: c}]\n")
	r.tor.Answer("GETINFO address", "250-address=1", "250 OK")
	r.tor.Answer("GETINFO c", "250-c=1", "250 OK")
	r.start()
	c := r.dial(client11)
	c.want("GETINFO address", "250-address=1", "250 OK")
	c.want("GETINFO b", "250-c=1", "250 OK")
	c.want("SETEVENTS EXTENDED STREAM BW", "250 OK")
	c.want("+LOADCONF\r\n.", filtered)
	c.want("AUTHENTICATE x", "250 OK")
	if r.emittedTo("STREAM", "BW") != 2 || c.line() != "650 STREAM x" || c.line() != "650 BW x" {
		t.Error("events are filtered")
	}
	r.log.wait(t, ": -> GETINFO address")
	r.log.wait(t, "warning: --complain is on")
	if strings.Contains(r.log.String(), "<- ") {
		t.Error("replies were logged")
	}
}
