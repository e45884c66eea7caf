// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAcceptance01_Listeners: row 5, Tor Browser's question about its port.
func TestAcceptance01_Listeners(t *testing.T) {
	r := newRig(t).realTor("SocksPort 127.0.0.1:9150").start()
	r.filter(mergedProfiles(t, ""))
	r.dial(client11).want("GETINFO net/listeners/socks", `250-net/listeners/socks="127.0.0.1:9150"`, "250 OK")
}

// TestAcceptance03_Events: row 84, real events of several kinds.
func TestAcceptance03_Events(t *testing.T) {
	r := newRig(t).realTor("DisableNetwork 1").start()
	r.filter(anyHost + "  commands: {SIGNAL: [RELOAD], SETCONF: ['ProtocolWarnings=[01]'], GETINFO: [version]}\n  events: {CONF_CHANGED: null, SIGNAL: null, NOTICE: null}\n")
	c := r.dial(client11)
	c.want("SETEVENTS CONF_CHANGED SIGNAL", "250 OK")
	c.send("SETCONF ProtocolWarnings=1\r\n")
	var got [][]string
	for range 2 {
		got = append(got, c.reply())
	}
	event := []string{"650-CONF_CHANGED", "650-ProtocolWarnings=1", "650 OK"}
	if !cmp.Equal(got, [][]string{event, ok}) && !cmp.Equal(got, [][]string{ok, event}) {
		// reply() ends at the first line with a blank: the event's `650 OK`.
		t.Errorf("%q", got)
	}
	c.want("SETEVENTS SIGNAL", "250 OK")
	c.send("SIGNAL RELOAD\r\n")
	seen := strings.Join([]string{c.line(), c.line()}, "\n")
	if !strings.Contains(seen, "650 SIGNAL RELOAD") || !strings.Contains(seen, "250 OK") {
		t.Errorf("%q", seen)
	}
}

// socksFrom opens a stream at Tor from an address; it need not come to anything.
func (r *rig) socksFrom(from, port string) net.Conn {
	r.t.Helper()
	var c net.Conn
	err := r.ns.Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
		c, err = d.Dial("tcp", net.JoinHostPort("10.200.1.1", port))
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	name := "x.example"
	if _, err := io.WriteString(c, "\x05\x01\x00\x05\x01\x00\x03"+string(rune(len(name)))+name+"\x00\x50"); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// TestAcceptance03_OwnStreams: row 85, and 88, with Tor's own events.
func TestAcceptance03_OwnStreams(t *testing.T) {
	for _, from := range []string{"10.200.1.2", client11} {
		t.Run(from, func(t *testing.T) {
			r := newRig(t).realTor("SocksPort 10.200.1.1:9050").start()
			r.filter(browserFilter)
			c := r.dial(from)
			c.want("SETEVENTS STREAM CIRC", "250 OK")
			other := r.socksFrom("10.200.1.9", "9050")
			own := r.socksFrom(from, "9050")
			line := c.line()
			if !strings.HasPrefix(line, "650 STREAM ") || !strings.Contains(line, " NEW 0 x.example:80 SOURCE_ADDR="+from+":") {
				t.Errorf("%q", line)
			}
			id := strings.Fields(line)[2]
			other.Close()
			own.Close()
			for !strings.Contains(line, " CLOSED ") {
				line = c.line()
				if !strings.HasPrefix(line, "650 STREAM "+id+" ") {
					t.Errorf("%q is of another stream than %s", line, id)
				}
			}
		})
	}
}

// TestAcceptance17_TorRestarted: row 89 with a real tor, which makes a new
// cookie when it starts.
func TestAcceptance17_TorRestarted(t *testing.T) {
	r := newRig(t)
	r.filter(anyHost + "  commands: {GETINFO: [version], SIGNAL: [NEWNYM]}\n  events: {SIGNAL: null}\n")
	r.o.tor.Address = "127.0.0.1:9062"
	r.start()
	stop := r.runTor("DisableNetwork 1")
	c := r.dial(client11)
	c.want("SETEVENTS SIGNAL", "250 OK")
	if got := c.ask("GETINFO version"); !allLike(got, version) {
		t.Fatalf("%q", got)
	}
	stop()
	r.log.wait(t, "lost connection to tor, reconnecting...")
	c.send("GETINFO version\r\n")
	r.runTor("DisableNetwork 1")
	if got := c.reply(); !allLike(got, version) {
		t.Errorf("%q", got)
	}
	c.send("SIGNAL NEWNYM\r\n")
	if seen := fmt.Sprint(c.line(), c.line()); !strings.Contains(seen, "650 SIGNAL NEWNYM") {
		t.Errorf("the event is not subscribed any more: %q", seen)
	}
}
