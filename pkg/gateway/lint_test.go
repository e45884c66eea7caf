// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"whonix-networking/pkg/cli"
)

// TestLint: what Tor does not see when it only checks, each with its place.
func TestLint(t *testing.T) {
	const conf = userTorrcDir + "/50_user.conf"
	for _, c := range []struct {
		name, text string
		want       []string // PLACE:LINE and a part of the text
		failed     bool
	}{
		{"nothing", "SocksPort 9050\nHTTPTunnelPort 127.0.0.1:9190\nDNSPort 9050\nLog notice syslog\nLog notice stdout\n", nil, false},
		{"one port twice", "SocksPort 9050\nHTTPTunnelPort 127.0.0.1:9050\n", []string{conf + ":2: HTTPTunnelPort 127.0.0.1:9050: there already, at " + conf + ":1"}, true},
		{"one address, two spellings", "SocksPort [::1]:9050\nSocksPort [0:0::1]:9050\n", []string{conf + ":2: "}, true},
		{"one socket twice", "SocksPort unix:/run/tor/socks WorldWritable\nSocksPort unix:/run/tor/socks\n", []string{conf + ":2: "}, true},
		{"auto and 0", "SocksPort auto\nSocksPort auto\nTransPort 0\nTransPort 0\n", nil, false},
		{"an address of another machine", "SocksPort 192.0.2.1:9050\n", []string{conf + ":1: SocksPort 192.0.2.1:9050: this machine does not have that address"}, true},
		{"a missing plugin", "ClientTransportPlugin obfs4 exec /usr/bin/obfs4proxy\n", []string{conf + ":1: ClientTransportPlugin: /usr/bin/obfs4proxy is no program"}, false},
		{"overridden", "DisableNetwork 1\nUseBridges 1\ndisablenetwork 0\nUseBridges 1\n", []string{conf + ":1: DisableNetwork 1: does not count, for " + conf + ":3 says 0"}, false},
		{"no directory of keys", "ClientOnionAuthDir /var/lib/tor/authdir\n", []string{conf + ":1: ClientOnionAuthDir /var/lib/tor/authdir: is not there"}, true},
	} {
		m := newConfig(t, c.text)
		v := &verifier{root: m.root, env: m.env("anon-verify"), bindable: func(a netip.Addr) bool { return a.String() != "192.0.2.1" }}
		l := walked(m.root, []string{defaultsPath, torrcPath}, brief)
		found := lint(m.root, l, v.bindable)
		if len(found) != len(c.want) || slices.ContainsFunc(found, func(f finding) bool { return f.Error }) != c.failed {
			t.Errorf("%s: %+v", c.name, found)
			continue
		}
		for i, f := range found {
			if !strings.HasPrefix(f.Place+": "+f.Text, c.want[i]) {
				t.Errorf("%s: %s: %s\nwant %s", c.name, f.Place, f.Text, c.want[i])
			}
		}
	}
}

// TestLintAuthDir: a directory of somebody else is none of Tor's.
func TestLintAuthDir(t *testing.T) {
	m := newConfig(t, "ClientOnionAuthDir /var/lib/tor/authdir\n")
	m.write("/var/lib/tor/authdir/x", "")
	l := walked(m.root, []string{defaultsPath, torrcPath}, brief)
	if found := lint(m.root, l, always); len(found) != 1 || !found[0].Error {
		t.Errorf("%+v", found)
	}
	if err := os.Chown(m.root.Path("/var/lib/tor/authdir"), 102, 105); err != nil {
		t.Fatal(err)
	}
	if found := lint(m.root, l, always); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

// TestVerifyFindings: in the report, in JSON, and in the exit code.
func TestVerifyFindings(t *testing.T) {
	m := newConfig(t, "SocksPort 1\nSocksPort 1\n")
	if err := m.anonVerify(verdict{"fine", 0}, nil); cli.Code(err) != 1 || !strings.Contains(m.stdout.String(), "Further Findings") || !strings.Contains(m.stdout.String(), "50_user.conf:2: error: SocksPort 1: there already") {
		t.Errorf("%v %s", err, m.stdout.String())
	}
	err := m.anonVerify(verdict{"fine\nvery", 0}, nil, "--json")
	var got struct {
		Valid    bool
		Files    []string
		Findings []finding
		Said     []string `json:"tor_output"`
	}
	if e := json.Unmarshal(m.stdout.Bytes(), &got); e != nil || cli.Code(err) != 1 || got.Valid || len(got.Files) != 4 || len(got.Findings) != 1 || len(got.Said) != 2 {
		t.Errorf("%v %v %+v %s", err, e, got, m.stdout.String())
	}
	m = newConfig(t, "SocksPort 1\n")
	if err := m.anonVerify(verdict{"fine", 0}, nil, "--json"); err != nil || !strings.Contains(m.stdout.String(), `"valid": true`) {
		t.Errorf("%v %s", err, m.stdout.String())
	}
}
