// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"os"
	"strings"
	"testing"

	"whonix-networking/pkg/whonix"
)

// TestPatchTinyproxy: Tor is the one upstream in the end, or it is an error
// and the file stays (defect 41).
func TestPatchTinyproxy(t *testing.T) {
	const block = tinyproxyBegin + "\n" + upstreamLine + "\n" + tinyproxyEnd + "\n"
	for in, want := range map[string]string{
		"Port 8082\n":                           "Port 8082\n" + block,
		"Port 8082":                             "Port 8082\n" + block,
		"":                                      block,
		"Port 8082\n" + block:                   "Port 8082\n" + block,
		block + block:                           block + tinyproxyBegin + "\n" + tinyproxyEnd + "\n",
		"# Upstream http 192.0.2.1:80\n":        "# Upstream http 192.0.2.1:80\n" + block,
		"  upstream  SOCKS5  127.0.0.1:9104\n":  "  upstream  SOCKS5  127.0.0.1:9104\n",
		"Logfile \"caf\xe9\"\n":                 "Logfile \"caf\xe9\"\n" + block,
		"Upstream socks5 127.0.0.1:91040\n":     "",
		block + "upstream http 192.0.2.1:80\n":  "",
		"Upstream none \".example\"\n" + block:  "",
		"\tUPSTREAM\tnone \"192.0.2.0/24\"\n":   "",
		"No Upstream \"example.org\"\n" + block: "",
		"ReversePath \"/\" \"http://x/\"\n":     "",
		upstreamLine + " \"example.org\"\n":     "",
		upstreamLine + "\x00\n":                 "",
	} {
		m := newMachine(t, whonix.GatewayMarker)
		m.write(tinyproxyConf, in)
		before := m.state()
		err := patchTinyproxy(m.root)
		switch {
		case want == "" && (err == nil || m.state() != before || !strings.Contains(err.Error(), tinyproxyConf+":")):
			t.Errorf("%q: %v, or the file was written", in, err)
		case want != "" && (err != nil || m.read(tinyproxyConf) != want):
			t.Errorf("%q: %v, %q", in, err, m.read(tinyproxyConf))
		case want == in && m.state() != before:
			t.Errorf("%q: written for nothing", in)
		}
	}
}

// TestPatchTinyproxyFails: no file, and one that is none, keep the proxy from
// being started.
func TestPatchTinyproxyFails(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	if err := patchTinyproxy(m.root); err == nil || !strings.Contains(err.Error(), tinyproxyConf) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.MkdirAll(m.root.Path(tinyproxyConf), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := patchTinyproxy(m.root); err == nil || !strings.Contains(err.Error(), tinyproxyConf) {
		t.Errorf("a directory: %v", err)
	}
}
