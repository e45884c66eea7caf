// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// row is a case of the contract's table: what a client sends on a fresh
// connection, what Tor gets of it, and what the client gets. A QUIT is sent
// after it, unless the row ends the connection.
type row struct {
	number  string
	send    string
	tor     []string // as typed; <addr> is the client's target
	client  []string // see looksLike
	closes  bool
	profile string
}

// runRows plays rows of profiles against the rig's real Tor.
func runRows(t *testing.T, r *rig, rows []row) {
	t.Helper()
	key := base64.StdEncoding.EncodeToString(expandedKey())
	for _, row := range rows {
		t.Run(row.number+" "+strings.TrimSpace(row.send[:min(len(row.send), 30)]), func(t *testing.T) {
			fill := strings.NewReplacer("<KEY>", key, "<HEX>", strings.Repeat("ab", 32), "<ID>", strings.Repeat("a", 56), "<addr>", client11)
			r.filter(mergedProfiles(t, row.profile))
			r.rec.taken()
			c := r.dial(client11)
			c.t = t
			c.send(fill.Replace(row.send))
			want := row.client
			if !row.closes {
				c.send("QUIT\r\n")
				want = append(want[:len(want):len(want)], "250 closing connection")
			}
			got := strings.Split(strings.TrimSuffix(c.rest(), "\r\n"), "\r\n")
			if len(got) == 1 && got[0] == "" {
				got = nil
			}
			if !allLike(got, want) {
				t.Errorf("the client got %q, want %q", got, want)
			}
			var tor []string
			for _, l := range row.tor {
				tor = append(tor, fill.Replace(l))
			}
			if got := r.rec.taken(); !cmp.Equal(got, tor) {
				t.Errorf("tor got %q, want %q", got, tor)
			}
		})
	}
}

// expandedKey is a secret key in Tor's form: a clamped scalar, and 32 bytes more.
func expandedKey() []byte { return bytes.Repeat([]byte{0x48}, 64) }

// Answers that occur often.
var (
	ok       = []string{"250 OK"}
	refusal  = []string{filtered}
	version  = []string{"250-version=<version>", "250 OK"}
	protocol = []string{"250-PROTOCOLINFO 1", "250-AUTH METHODS=NULL", `250-VERSION Tor="<version>"`, "250 OK"}
	service  = []string{"250-ServiceID=<id>", "250-PrivateKey=ED25519-V3:<key>", "250 OK"}
	nameless = []string{"250-ServiceID=<id>", "250 OK"}
)

func join(lists ...[]string) (out []string) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

// TestAcceptance01_DefaultProfile: rows 1 to 41 of the table, those with a real
// Tor without the network.
func TestAcceptance01_DefaultProfile(t *testing.T) {
	r := newRig(t).realTor("DisableNetwork 1").start()
	full := strings.Repeat("x", 10240)
	runRows(t, r, []row{
		{number: "1", send: "PROTOCOLINFO 1\r\n", client: protocol},
		{number: "2", send: "protocolinfo\r\n", client: protocol},
		{number: "3", send: "AUTHENTICATE\r\nAUTHENTICATE \"foo bar\"\r\nAUTHENTICATE <HEX>\r\n", client: join(ok, ok, ok)},
		{number: "4", send: "GETINFO version\r\n", tor: []string{"GETINFO version"}, client: version},
		{number: "6", send: "GETINFO net/listeners/socks\r\n", tor: []string{"GETINFO net/listeners/socks"}, client: []string{"250-net/listeners/socks=", "250 OK"}},
		{number: "7", send: "GETINFO status/circuit-established\r\n", tor: []string{"GETINFO status/circuit-established"}, client: []string{"250-status/circuit-established=0", "250 OK"}},
		{number: "8", send: "GETINFO consensus/valid-after\r\n", tor: []string{"GETINFO consensus/valid-after"}, client: []string{"250-consensus/valid-after=", "250 OK"}},
		{number: "9", send: "GETINFO address\r\n", client: refusal},
		{number: "10", send: "GETINFO version config-file\r\n", client: refusal},
		{number: "11", send: "SIGNAL NEWNYM\r\n", tor: []string{"SIGNAL NEWNYM"}, client: ok},
		{number: "12", send: "signal NEWNYM\r\n", tor: []string{"signal NEWNYM"}, client: ok},
		{number: "13", send: "SIGNAL newnym\r\nSIGNAL SHUTDOWN\r\n", client: join(refusal, refusal)},
		{number: "14", send: "GETCONF __OwningControllerProcess\r\ngetconf __owningcontrollerprocess\r\n",
			tor: []string{"GETCONF __OwningControllerProcess", "getconf __owningcontrollerprocess"}, client: []string{"250 __OwningControllerProcess", "250 __OwningControllerProcess"}},
		{number: "15", send: "GETCONF __OwningControllerProcess SocksPort\r\nSETCONF __OwningControllerProcess=1\r\nSETCONF\r\n", client: join(refusal, refusal, refusal)},
		{number: "16", send: "TAKEOWNERSHIP\r\nRESETCONF SocksPort\r\n", client: join(ok, ok)},
		{number: "17", send: "DROPOWNERSHIP\r\nUSEFEATURE VERBOSE_NAMES\r\n", client: join(refusal, refusal)},
		{number: "18", send: "SETEVENTS STREAM CIRC\r\nsetevents circ stream\r\n", client: join(ok, ok)},
		{number: "19", send: "SETEVENTS SIGNAL CONF_CHANGED STATUS_SERVER\r\n", client: ok},
		{number: "20", send: "SETEVENTS BW\r\nSETEVENTS CIRC BW\r\nSETEVENTS EXTENDED CIRC\r\n", client: join(refusal, refusal, refusal)},
		{number: "21", send: "SETEVENTS\r\n", client: ok},
		{number: "22", send: "QUIT\r\n", client: []string{"250 closing connection"}, closes: true},
		{number: "22", send: "quit now\r\n", client: []string{"250 closing connection"}, closes: true},
		{number: "23", send: "\r\nGETINFO version\r\n", tor: []string{"GETINFO version"}, client: version},
		{number: "24", send: "GETINFO version\n", tor: []string{"GETINFO version"}, client: version},
		{number: "25", send: "GETINFO version \r\n", client: refusal},
		{number: "26", send: "GETINFO  version\r\nGETINFO\tversion\r\n", tor: []string{"GETINFO  version", "GETINFO\tversion"}, client: join(version, version)},
		{number: "27", send: "GETINFO\r\nGETINFO config/names\r\nGETINFO info/names\r\n", client: join(refusal, refusal, refusal)},
		{number: "28", send: "GETINFO version\r\nGETINFO address\r\nSIGNAL NEWNYM\r\nQUIT\r\nGETINFO version\r\n", tor: []string{"GETINFO version", "SIGNAL NEWNYM"},
			client: join(version, refusal, ok, []string{"250 closing connection"}), closes: true},
		{number: "29", send: "+LOADCONF\r\nSocksPort 9\r\n\r\n.\r\n", client: refusal},
		{number: "30", send: ".\r\n", client: refusal},
		{number: "32", send: "AUTHCHALLENGE SAFECOOKIE <HEX>\r\n", client: refusal},
		{number: "33", send: full + "\n", client: refusal},
		{number: "33", send: full + "x\n", closes: true},
		{number: "33", send: "GETINFO version\r\n" + full + "x", tor: []string{"GETINFO version"}, client: version, closes: true},
		{number: "35", send: " GETINFO version\r\nGETINFO version\rx\r\n", client: join(refusal, refusal)},
		{number: "36", send: "GETINFO version\x00\r\n", client: refusal},
		{number: "37", send: "GETINFO \xc3\xa4\r\nGETINFO version\r\n", tor: []string{"GETINFO version"}, client: join(refusal, version)},
		{number: "38", send: "GETINFO\vversion\r\nGETINFO\x1cversion\r\n", client: join(refusal, refusal)},
		{number: "39", send: "POST / HTTP/1.1\r\nHost: x\r\n\r\nGETINFO version\r\n", closes: true},
	})
	t.Run("31 byte by byte", func(t *testing.T) {
		c := r.dial(client11)
		for _, b := range "GETINFO version\r\n" {
			c.send(string(b))
		}
		if got := c.reply(); !allLike(got, version) {
			t.Errorf("%q", got)
		}
	})
	t.Run("34 half a line", func(t *testing.T) {
		r.rec.taken()
		c := r.dial(client11)
		c.send("GETINFO version\r\nGETINFO version")
		if err := c.c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(strings.TrimSpace(c.rest()), "\r\n"); !allLike(got, version) {
			t.Errorf("%q", got)
		}
		if got := r.rec.taken(); len(got) != 1 {
			t.Errorf("tor got %q", got)
		}
	})
	t.Run("40 the Gateway itself", func(t *testing.T) {
		if got := r.dial(gatewayAddr).ask("GETINFO version"); !allLike(got, version) {
			t.Errorf("%q", got)
		}
	})
	t.Run("41 no filter", func(t *testing.T) {
		r.filter("- hosts: ['" + client12 + "']\n")
		r.rec.taken()
		c := r.dial(client11)
		c.want("GETINFO version", filtered)
		c.want("SETEVENTS", "250 OK")
		c.want("SETEVENTS CIRC", filtered)
		r.log.wait(t, "(filter: None) connected: no matching filter found, using an empty one")
		if got := r.rec.taken(); len(got) > 0 {
			t.Errorf("tor got %q", got)
		}
	})
}

// TestAcceptance02_Examples: rows 42 to 72.
func TestAcceptance02_Examples(t *testing.T) {
	r := newRig(t).realTor("DisableNetwork 1").start()
	const on = "<addr>"
	boot := `250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"`
	runRows(t, r, []row{
		{number: "42", profile: "bisq", send: "GETINFO status/bootstrap-phase\r\n", tor: []string{"GETINFO status/bootstrap-phase"}, client: []string{boot, "250 OK"}},
		{number: "43", profile: "bisq", send: "ADD_ONION NEW:ED25519-V3 Port=9999,9999\r\n", tor: []string{"ADD_ONION NEW:ED25519-V3 Port=9999," + on + ":9999"}, client: service},
		{number: "44", profile: "bisq", send: "ADD_ONION  NEW:ED25519-V3 Port=9999,9999\r\nADD_ONION\tNEW:ED25519-V3 Port=9999,9999\nADD_ONION NEW:ED25519-V3 Port=9999,9999\n",
			tor: []string{"ADD_ONION  NEW:ED25519-V3 Port=9999," + on + ":9999", "ADD_ONION\tNEW:ED25519-V3 Port=9999," + on + ":9999", "ADD_ONION NEW:ED25519-V3 Port=9999," + on + ":9999"}, client: join(service, service, service)},
		{number: "45", profile: "bisq", send: "ADD_ONION ED25519-V3:<KEY> Port=9999,9999\r\n", tor: []string{"ADD_ONION ED25519-V3:<KEY> Port=9999," + on + ":9999"}, client: nameless},
		{number: "46", profile: "bisq", send: "ADD_ONION NEW:ED25519-V3 Port=9999,127.0.0.1:9999\r\n", client: refusal},
		{number: "47", profile: "bisq", send: "ADD_ONION NEW:ED25519-V3 Port=22,22\r\n", tor: []string{"ADD_ONION NEW:ED25519-V3 Port=22," + on + ":22"}, client: service},
		{number: "48", profile: "bisq", send: "ADD_ONION NEW:ED25519-V3 Port=9999,9999 Flags=Detach\r\nADD_ONION NEW:ED25519-V3 Port=9999,9999\vPort=22,127.0.0.1:22\r\n", client: join(refusal, refusal)},
		{number: "49", profile: "bisq", send: "add_onion NEW:ED25519-V3 Port=9999,9999\r\n", tor: []string{"ADD_ONION NEW:ED25519-V3 Port=9999," + on + ":9999"}, client: service},
		{number: "50", profile: "bisq", send: "ADD_ONION NEW:ED25519-V3 Port=80,192.0.2.7:80#,9\r\n", client: refusal},
		{number: "51", profile: "bisq", send: "ADD_ONION NEW:ED25519-V3 Port=80,192.0.2.7:80\x00,9\r\n", client: refusal},
		{number: "52", profile: "bisq", send: "DEL_ONION foo\r\nDEL_ONION foo bar\r\n", tor: []string{"DEL_ONION foo"}, client: []string{"512 Malformed Onion Service id", filtered}},
		{number: "53", profile: "bisq", send: "HSFETCH aaaa SERVER=x\r\n", tor: []string{"HSFETCH aaaa SERVER=x"}, client: []string{`513 Invalid argument "aaaa"`}},
		{number: "54", profile: "bisq", send: "SETCONF DisableNetwork=1\r\nSETCONF DisableNetwork=1 ProtocolWarnings=1\r\nSETCONF DisableNetwork\r\n", client: join(ok, refusal, refusal)},
		{number: "55", profile: "bisq", send: "SETEVENTS CIRC ORCONN INFO NOTICE WARN ERR HS_DESC HS_DESC_CONTENT\r\n", tor: []string{"SETEVENTS HS_DESC"}, client: ok},
		{number: "56", profile: "bitcoind", send: "ADD_ONION NEW:ED25519-V3 Port=8333,127.0.0.1:8334\r\n", tor: []string{"ADD_ONION NEW:ED25519-V3 Port=8333," + on + ":8334 Flags=DiscardPK"}, client: nameless},
		{number: "57", profile: "lnd", send: "ADD_ONION NEW:ED25519-V3 Port=9735,9735 \r\nADD_ONION NEW:ED25519-V3 Port=9735,9735\r\n",
			tor: []string{"ADD_ONION NEW:ED25519-V3 Port=9735," + on + ":9735", "ADD_ONION NEW:ED25519-V3 Port=9735," + on + ":9735"}, client: join(service, service)},
		{number: "58", profile: "onion_authentication", send: "onion_client_auth_add <ID> x25519:<KEY>\r\n", tor: []string{"onion_client_auth_add <ID> x25519:<KEY>"}, client: []string{"<any>"}},
		{number: "59", profile: "onion_authentication", send: "ONION_CLIENT_AUTH_ADD <ID> x25519:<KEY> Flags=Permanent\r\nONION_CLIENT_AUTH_VIEW\r\n",
			tor: []string{"ONION_CLIENT_AUTH_ADD <ID> x25519:<KEY> Flags=Permanent"}, client: []string{"<any>", filtered}},
		{number: "60", profile: "onionshare", send: "ADD_ONION NEW:ED25519-V3 Port=80,17600\r\nADD_ONION NEW:ED25519-V3 Port=80,17700\r\n",
			tor: []string{"ADD_ONION NEW:ED25519-V3 Port=80," + on + ":17600"}, client: join(service, refusal)},
		{number: "61", profile: "onionshare", send: "ADD_ONION NEW:ED25519-V3 Flags=V3Auth Port=80,17646 ClientAuthV3=FGTORMIDKR7T2PR632HSHLWA4G6HF5TCWSGMHDUU4LWBEFTAVPQQ\r\n",
			tor:    []string{"ADD_ONION NEW:ED25519-V3 Flags=V3Auth Port=80," + on + ":17646 ClientAuthV3=FGTORMIDKR7T2PR632HSHLWA4G6HF5TCWSGMHDUU4LWBEFTAVPQQ"},
			client: []string{"250-ServiceID=<id>", "250-PrivateKey=ED25519-V3:<key>", "250-ClientAuthV3=FGTORMIDKR7T2PR632HSHLWA4G6HF5TCWSGMHDUU4LWBEFTAVPQQ", "250 OK"}},
		{number: "62", profile: "onionshare", send: "ADD_ONION NEW:ED25519-V3 Flags=V3Auth Port=1,1 ClientAuthV3=FGTORMIDKR7T2PR632HSHLWA4G6HF5TCWSGMHDUU4LWBEFTAVPQQ\r\n",
			tor:    []string{"ADD_ONION NEW:ED25519-V3 Flags=V3Auth Port=1," + on + " ClientAuthV3=FGTORMIDKR7T2PR632HSHLWA4G6HF5TCWSGMHDUU4LWBEFTAVPQQ"},
			client: []string{"250-ServiceID=<id>", "250-PrivateKey=ED25519-V3:<key>", "250-ClientAuthV3=FGTORMIDKR7T2PR632HSHLWA4G6HF5TCWSGMHDUU4LWBEFTAVPQQ", "250 OK"}},
		{number: "63", profile: "onionshare", send: "ADD_ONION NEW:BEST Flags=BasicAuth Port=80,17600 ClientAuth=onionshare\r\n",
			tor: []string{"ADD_ONION NEW:BEST Flags=BasicAuth Port=80," + on + ":17600 ClientAuth=onionshare"}, client: []string{`512 Invalid 'Flags' argument: "BasicAuth"`}},
		{number: "64", profile: "onionshare", send: "GETINFO onions/current\r\nADD_ONION NEW:ED25519-V3 Port=80,17600\r\nGETINFO onions/current\r\n",
			tor:    []string{"GETINFO onions/current", "ADD_ONION NEW:ED25519-V3 Port=80," + on + ":17600", "GETINFO onions/current"},
			client: join([]string{"250-onions/current=", "250 OK"}, service, []string{"250-onions/current=<id>", "250 OK"})},
		{number: "65", profile: "onionshare", send: "GETCONF hiddenservicesinglehopmode\r\nGETCONF HiddenServiceSingleHopMode\r\n",
			tor: []string{"GETCONF hiddenservicesinglehopmode"}, client: []string{"250 HiddenServiceSingleHopMode=0", filtered}},
		{number: "66", profile: "onionshare", send: "SETEVENTS SIGNAL CONF_CHANGED STATUS_SERVER HS_DESC\r\nSETEVENTS SIGNAL CONF_CHANGED STATUS_SERVER HS_DESC BW\r\nSETEVENTS SIGNAL\r\nSETEVENTS HS_DESC\r\nSETEVENTS BW\r\n",
			tor: []string{"SETEVENTS HS_DESC", "SETEVENTS", "SETEVENTS HS_DESC"}, client: join(ok, refusal, ok, ok, refusal)},
		{number: "67", profile: "haveno", send: "AUTHCHALLENGE SAFECOOKIE <HEX>\r\nAUTHENTICATE <HEX>\r\nGETINFO version\r\n",
			tor:    []string{"AUTHCHALLENGE SAFECOOKIE <HEX>", "GETINFO version"},
			client: join([]string{"250 AUTHCHALLENGE SERVERHASH=<hex> SERVERNONCE=<hex>", "250 OK"}, version)},
		{number: "68", profile: "cwtch", send: "GETCONF DisableNetwork\r\nGETINFO network-liveness\r\n", tor: []string{"GETCONF DisableNetwork", "GETINFO network-liveness"},
			client: []string{"250 DisableNetwork=0", "250-network-liveness=up", "250 OK"}},
		{number: "69", profile: "cwtch", send: "ADD_ONION ED25519-V3:<KEY> Flags=DiscardPK,Detach Port=9878,[::]:15000\r\n",
			tor: []string{"ADD_ONION ED25519-V3:<KEY> Flags=DiscardPK,Detach Port=9878," + on + ":15000"}, client: nameless},
		{number: "70", profile: "ricochet", send: "GETINFO status/circuit-established status/bootstrap-phase net/listeners/socks\r\n",
			tor:    []string{"GETINFO status/circuit-established status/bootstrap-phase net/listeners/socks"},
			client: []string{"250-status/circuit-established=0", boot, "250-net/listeners/socks=", "250 OK"}},
		{number: "71", profile: "ricochet", send: "ADD_ONION NEW:ED25519-V3 Port=9878,127.0.0.1:11009\r\n", tor: []string{"ADD_ONION NEW:ED25519-V3 Port=9878," + on + ":11009"}, client: service},
		{number: "72", profile: "zeronet", send: "ADD_ONION NEW:ED25519-V3 port=15441\r\n", tor: []string{"ADD_ONION NEW:ED25519-V3 port=15441," + on + ":15441"}, client: service},
	})
}
